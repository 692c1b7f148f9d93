"""Training images of a segmenter: X-rays with their masks, DRRs with projected CT labels, or both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from roireg.data.images import resized
from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.drr.rois import roi_map
from roireg.errors import InputError
from roireg.training.drrs import DrrPool


@dataclass(frozen=True, eq=False)
class Examples:
    """Images from one source (X-rays or DRRs), in [0, 1], and their ROI numbers."""

    images: Float[Tensor, "N H W"]
    rois: UInt8[Tensor, "N H W"]


def xray_examples(specimens: Sequence[tuple[Patient, Sequence[Xray]]], rois: Sequence[str]) -> Examples:
    """Those X-rays of the training specimens that have a mask.

    Raises:
        InputError: no X-ray has a mask.
    """
    found = [(patient, xray) for patient, xrays in specimens for xray in xrays if xray.labels is not None]
    if not found:
        raise InputError(
            "config: segment.*.train_on",
            "no X-ray of the training specimens has a segmentation (gt-seg)",
            "Train on [drrs]",
        )
    return Examples(
        torch.stack([xray.image for _, xray in found]),
        torch.stack([roi_map(xray.labels, patient.label_names, rois) for patient, xray in found]),
    )


def drr_examples(pools: Sequence[DrrPool]) -> Examples:
    """DRRs of the training specimens."""
    return Examples(torch.cat([pool.images for pool in pools]), torch.cat([pool.rois for pool in pools]))


def at_size(examples: Examples, size_px: int) -> Examples:
    """Examples resampled to a network's size; ROI numbers by nearest neighbour."""
    shape = (size_px, size_px)
    rois = interpolate(examples.rois[:, None], size=shape, mode="nearest-exact")[:, 0]
    return Examples(resized(examples.images[:, None], size_px)[:, 0], rois)


def drawn(
    sources: Sequence[Examples], size: int, rng: np.random.Generator
) -> tuple[Float[Tensor, "B H W"], UInt8[Tensor, "B H W"]]:
    """A random batch with equally many images from each source, however many images the sources have."""
    numbers = np.arange(size) % len(sources)
    picks = [(sources[number], int(rng.integers(len(sources[number].images)))) for number in numbers]
    return (
        torch.stack([source.images[index] for source, index in picks]),
        torch.stack([source.rois[index] for source, index in picks]),
    )
