"""Trains a segmenter of any type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from roireg.segment.batches import Fold, TrainingSettings
from roireg.segment.examples import Examples
from roireg.segment.network import SegmentationNetwork
from roireg.segment.registry import SEGMENTERS
from roireg.training.loop import Checkpoint, EpochRecord


@dataclass(frozen=True, eq=False)
class SegmenterTraining:
    """What a segmenter is trained with, whatever its type.

    Attributes:
        rois: names of the ROIs, in the order of the network's channels.
        sources: training images by source (X-rays, DRRs); a batch has equally many of each.
        settings: recipe, length, size of a batch, augmentation, and loss.
        fold: determines random numbers.
        checkpoint: where the state is saved, and from which training is resumed.
        device: device to train on.
    """

    rois: Sequence[str]
    sources: Sequence[Examples]
    settings: TrainingSettings
    fold: Fold
    checkpoint: Checkpoint
    device: torch.device


def train_segmenter(
    entry: Mapping[str, Any], training: SegmenterTraining
) -> tuple[SegmentationNetwork, list[EpochRecord]]:
    """Train the segmenter that an entry of `segment` describes; the trained network and its learning curve.

    Raises:
        InputError: pretrained weights cannot be used.
    """
    trained: tuple[SegmentationNetwork, list[EpochRecord]]
    trained = import_module(SEGMENTERS[entry["type"]].training).train(entry, training)
    return trained
