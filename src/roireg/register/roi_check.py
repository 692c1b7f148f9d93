"""Checks a registration with a segmenter: compares ROIs segmented in the X-ray with labels projected at the pose."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.drr.rois import project_rois, roi_channels, roi_volumes
from roireg.errors import InputError
from roireg.metrics.overlap import dice_of_each
from roireg.register.judgement import rejudged
from roireg.register.registration import Registration
from roireg.segment.model import Segmenter, load_segmenter, roi_numbers


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


def roi_overlap(segmenter: Segmenter, patient: Patient, xray: Xray, pose: Float[Tensor, "4 4"]) -> float:
    """Mean Dice, over the ROIs that either shows, of a segmenter's map of the X-ray and the labels at a pose."""
    count = len(segmenter.rois)
    projected = roi_channels(project_rois(roi_volumes(patient, segmenter.rois), xray.camera, pose[None]), count)[0]
    found = roi_channels(roi_numbers(segmenter.probabilities(xray.image[None])), count)[0]
    return float(dice_of_each(projected, found).nanmean().nan_to_num())
