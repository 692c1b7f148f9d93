"""A second opinion on a registration: do the bones that a network sees lie where the pose puts them?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from roireg.data.patient import Patient
from roireg.errors import InputError
from roireg.register.own_networks import roi_overlap
from roireg.register.patient import THRESHOLDS, Result
from roireg.register.verdict import judge, worst
from roireg.segment.model import load_segmenter


def check_rois(patient: Patient, result: Result, segmenter: str | Path, rois: Sequence[str]) -> Result:
    """The result with the overlap of ROIs as evidence, and verdicts that heed it.

    Args:
        patient: with labels of those names.
        result: of `register_xrays`.
        segmenter: a model of `roireg train segmenter`.
        rois: its ROIs, in its order.

    Raises:
        InputError: the file is no segmenter, knows other ROIs, or the patient lacks a label.
    """
    if not rois:
        raise InputError("--roi", "the segmenter's ROIs are not named", "Name them in the order of its training")
    network = load_segmenter(segmenter, rois, torch.device("cpu"))
    patient.label_mask(rois, "--roi")
    judged = []
    for one in result.xrays:
        evidence = replace(one.evidence, roi_dice=roi_overlap(network, patient, one.xray, one.pose))
        judged.append(replace(one, evidence=evidence, verdict=judge(evidence, THRESHOLDS)))
    return replace(result, xrays=tuple(judged), verdict=worst([one.verdict for one in judged]))
