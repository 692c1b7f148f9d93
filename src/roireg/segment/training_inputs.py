"""Builds the inputs of a segmenter's training from the config and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roireg.data.records import read_specimen
from roireg.segment.augment import SegmenterAugmentation
from roireg.segment.batches import Fold, SegmenterLoss, TrainingSettings
from roireg.segment.examples import Examples, drr_examples, xray_examples
from roireg.training.drrs import read_pool
from roireg.training.loop import Checkpoint, fingerprint
from roireg.training.recipe import Length, Recipe


def read_sources(xrays: Sequence[str], drrs: Sequence[str], rois: Sequence[str]) -> dict[str, Examples]:
    """Training images by source: `xrays` from files of specimens, `drrs` from files of DRRs; empty lists are left out.

    Raises:
        InputError: there are files of specimens but no X-ray has a mask.
    """
    sources = {}
    if xrays:
        sources["xrays"] = xray_examples([read_specimen(path) for path in xrays], rois)
    if drrs:
        sources["drrs"] = drr_examples([read_pool(path) for path in drrs])
    return sources


def training_settings(
    segmenter: dict[str, Any], recipe: dict[str, Any], augmentation: dict[str, Any]
) -> TrainingSettings:
    """Settings from the config: a segmenter's entry, the entry of its recipe, and the augmentation."""
    return TrainingSettings(
        recipe=Recipe(**recipe),
        length=Length(segmenter["epochs"], segmenter["batches_per_epoch"]),
        batch_size=segmenter["batch_size"],
        augment=SegmenterAugmentation(**{**augmentation, "gamma": tuple(augmentation["gamma"])}),
        # Only U-Nets have an entry `loss`; MedSAM's loss is fixed.
        loss=SegmenterLoss(**segmenter.get("loss", {})),
    )


def checkpoint_beside(
    model: str | Path,
    settings: dict[str, Any],
    code: str,
    fold: Fold,
    sources: Sequence[Examples],
) -> Checkpoint:
    """The checkpoint of a training, in the folder of its output, valid for these settings, code, fold and images."""
    identity = {"settings": settings, "code": code, "fold": [fold.seed, fold.segmenter, fold.left_out]}
    tensors = [tensor for source in sources for tensor in (source.images, source.rois)]
    return Checkpoint(Path(model).with_name("checkpoint.pt"), fingerprint(identity, tensors))
