"""Checks a registration with a segmenter: compares ROIs segmented in the X-ray with labels projected at the pose."""

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
    """The result with the overlap of ROIs added to the evidence, and verdicts that take it into account.

    Args:
        patient: a patient with labels of the ROIs.
        result: returned by `register_xrays`.
        segmenter: a model made by `roireg train segmenter`.
        rois: ROIs of the segmenter, in its order.

    Raises:
        InputError: the file is not a segmenter or has other ROIs, or the patient lacks a label.
    """
    if not rois:
        raise InputError("--roi", "the segmenter's ROIs are not given", "Give them in the order of its training")
    network = load_segmenter(segmenter, rois, torch.device("cpu"))
    patient.label_mask(rois, "--roi")
    evidence = [
        replace(one.evidence, roi_dice=roi_overlap(network, patient, one.xray, one.pose)) for one in result.xrays
    ]
    return replace(result, judged=rejudged(result.judged, evidence))
