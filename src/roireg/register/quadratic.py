r"""The objective of Gauss-Newton and its quadratic model: weighted NCC of locally normalised images.

Images are first normalised locally: mean 0 and standard deviation about 1 in a Gaussian window $K$ around each pixel,

$$\hat m = \frac{m - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \quad \mu = K m, \quad \sigma^2 = K m^2 - \mu^2, \quad
\varepsilon = c^2 \, \overline{\sigma^2},$$

which keeps edges and removes slow variations that a DRR cannot show (scatter, beam hardening, the brightness of metal).
With $p$ the pixels' weights with sum 1, and $\tilde f, \tilde m$ standardised to weighted mean 0 and variance 1, the
objective is

$$\tfrac12 \sum p\, (\tilde m - \tilde f)^2 = 1 - \mathrm{NCC}.$$

Derivatives include both normalisations, so that differences explained by brightness or contrast do not move the pose.
Weights are constants. They are also applied in the windows $K$, so that pixels of weight 0 do not affect neighbours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.drr import render, render_with_jacobian
from roireg.register.levels import Level

# c: windows with less than about this fraction of the mean contrast are not amplified to standard deviation 1.
CONTRAST_FLOOR = 0.5
# Poses at which less than this fraction of the image is covered get a penalty.
MIN_FRACTION = 0.3
# Tukey's constant for 95 % efficiency at normal residuals, and the median of |x| for a standard normal x.
TUKEY = 4.685
MAD_OF_NORMAL = 0.6745
TINY = 1e-12
# Of a normalised image: 1, or 0 where it had no contrast at all.
LEAST_VARIANCE = 0.5

# An image as first channel, optionally followed by its derivatives with respect to the six parameters.
ImageAndJacobian = Float[Tensor, "B C H W"]


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixel weights at B poses, and the X-ray normalised with them.

    Attributes:
        weight: pixel weights; 0 for ignored pixels.
        fraction: the weights scaled to sum 1.
        mass: sum of weights in the window of each pixel.
        fixed: the normalised X-ray.
        coverage_penalty: penalty that is added to the objective if too little of the image is covered.
    """

    weight: Float[Tensor, "B 1 H W"]
    fraction: Float[Tensor, "B 1 H W"]
    mass: Float[Tensor, "B 1 H W"]
    fixed: Float[Tensor, "B 1 H W"]
    coverage_penalty: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The objective at B poses, and its gradient and Gauss-Newton Hessian with respect to the twist of `perturb`."""

    objective: Float[Tensor, "B"]
    gradient: Float[Tensor, "B P"]
    hessian: Float[Tensor, "B P P"]


def _mean(images: ImageAndJacobian, fraction: Tensor) -> Float[Tensor, "B C 1 1"]:
    """Weighted mean of each channel."""
    return (images.flatten(2) @ fraction.flatten(2).transpose(1, 2))[..., None]


def _window_sum(images: ImageAndJacobian, level: Level) -> ImageAndJacobian:
    rows, columns = level.windows
    return rows @ images @ columns


def _locally_normalised(
    rendered: ImageAndJacobian, weight: Tensor, fraction: Tensor, mass: Tensor, level: Level
) -> ImageAndJacobian:
    """The image normalised to mean 0 and SD about 1 in each window, with its derivatives; 0 where the weight is 0."""
    rendered = torch.where(weight > 0, rendered, 0)
    centred_image = rendered[:, :1] - _mean(rendered[:, :1], fraction)
    # Centring the image before squaring reduces rounding errors.
    rendered = torch.cat([centred_image, rendered[:, 1:]], dim=1)
    means, squares = (
        _window_sum(weight * torch.cat([rendered, rendered[:, :1] * rendered], dim=1), level) / mass
    ).split(rendered.shape[1], dim=1)
    # The first channel holds the variance, the others half of its derivatives.
    variances = squares - means[:, :1] * means
    variances = variances + CONTRAST_FLOOR**2 * _mean(variances, fraction)
    sd = variances[:, :1].clamp_min(TINY).sqrt()
    rendered = (rendered - means) / sd
    out = torch.cat([rendered[:, :1], rendered[:, 1:] - rendered[:, :1] * variances[:, 1:] / sd.square()], dim=1)
    return torch.where(weight > 0, out, 0)


def _standardised(rendered: ImageAndJacobian, fraction: Tensor) -> ImageAndJacobian:
    """The image standardised to weighted mean 0 and variance 1, with its derivatives."""
    rendered = rendered - _mean(rendered, fraction)
    variances = _mean(rendered[:, :1] * rendered, fraction)
    variance = variances[:, :1].clamp_min(TINY)
    out = torch.cat([rendered[:, :1], rendered[:, 1:] - rendered[:, :1] * variances[:, 1:] / variance], dim=1)
    return out / variance.sqrt()


def normalised(
    rendered: ImageAndJacobian, weight: Tensor, fraction: Tensor, mass: Tensor, level: Level
) -> ImageAndJacobian:
    """An image, with its derivatives, after local and global normalisation."""
    return _standardised(_locally_normalised(rendered, weight, fraction, mass, level), fraction)


def pixels_of(level: Level, weight: Float[Tensor, "B 1 H W"], coverage_penalty: Float[Tensor, "B"]) -> Pixels:
    """The pixels that have these weights, and how the X-ray looks on them."""
    fraction = weight / weight.sum(dim=(1, 2, 3), keepdim=True).clamp_min(TINY)
    mass = _window_sum(weight, level).clamp_min(TINY)
    fixed = normalised(level.fixed.expand_as(weight), weight, fraction, mass, level)
    return Pixels(weight, fraction, mass, fixed, coverage_penalty)


def pixels_at(level: Level, poses: Float[Tensor, "B 4 4"]) -> Pixels:
    """Pixel weights at the poses, and the X-ray normalised with them."""
    weight = level.weight(poses)
    coverage = weight.mean(dim=(1, 2, 3)) / level.measured_fraction
    coverage_penalty = (1 - coverage / MIN_FRACTION).clamp_min(0)
    return pixels_of(level, weight, coverage_penalty.double())


def without_outliers(level: Level, pixels: Pixels, rendered: ImageAndJacobian) -> Pixels:
    """Pixels with the weight of outliers reduced by Tukey's biweight: instruments, the collimator's edge."""
    image = normalised(rendered[:, :1], pixels.weight, pixels.fraction, pixels.mass, level)
    residual = image - pixels.fixed
    hidden = pixels.weight <= 0
    magnitude = residual.abs().masked_fill(hidden, torch.nan).flatten(1)
    sd = magnitude.nanmedian(dim=1).values / MAD_OF_NORMAL
    ratio = residual / (TUKEY * sd.clamp_min(TINY)[:, None, None, None])
    factor = (1 - ratio.square()).clamp_min(0).square()
    return pixels_of(level, pixels.weight * factor, pixels.coverage_penalty)


def no_contrast_penalty(image: ImageAndJacobian, pixels: Pixels) -> Float[Tensor, "B"]:
    """What is added where a normalised image is empty: without contrast nothing matches, and NCC is 0, not a half."""
    empty = [_mean(one[:, :1].square(), pixels.fraction)[:, 0, 0, 0] < LEAST_VARIANCE for one in (image, pixels.fixed)]
    return 0.5 * (empty[0].double() + empty[1].double())


def objective(level: Level, poses: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B"]:
    """The objective at B poses, each with its own pixel weights."""
    pixels = pixels_at(level, poses)
    moving = render(level.volume, level.camera, poses, level.step_mm)[:, None]
    image = normalised(moving, pixels.weight, pixels.fraction, pixels.mass, level)
    value = _mean((image - pixels.fixed).square(), pixels.fraction)[:, 0, 0, 0].double() / 2
    return value + no_contrast_penalty(image, pixels) + pixels.coverage_penalty


def drr_and_jacobian(level: Level, poses: Float[Tensor, "B 4 4"], center_mm: Float[Tensor, "3"]) -> ImageAndJacobian:
    """The DRR and its derivative with respect to the twist of `perturb` about `center_mm`.

    A shift of the patient along a ray does not change the ray's integral. The derivative of the renderer's sum along
    the ray is nevertheless not zero, because samples shift relative to voxels. This artefact is much larger than the
    true derivative with respect to depth and slows Gauss-Newton down, so it is removed.

    The image is on the level's device; poses and centre are on the CPU.
    """
    image, jacobian = render_with_jacobian(level.volume, level.camera, poses, center_mm, level.step_mm)
    points = level.camera.to(image.device).detector_points_mm.to(image)
    rays = points @ poses[:, None, :3, :3].to(image).transpose(-1, -2)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    source = (poses[:, None, None, :3, 3] - center_mm).to(image).expand_as(rays)
    along = (rays * jacobian[..., 3:]).sum(-1, keepdim=True)
    jacobian = jacobian - along * torch.cat([torch.linalg.cross(source, rays), rays], dim=-1)
    return torch.cat([image[:, None], jacobian.permute(0, 3, 1, 2)], dim=1)


def quadratic(level: Level, pixels: Pixels, rendered: ImageAndJacobian) -> Quadratic:
    """The objective with given pixel weights, and its Gauss-Newton model."""
    rendered = normalised(rendered, pixels.weight, pixels.fraction, pixels.mass, level)
    residual = (rendered[:, :1] - pixels.fixed).flatten(2)
    fraction = pixels.fraction.flatten(2)
    columns = rendered[:, 1:].flatten(2)
    weighted = columns * fraction
    empty = no_contrast_penalty(rendered, pixels)
    return Quadratic(
        objective=0.5 * (fraction * residual.square()).sum(dim=(1, 2)).double() + empty + pixels.coverage_penalty,
        gradient=(weighted @ residual.transpose(1, 2))[..., 0].double(),
        hessian=(weighted @ columns.transpose(1, 2)).double(),
    )
