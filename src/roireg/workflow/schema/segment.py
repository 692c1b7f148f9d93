"""`augmentation` and `segment`: segmenters, each trained once for each specimen on all OTHER specimens."""

from functools import reduce
from operator import or_
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Field

from roireg.settings import UNIQUE, Probability, Range, Sha256, Text
from roireg.workflow.schema.section import Entry, Section, section

Epochs = Annotated[int, Ge(1), Le(100_000)]
BatchesPerEpoch = Annotated[int, Ge(1), Le(100_000)]
BatchSize = Annotated[int, Ge(1), Le(1024)]
Channels = Annotated[int, Ge(1), Le(4096)]
TrainOn = Annotated[tuple[Literal["xrays", "drrs"], ...], MinLen(1), *UNIQUE]


class Augmentation(Section):
    probability: Probability = 0.5
    """Probability of each of the changes gamma, noise and boxes."""
    mirror_probability: Probability = 0.5
    """Probability of mirroring the patient, which exchanges the ROIs named "left x" and "right x"; 0 for ROIs without
    such names."""
    invert_probability: Probability = 0.05
    """Probability of inverting grey values."""
    rotation_deg: Annotated[float, Ge(0), Le(180)] = 6.0
    """Largest rotation in the image plane."""
    shift_fraction: Probability = 0.06
    """Largest shift along each axis, as a fraction of the image's size."""
    scale_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Largest change of scale along each axis, as a fraction."""
    gamma: Range = (0.5, 2.0)
    """Smallest and largest exponent of a gamma correction of images in [0, 1]."""
    noise_sd: Probability = 0.03
    """Largest standard deviation of Gaussian noise on images in [0, 1]."""
    boxes: Annotated[int, Ge(1), Le(100)] = 2
    """Largest number of occluding boxes."""
    box_fraction: Annotated[float, Gt(0), Le(1)] = 0.2
    """Largest side of an occluding box, as a fraction of the image's size."""


class Segmenter(Section):
    """Keys of all segmenters; `needs_boxes` is true for those that need a bounding box as prompt."""

    needs_boxes: ClassVar[bool] = False
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


class UNet(Segmenter):
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


class Checkpoint(Section):
    path: Text
    """Path of the file."""
    sha256: Sha256
    """Expected SHA-256 digest of the file."""


class MedSam(Segmenter):
    needs_boxes: ClassVar[bool] = True
    type: Literal["medsam"]
    """MedSAM, which segments the structure inside a given bounding box.

    Paper: section 3.1.
    """
    variant: Literal["vit_b", "tiny"] = "tiny"
    """Size of the network: vit_b is MedSAM's own, SAM's ViT-B at 1024x1024; tiny is a small one at 64x64, trained from
    random weights.

    Paper: MedSAM's design (section 3.1).
    """
    checkpoint: Checkpoint | None = None
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


# Models by the `type` of an entry; the rule that trains it is named train_{type}.
SEGMENTERS: dict[str, type[Segmenter]] = {"unet": UNet, "medsam": MedSam}
AnySegmenter = Annotated[reduce(or_, SEGMENTERS.values()), Field(discriminator="type")]


def segmenters() -> dict[str, Entry[Segmenter]]:
    """Segmenters of the default configuration."""
    return {
        "unet": Entry(UNet(label="U-Net", type="unet")),
        "medsam": Entry(MedSam(label="MedSAM (tiny)", type="medsam")),
    }
