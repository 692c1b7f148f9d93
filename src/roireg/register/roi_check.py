"""A second opinion on a registration: do the bones that a network sees lie where the pose puts them?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from roireg.data.patient import Patient
from roireg.errors import InputError
from roireg.register.judgement import rejudged
from roireg.register.own_networks import roi_overlap
from roireg.register.registration import Registration
from roireg.segment.model import load_segmenter


def check_rois(patient: Patient, result: Registration, segmenter: str | Path, rois: Sequence[str]) -> Registration:
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
    evidence = [
        replace(one.evidence, roi_dice=roi_overlap(network, patient, one.xray, one.pose)) for one in result.xrays
    ]
    return replace(result, judged=rejudged(result.judged, evidence))
