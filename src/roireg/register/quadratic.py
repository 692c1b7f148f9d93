r"""The objective of Gauss-Newton and its quadratic model: NCC of locally normalised images, on the pixels that count.

Images are first normalised locally: mean 0 and standard deviation about 1 in a Gaussian window $K$ around each pixel,

$$\hat m = \frac{m - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \quad \mu = K m, \quad \sigma^2 = K m^2 - \mu^2, \quad
\varepsilon = c^2 \, \overline{\sigma^2},$$

which leaves edges and takes away what a DRR cannot show (scatter, beam hardening, the heights of metal). Then, with $p$
the pixels' weights, summing to 1, and $\tilde f, \tilde m$ of weighted mean 0 and variance 1, the objective is

$$\tfrac12 \sum p\, (\tilde m - \tilde f)^2 = 1 - \mathrm{NCC}.$$

Derivatives go through both normalisations: what brightness or contrast explains is no reason to move. Weights are
constants; those of neighbours outside the weighted pixels are 0 in $K$ too, so that hidden pixels do not leak.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.drr import render, render_with_jacobian
from roireg.register.levels import Level

# c: windows with less than about this share of the mean contrast are not brought up to the others'.
CONTRAST_FLOOR = 0.5
# Covering less of the image than this is charged.
MIN_SHARE = 0.3
# Tukey's constant: 95 % efficiency where residuals are normal; and the median of |x| of a standard normal x.
TUKEY = 4.685
MAD_OF_NORMAL = 0.6745
TINY = 1e-12

# An image, followed by its derivatives to the six parameters where they are wanted.
ImageAndJacobian = Float[Tensor, "B C H W"]


@dataclass(frozen=True, eq=False)
class Pixels:
    """Which pixels count at B poses, and how the X-ray looks on them.

    Attributes:
        weight: 0 for hidden pixels.
        share: weights that sum to 1.
        mass: sum of weights in the window of each pixel.
        fixed: the normalised X-ray.
        coverage_penalty: what the objective is charged for covering too little of the image.
    """

    weight: Float[Tensor, "B 1 H W"]
    share: Float[Tensor, "B 1 H W"]
    mass: Float[Tensor, "B 1 H W"]
    fixed: Float[Tensor, "B 1 H W"]
    coverage_penalty: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The objective at B poses, and its Gauss-Newton model in the twist of `perturb`."""

    objective: Float[Tensor, "B"]
    gradient: Float[Tensor, "B 6"]
    hessian: Float[Tensor, "B 6 6"]


def _mean(images: ImageAndJacobian, share: Tensor) -> Float[Tensor, "B C 1 1"]:
    """Weighted mean of each channel."""
    return (images.flatten(2) @ share.flatten(2).transpose(1, 2))[..., None]


def _window_sum(images: ImageAndJacobian, level: Level) -> ImageAndJacobian:
    rows, columns = level.windows
    return rows @ images @ columns


def _locally_normalised(
    rendered: ImageAndJacobian, weight: Tensor, share: Tensor, mass: Tensor, level: Level
) -> ImageAndJacobian:
    """Mean 0 and standard deviation about 1 in each window, and the derivatives of that; 0 where the weight is."""
    rendered = torch.where(weight > 0, rendered, 0)
    centred_image = rendered[:, :1] - _mean(rendered[:, :1], share)
    # The square of a centred image: less is lost to rounding.
    rendered = torch.cat([centred_image, rendered[:, 1:]], dim=1)
    means, squares = (
        _window_sum(weight * torch.cat([rendered, rendered[:, :1] * rendered], dim=1), level) / mass
    ).split(rendered.shape[1], dim=1)
    # Of the first channel the variance, of the others half its derivative.
    variances = squares - means[:, :1] * means
    variances = variances + CONTRAST_FLOOR**2 * _mean(variances, share)
    sd = variances[:, :1].clamp_min(TINY).sqrt()
    rendered = (rendered - means) / sd
    out = torch.cat([rendered[:, :1], rendered[:, 1:] - rendered[:, :1] * variances[:, 1:] / sd.square()], dim=1)
    return torch.where(weight > 0, out, 0)


def _standardised(rendered: ImageAndJacobian, share: Tensor) -> ImageAndJacobian:
    """Weighted mean 0 and variance 1, and the derivatives of that."""
    rendered = rendered - _mean(rendered, share)
    variances = _mean(rendered[:, :1] * rendered, share)
    variance = variances[:, :1].clamp_min(TINY)
    out = torch.cat([rendered[:, :1], rendered[:, 1:] - rendered[:, :1] * variances[:, 1:] / variance], dim=1)
    return out / variance.sqrt()


def normalised(
    rendered: ImageAndJacobian, weight: Tensor, share: Tensor, mass: Tensor, level: Level
) -> ImageAndJacobian:
    """The image after local and global normalisation, and its derivatives with respect to the six parameters."""
    return _standardised(_locally_normalised(rendered, weight, share, mass, level), share)


def _pixels(level: Level, weight: Float[Tensor, "B 1 H W"], coverage_penalty: Float[Tensor, "B"]) -> Pixels:
    share = weight / weight.sum(dim=(1, 2, 3), keepdim=True).clamp_min(TINY)
    mass = _window_sum(weight, level).clamp_min(TINY)
    fixed = normalised(level.fixed.expand_as(weight), weight, share, mass, level)
    return Pixels(weight, share, mass, fixed, coverage_penalty)


def pixels_at(level: Level, poses: Float[Tensor, "B 4 4"]) -> Pixels:
    """The pixels that count at the poses."""
    weight = level.weight(poses)
    coverage_penalty = (1 - weight.mean(dim=(1, 2, 3)) / MIN_SHARE).clamp_min(0)
    return _pixels(level, weight, coverage_penalty.double())


def without_outliers(level: Level, pixels: Pixels, rendered: ImageAndJacobian) -> Pixels:
    """The pixels less those that differ far more than most (Tukey's biweight): instruments, the collimator's edge."""
    image = normalised(rendered[:, :1], pixels.weight, pixels.share, pixels.mass, level)
    residual = image - pixels.fixed
    hidden = pixels.weight <= 0
    magnitude = residual.abs().masked_fill(hidden, torch.nan).flatten(1)
    sd = magnitude.nanmedian(dim=1).values / MAD_OF_NORMAL
    ratio = residual / (TUKEY * sd.clamp_min(TINY)[:, None, None, None])
    factor = (1 - ratio.square()).clamp_min(0).square()
    return _pixels(level, pixels.weight * factor, pixels.coverage_penalty)


def objective(level: Level, poses: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B"]:
    """The objective on the pixels that count at the poses."""
    pixels = pixels_at(level, poses)
    moving = render(level.volume, level.camera, poses, level.step_mm)[:, None]
    residual = normalised(moving, pixels.weight, pixels.share, pixels.mass, level) - pixels.fixed
    return _mean(residual.square(), pixels.share)[:, 0, 0, 0].double() / 2 + pixels.coverage_penalty


def drr_and_jacobian(level: Level, poses: Float[Tensor, "B 4 4"], center_mm: Float[Tensor, "3"]) -> ImageAndJacobian:
    """The DRR and its derivative to the twist of `perturb` about `center_mm`.

    The patient may move along a ray without changing its integral. The derivative of the renderer's sum has a part
    along the ray nevertheless, from the phase of the samples; it outweighs the true derivative to depth by far, and
    makes Gauss-Newton creep. So it is taken off.
    """
    image, jacobian = render_with_jacobian(level.volume, level.camera, poses, center_mm, level.step_mm)
    rays = level.camera.detector_points_mm.to(image) @ poses[:, None, :3, :3].to(image).transpose(-1, -2)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    source = (poses[:, None, None, :3, 3] - center_mm).to(image).expand_as(rays)
    along = (rays * jacobian[..., 3:]).sum(-1, keepdim=True)
    jacobian = jacobian - along * torch.cat([torch.linalg.cross(source, rays), rays], dim=-1)
    return torch.cat([image[:, None], jacobian.permute(0, 3, 1, 2)], dim=1)


def quadratic(level: Level, pixels: Pixels, rendered: ImageAndJacobian) -> Quadratic:
    """The objective on given pixels, and its model."""
    rendered = normalised(rendered, pixels.weight, pixels.share, pixels.mass, level)
    residual = (rendered[:, :1] - pixels.fixed).flatten(2)
    share = pixels.share.flatten(2)
    columns = rendered[:, 1:].flatten(2)
    weighted = columns * share
    return Quadratic(
        objective=0.5 * (share * residual.square()).sum(dim=(1, 2)).double() + pixels.coverage_penalty,
        gradient=(weighted @ residual.transpose(1, 2))[..., 0].double(),
        hessian=(weighted @ columns.transpose(1, 2)).double(),
    )
