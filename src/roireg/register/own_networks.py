"""Trains networks from a user's own CTs, on DRRs; the only annotation needed are labels of the CT."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from roireg.data.patient import Patient
from roireg.data.volume import attenuation_settings
from roireg.data.xray import Xray, expected_pose
from roireg.encode.model import save_encoder
from roireg.encode.settings import checkpoint_beside as encoder_checkpoint
from roireg.encode.settings import encoder_settings, training_data
from roireg.encode.train import Run, train_encoder
from roireg.errors import InputError
from roireg.segment.batches import Fold
from roireg.segment.examples import drr_examples
from roireg.segment.model import load_segmenter
from roireg.segment.registry import SEGMENTERS
from roireg.segment.save import save_segmenter
from roireg.segment.train import SegmenterTraining, train_segmenter
from roireg.segment.training_inputs import checkpoint_beside as segmenter_checkpoint
from roireg.segment.training_inputs import training_settings
from roireg.training.drrs import DrrPool, SynthesisSettings, pool_of, settings_from_config, synthesize
from roireg.training.loop import EpochRecord

CPU = torch.device("cpu")


def synthesis_settings(config: dict[str, Any], drrs: int, rois: Sequence[str]) -> SynthesisSettings:
    """Settings of random DRRs from the config; without ROIs, random poses are not rejected."""
    settings = settings_from_config(config["synthesize"], attenuation_settings(config["prepare"]))
    return replace(settings, count=drrs, min_roi_fraction=settings.min_roi_fraction if rois else 0.0)


def sample_pool(
    patient: Patient,
    xray: Xray,
    rois: Sequence[str],
    settings: SynthesisSettings,
    seed: int,
    progress: Callable[[int, int], None],
) -> DrrPool:
    """Random DRRs of one patient, for the camera of an X-ray; `progress` gets the numbers of DRRs done and of all."""
    drrs = []
    for drr in synthesize(patient, xray.camera, expected_pose(patient, xray), rois, settings, None, seed):
        drrs.append(drr)
        progress(len(drrs), settings.count)
    return pool_of(drrs)


def train_own_encoder(
    path: str | Path,
    patient: Patient,
    xray: Xray,
    config: dict[str, Any],
    name: str,
    segmenter: str | Path | None,
    rois: Sequence[str],
    drrs: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> list[EpochRecord]:
    """Train a pose encoder of this patient and save it.

    Args:
        path: file of the model; an interrupted training is resumed from the checkpoint beside it.
        patient: the CT.
        xray: a representative X-ray: its camera and stated position are used, its image is not.
        config: configuration of the workflow.
        name: name of an entry of `encoders`.
        segmenter: a model made by `roireg train segmenter`, for an entry whose loss has a ROI term.
        rois: ROIs of that segmenter.
        drrs: number of DRRs.
        seed: random seed.
        progress: called with the number of DRRs done and of all DRRs.

    Raises:
        InputError: there is no such entry, or its loss needs a segmenter and none is given.
    """
    if name not in config["encoders"]:
        raise InputError(f"config: encoders.{name}", "is not defined", f"Defined: {', '.join(config['encoders'])}")
    entry = {**config["encoders"][name], "samples": "pool"}
    network = None
    if entry["loss"]["roi"] > 0:
        if segmenter is None:
            remedy = "Give one with --segmenter (roireg train segmenter), or choose another --encoder"
            raise InputError(f"config: encoders.{name}.loss.roi", "the loss needs a segmenter", remedy)
        network = load_segmenter(segmenter, rois, CPU)
    synthesis = synthesis_settings(config, drrs, rois)
    pool = sample_pool(patient, xray, rois, synthesis, seed, progress)
    settings = {
        "encoder": entry,
        "recipe": config["recipes"][entry["recipe"]],
        "augmentation": config["encoder_augmentation"],
    }
    run = Run(seed, name, patient.name)
    data = training_data(patient, xray, entry, synthesis, list(rois), pool, network, None, run, CPU)
    checkpoint = encoder_checkpoint(path, settings, "roireg", run, pool, data.validation)
    built = encoder_settings(**settings)
    encoder, history = train_encoder(data, built, run, checkpoint, CPU)
    save_encoder(path, encoder, built.network)
    checkpoint.path.unlink(missing_ok=True)
    return history


def train_own_segmenter(
    path: str | Path,
    patients: Sequence[Patient],
    xray: Xray,
    config: dict[str, Any],
    name: str,
    rois: Sequence[str],
    drrs: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> list[EpochRecord]:
    """Train a segmenter on DRRs of patients with labels, and save it.

    Args:
        path: file of the model; an interrupted training is resumed from the checkpoint beside it.
        patients: CTs with labels of the same names.
        xray: a representative X-ray: its camera and stated position are used, its image is not.
        config: configuration of the workflow.
        name: name of an entry of `segment` of a type that needs no boxes.
        rois: names of labels.
        drrs: number of DRRs of each patient.
        seed: random seed.
        progress: called with the number of DRRs done and of all DRRs of a patient.

    Raises:
        InputError: a patient lacks a label, or the entry does not exist or needs boxes.
    """
    entry = config["segment"].get(name)
    if entry is None or SEGMENTERS[entry["type"]].needs_boxes:
        known = [key for key, value in config["segment"].items() if not SEGMENTERS[value["type"]].needs_boxes]
        fault = "does not exist" if entry is None else "needs boxes, which an X-ray of your own does not have"
        raise InputError(f"config: segment.{name}", fault, f"Use one of: {', '.join(known)}")
    for patient in patients:
        patient.label_mask(rois, f"{patient.name}: --roi")
    synthesis = synthesis_settings(config, drrs, rois)
    pools = [sample_pool(patient, xray, rois, synthesis, seed, progress) for patient in patients]
    sources = [drr_examples(pools)]
    settings = {
        "segmenter": entry,
        "recipe": config["recipes"][entry["recipe"]],
        "augmentation": config["augmentation"],
    }
    fold = Fold(seed, name, "none")
    checkpoint = segmenter_checkpoint(path, settings, "roireg", fold, sources)
    training = SegmenterTraining(list(rois), sources, training_settings(**settings), fold, checkpoint, CPU)
    network, history = train_segmenter(entry, training)
    save_segmenter(path, entry, list(rois), network)
    checkpoint.path.unlink(missing_ok=True)
    return history
