"""`augmentation` and `segment`: segmenters, each trained once per specimen on all OTHER specimens."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Field

from roireg.settings import UNIQUE, Probability, Range, Sha256, Text
from roireg.workflow.schema.section import Entry, Section, any_of, section

Epochs = Annotated[int, Ge(1), Le(100_000)]
BatchesPerEpoch = Annotated[int, Ge(1), Le(100_000)]
BatchSize = Annotated[int, Ge(1), Le(1024)]
Channels = Annotated[int, Ge(1), Le(4096)]
TrainOn = Annotated[tuple[Literal["xrays", "drrs"], ...], MinLen(1), *UNIQUE]


class Augmentation(Section):
    probability: Probability = 0.5
    """Probability of each of gamma, noise and boxes."""
    mirror_probability: Probability = 0.5
    """Probability of a mirrored patient, whose ROIs named "left x" and "right x" change places; 0 for ROIs without left
    and right."""
    invert_probability: Probability = 0.05
    """Probability of exchanging bright and dark."""
    rotation_deg: Annotated[float, Ge(0), Le(180)] = 6.0
    """Largest rotation in the image plane."""
    shift_fraction: Probability = 0.06
    """Largest shift along each axis, as a fraction of the image's size."""
    scale_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Largest change of size along each axis, as a fraction."""
    gamma: Range = (0.5, 2.0)
    """Least and largest exponent on images in [0, 1]."""
    noise_sd: Probability = 0.03
    """Largest standard deviation of Gaussian noise on images in [0, 1]."""
    boxes: Annotated[int, Ge(1), Le(100)] = 2
    """Largest number of occluding boxes."""
    box_fraction: Annotated[float, Gt(0), Le(1)] = 0.2
    """Largest side of such a box, as a fraction of the image's size."""


class Segmenter(Section):
    """Keys of all segmenters; `needs_boxes` says whether they segment what a box surrounds."""

    needs_boxes: ClassVar[bool] = False
    label: Text
    """The segmenter's name in tables and figures."""
    train_on: TrainOn = ("xrays", "drrs")
    """Images to learn from, of all specimens but the one left out: xrays (annotated), drrs, or both, as the demo has
    few X-rays.

    Paper: X-rays (section 2.1).
    """
    batches_per_epoch: BatchesPerEpoch = 10
    """Batches of an epoch, drawn with replacement; schedules step once an epoch.

    Paper: not given.
    """
    batch_size: BatchSize = 8
    """Images of a batch.

    Paper: not given.
    """


class UNetLoss(Section):
    squared_dice: bool = False
    """Whether masks and probabilities are squared in the denominators of the Dice.

    Paper: not given; Grupp et al. 2020 true.
    """
    cross_entropy: Annotated[float, Ge(0), Le(1000)] = 1.0
    """Weight of the cross-entropy beside 1 - Dice.

    Paper: not given; Grupp et al. 2020 0.
    """


class UNet(Segmenter):
    type: Literal["unet"]
    """A U-Net of six levels.

    Paper: section 3.1.
    """
    image_size_px: Annotated[int, Ge(64), Le(2048), Field(multiple_of=32)] = 64
    """Height and width of the images that the network sees, a multiple of 32.

    Paper: not given.
    """
    widths: tuple[Channels, Channels, Channels, Channels, Channels, Channels] = (8, 16, 32, 64, 96, 128)
    """Channels of the six levels, the finest first.

    Paper: not given.
    """
    loss: UNetLoss = section(UNetLoss)
    """What is minimised: 1 - Dice, plus the cross-entropy."""
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
    """A file on this machine."""
    sha256: Sha256
    """SHA-256 digest of the file."""


class MedSam(Segmenter):
    needs_boxes: ClassVar[bool] = True
    type: Literal["medsam"]
    """MedSAM, which segments what a box surrounds.

    Paper: section 3.1.
    """
    variant: Literal["vit_b", "tiny"] = "tiny"
    """vit_b is the real one, SAM's ViT-B at 1024x1024; tiny is a small one at 64x64, trained from scratch.

    Paper: MedSAM's design (section 3.1).
    """
    checkpoint: Checkpoint | None = None
    """Pretrained weights of the variant, {path: medsam_vit_b.pth, sha256: ...}; null for random ones.

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


# By the `type` of an entry; the rule that trains it is named train_{type}.
SEGMENTERS: dict[str, type[Segmenter]] = {"unet": UNet, "medsam": MedSam}
AnySegmenter = any_of(SEGMENTERS.values())


def segmenters() -> dict[str, Entry[Segmenter]]:
    """Segmenters of the default configuration."""
    return {
        "unet": Entry(UNet(label="U-Net", type="unet")),
        "medsam": Entry(MedSam(label="MedSAM (tiny)", type="medsam")),
    }
