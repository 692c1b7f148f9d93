"""Entries of `segment` in the configuration: the settings of each type of segmenter."""

from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import Field

from roireg.settings import UNIQUE, Section, Sha256, Text, section

Epochs = Annotated[int, Ge(1), Le(100_000)]
BatchesPerEpoch = Annotated[int, Ge(1), Le(100_000)]
BatchSize = Annotated[int, Ge(1), Le(1024)]
Channels = Annotated[int, Ge(1), Le(4096)]
TrainOn = Annotated[tuple[Literal["xrays", "drrs"], ...], MinLen(1), *UNIQUE]


class SegmenterEntry(Section):
    """Keys of all segmenters; a type of segmenter adds `type` and `epochs`, and its own."""

    label: Text
    """Name of the segmenter in tables and figures."""
    train_on: TrainOn = ("xrays", "drrs")
    """Training images, of all specimens but the one left out: annotated xrays, drrs, or both (the demo has few X-rays).

    Paper: X-rays (section 2.1).
    """
    batches_per_epoch: BatchesPerEpoch = 10
    """Number of batches of an epoch; images are drawn with replacement.

    Paper: not given.
    """
    batch_size: BatchSize = 8
    """Number of images of a batch.

    Paper: not given.
    """


class UNetLoss(Section):
    squared_dice: bool = False
    """Whether masks and probabilities are squared in Dice's denominator.

    Paper: not given; Grupp et al. 2020 true.
    """
    cross_entropy: Annotated[float, Ge(0), Le(1000)] = 1.0
    """Weight of the cross-entropy; the term 1 - Dice has weight 1.

    Paper: not given; Grupp et al. 2020 0.
    """


class UNetEntry(SegmenterEntry):
    type: Literal["unet"]
    """A U-Net with six levels.

    Paper: section 3.1.
    """
    image_size_px: Annotated[int, Ge(64), Le(2048), Field(multiple_of=32)] = 64
    """Height and width to which the network's input images are resampled; a multiple of 32.

    Paper: not given.
    """
    widths: tuple[Channels, Channels, Channels, Channels, Channels, Channels] = (8, 16, 32, 64, 96, 128)
    """Number of channels of the six levels, from the finest to the coarsest.

    Paper: not given.
    """
    loss: UNetLoss = section(UNetLoss)
    """The loss: 1 - Dice, plus weighted cross-entropy."""
    recipe: str = "sgd"
    """A name of `recipes`.

    Paper: Adam at 1e-1 (section 3.1).
    """
    epochs: Epochs = 100
    """Number of epochs.

    Paper: 500 (section 3.1).
    """


class PretrainedWeights(Section):
    path: Text
    """Path of the file."""
    sha256: Sha256
    """Expected SHA-256 digest of the file."""


class MedSamEntry(SegmenterEntry):
    type: Literal["medsam"]
    """MedSAM, which segments the structure inside a given bounding box.

    Paper: section 3.1.
    """
    variant: Literal["vit_b", "tiny"] = "tiny"
    """Size of the network: vit_b is MedSAM's own, SAM's ViT-B at 1024x1024; tiny is a small one at 64x64, trained from
    random weights.

    Paper: MedSAM's design (section 3.1).
    """
    checkpoint: PretrainedWeights | None = None
    """Pretrained weights of the variant, such as {path: medsam_vit_b.pth, sha256: ...}; null for random weights.

    Paper: not given.
    """
    box_jitter_px: Annotated[float, Ge(0), Le(512)] = 10.0
    """Largest random shift of the boxes in training, in pixels of MedSAM's grid, 1024 across the image.

    Paper: 10 (section 3.1).
    """
    recipe: str = "adamw_from_scratch"
    """A name of `recipes`.

    Paper: AdamW at 1e-3 (section 3.1).
    """
    epochs: Epochs = 50
    """Number of epochs.

    Paper: 400 (section 3.1).
    """
