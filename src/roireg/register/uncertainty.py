r"""Predicted standard deviations of a pose, from the curvature of the objective at the result of a registration.

The objective is a sum over pixels of squared residuals $r$ with derivatives $J$ with respect to the six parameters.
Residuals of neighbouring pixels are correlated, because they show structures of the X-ray that the DRR lacks. They are
therefore not treated as independent noise. With $H = \sum p J J^\top$ and $g_b = \sum_{i \in b} p_i J_i r_i$ over
square blocks $b$ of the image,

$$\Sigma = H^{-1} \Big(\sum_b g_b g_b^\top\Big) H^{-1},$$

is the covariance of an M-estimator whose independent observations are blocks (cluster-robust; Liang and Zeger 1986).

Errors common to all blocks come from what the DRR does not model: the beam hardens, scatter lifts dark parts, the CT is
blurred, bone attenuates more at the X-ray's energies than at the CT's. Each, at the size that is common in practice,
changes a locally normalised image by some $n_k$, and the pose of least squares by $H^{-1} g_k$ with
$g_k = \sum p J n_k$; so $\sum_k g_k g_k^\top$ is added to the sum over blocks. The factor `INFLATION` on standard
deviations, which was measured, accounts for the rest (docs/own-data.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.volume import Volume
from roireg.drr import render
from roireg.geometry.camera import Camera, project
from roireg.geometry.poses import perturb
from roireg.register.gauss_newton import view_weights
from roireg.register.levels import Level, gaussian_band
from roireg.register.quadratic import (
    ImageAndJacobian,
    Pixels,
    drr_and_jacobian,
    normalised,
    pixels_at,
    without_outliers,
)

# Block side, about the normalisation window, within which residuals correlate.
BLOCK_PX = 16
# What the DRR does not model, as changes of the X-ray (log attenuation from 0 to 1): the share by which thick parts are
# too faint; scatter relative to the primary, and its reach as a fraction of the image's longer side; the attenuation of
# the whole range, by which intensities are got; and the blur.
HARDENING = 0.1
SCATTER, SCATTER_REACH = 0.3, 0.12
RANGE = 4.0
BLUR_PX = 0.7
# Of the DRR: the share by which bone, which is denser than the median of tissue by a factor, attenuates more.
BONE, DENSER_THAN_TISSUE = 0.2, 1.2
# Regularisation relative to the scaled information, so that undetermined directions get a large but finite variance.
RIDGE = 1e-9
# Measured factor on predicted standard deviations.
INFLATION = 2.0
# Of the information's diagonal: below it nothing in the image moves with a parameter.
LEAST_INFORMATION = 1e-20


@dataclass(frozen=True, eq=False)
class Fit:
    """Agreement of an X-ray with the DRR at a pose, and the information it has about the pose.

    Attributes:
        ncc: weighted NCC of the locally normalised images; 0 if one of them has no contrast.
        coverage: mean pixel weight: the fraction of the measured pixels that is covered by the CT and not excluded.
        residual: half the weighted mean squared residual, with outliers down-weighted.
        information: the matrix H, per rad and mm, for rotations about the patient's centre, along the volume's axes.
        scatter: the sum of $g_b g_b^\\top$ over blocks.
        unmodelled: the sum of $g_k g_k^\\top$ over what the DRR does not model.
    """

    ncc: float
    coverage: float
    residual: float
    information: Float[Tensor, "6 6"]
    scatter: Float[Tensor, "6 6"]
    unmodelled: Float[Tensor, "6 6"]


def fit_at(level: Level, rig_pose: Float[Tensor, "4 4"], center_mm: Float[Tensor, "3"]) -> Fit:
    """Agreement and information of one X-ray at a pose `volume_from_rig` (mm)."""
    pose = (rig_pose @ level.rig_from_camera)[None]
    rendered = drr_and_jacobian(level, pose, center_mm)
    weighted_pixels = pixels_at(level, pose)
    kept = without_outliers(level, weighted_pixels, rendered)
    image = normalised(rendered[:, :1], weighted_pixels.weight, weighted_pixels.fraction, weighted_pixels.mass, level)
    residual, columns = _residuals(level, kept, rendered)
    fraction = kept.fraction[0, 0]
    weighted = (fraction * columns).flatten(1)
    gradient = _block_sums(fraction * residual * columns)
    common = weighted @ _unmodelled(level, kept, rendered[:, :1], pose)
    return Fit(
        ncc=float((weighted_pixels.fraction * image * weighted_pixels.fixed).sum()),
        coverage=float(weighted_pixels.weight.mean()) / level.measured_fraction,
        residual=float(0.5 * (fraction * residual.square()).sum()),
        information=(weighted @ columns.flatten(1).T).double(),
        scatter=(gradient @ gradient.T).double(),
        unmodelled=(common @ common.T).double(),
    )


def _residuals(
    level: Level, pixels: Pixels, rendered: ImageAndJacobian
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "6 H W"]]:
    own = normalised(rendered, pixels.weight, pixels.fraction, pixels.mass, level)
    return own[0, 0] - pixels.fixed[0, 0], own[0, 1:]


def changed_xrays(image: Float[Tensor, "1 1 H W"]) -> list[Float[Tensor, "1 1 H W"]]:
    """The X-ray (log attenuation from 0 to 1) with each effect once more that a DRR lacks."""
    intensity = torch.exp(-RANGE * image)
    reach_px = SCATTER_REACH * max(image.shape[-2:])
    scattered = -torch.log(intensity + SCATTER * _blurred(intensity, reach_px)) / RANGE
    return [image - HARDENING * image.square(), scattered, _blurred(image, BLUR_PX)]


def _unmodelled(
    level: Level, pixels: Pixels, moving: Float[Tensor, "1 1 H W"], pose: Float[Tensor, "1 4 4"]
) -> Float[Tensor, "N K"]:
    """By how much the difference of the normalised images changes by each effect, a column for each."""
    fixed = level.fixed[None, None]
    bone = render(bone_excess(level.volume), level.camera, pose, level.step_mm)[:, None].to(moving)
    images = torch.cat([*changed_xrays(fixed), moving + BONE * bone, moving])
    weight, fraction, mass = (
        one.expand(len(images), -1, -1, -1) for one in (pixels.weight, pixels.fraction, pixels.mass)
    )
    *xrays, denser, plain = normalised(images, weight, fraction, mass, level)
    return torch.stack([(one - pixels.fixed[0]).flatten() for one in xrays] + [(plain - denser).flatten()], dim=1)


def bone_excess(volume: Volume) -> Volume:
    """The attenuation beyond that of tissue (cached)."""
    if "bone excess" not in volume.derived:
        values = volume.values
        tissue = values[values > 0]
        limit = DENSER_THAN_TISSUE * tissue.median() if len(tissue) else values.max()
        volume.derived["bone excess"] = volume.with_values((values - limit).clamp_min(0))
    return volume.derived["bone excess"]


def _blurred(image: Float[Tensor, "1 1 H W"], sigma_px: float) -> Float[Tensor, "1 1 H W"]:
    """The image after a Gaussian filter; beyond its borders nothing counts."""
    rows, columns = (gaussian_band(n, sigma_px, image) for n in image.shape[-2:])
    return (rows @ image @ columns) / (rows @ torch.ones_like(image) @ columns)


def _block_sums(values: Float[Tensor, "C H W"]) -> Float[Tensor, "C N"]:
    height, width = values.shape[1:]
    padded = torch.nn.functional.pad(values, (0, -width % BLOCK_PX, 0, -height % BLOCK_PX))
    tiles = padded.unfold(1, BLOCK_PX, BLOCK_PX).unfold(2, BLOCK_PX, BLOCK_PX)
    return tiles.sum(dim=(-1, -2)).flatten(1)


def covariance(fits: Sequence[Fit]) -> Float[Tensor, "6 6"]:
    """Covariance of the twist (rad, mm; volume axes) from one X-ray, or from several registered jointly.

    Infinite if they do not determine it.
    """
    # An effect that draws one view to one side may draw another to any: they are not added up with their signs.
    return _sandwich(fits, [fit.scatter + fit.unmodelled for fit in fits])


def residual_covariance(fits: Sequence[Fit]) -> Float[Tensor, "6 6"]:
    """The part of `covariance` that residuals show, without what acts on the whole image alike.

    The verdict looks at this part, on which its thresholds were chosen.
    """
    return _sandwich(fits, [fit.scatter for fit in fits])


def _sandwich(fits: Sequence[Fit], middles: Sequence[Float[Tensor, "6 6"]]) -> Float[Tensor, "6 6"]:
    weights = view_weights([torch.tensor([fit.residual], dtype=torch.float64) for fit in fits])[:, 0]
    information = sum(weight * fit.information for weight, fit in zip(weights, fits, strict=True))
    middle = sum(weight**2 * one for weight, one in zip(weights, middles, strict=True))
    if bool((information.diagonal() < LEAST_INFORMATION).any()):
        return torch.full((6, 6), math.inf, dtype=torch.float64)
    # Scale to unit diagonal, since rotations and translations have different units.
    scale = information.diagonal().clamp_min(1e-30).sqrt()
    unit = information / scale[:, None] / scale + RIDGE * torch.eye(6, dtype=information.dtype)
    inverse = torch.linalg.inv(unit) / scale[:, None] / scale
    return INFLATION**2 * inverse @ middle @ inverse


@dataclass(frozen=True)
class Spread:
    """Predicted standard deviations of a pose, in one X-ray's camera axes at the patient's centre.

    Attributes:
        across_mm, down_mm, depth_mm: of the translation along the camera's x, y and z (central ray) axes.
        rotation_deg: of the rotation about these axes.
        projection_mm: of the position of projected bone on the detector.
    """

    across_mm: float
    down_mm: float
    depth_mm: float
    rotation_deg: tuple[float, float, float]
    projection_mm: float


def spread(
    covariance: Float[Tensor, "6 6"],
    pose: Float[Tensor, "4 4"],
    camera: Camera,
    center_mm: Float[Tensor, "3"],
    bone_points_mm: Float[Tensor, "N 3"],
) -> Spread:
    """Convert a covariance to standard deviations in the camera axes of one X-ray.

    Args:
        covariance: covariance of the twist of `perturb` about `center_mm`, volume axes.
        pose: `volume_from_camera`, mm.
        camera: camera of the X-ray.
        center_mm: centre of rotation, volume frame.
        bone_points_mm: points whose projections give `projection_mm`, volume frame.

    Returns:
        Standard deviations; `projection_mm` is the root mean square shift of the points on the detector. All are
        infinite if the X-ray does not determine the pose.
    """
    if not bool(covariance.isfinite().all()):
        return Spread(math.inf, math.inf, math.inf, (math.inf,) * 3, math.inf)
    camera_from_volume = torch.block_diag(pose[:3, :3].T, pose[:3, :3].T)
    sd = (camera_from_volume @ covariance @ camera_from_volume.T).diagonal().clamp_min(0).sqrt()
    pixel_mm = covariance.new_tensor(camera.pixel_spacing_mm)

    def projections(twist: Float[Tensor, "6"]) -> Float[Tensor, "M"]:
        return (project(bone_points_mm, camera, perturb(pose, twist, center_mm)) * pixel_mm).flatten()

    jacobian = torch.autograd.functional.jacobian(projections, torch.zeros(6, dtype=torch.float64))
    shift = (jacobian @ covariance @ jacobian.T).diagonal().clamp_min(0)
    across_mm, down_mm, depth_mm = sd[3:].tolist()
    about_x, about_y, about_z = (math.degrees(angle) for angle in sd[:3].tolist())
    projection_mm = math.sqrt(2 * float(shift.mean())) if bool(shift.isfinite().all()) else math.inf
    return Spread(across_mm, down_mm, depth_mm, (about_x, about_y, about_z), projection_mm)
