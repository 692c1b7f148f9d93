r"""How well an X-ray says where the patient is: the curvature of the objective where a registration ended.

The objective is a sum over pixels of squared residuals $r$ with derivatives $J$ to the six parameters. Residuals are
what a DRR does not show of an X-ray, and neighbouring pixels share them; so they are not taken for independent noise.
With $H = \sum p J J^\top$ and $g_b = \sum_{i \in b} p_i J_i r_i$ over square blocks $b$ of the image,

$$\Sigma = H^{-1} \Big(\sum_b g_b g_b^\top\Big) H^{-1},$$

the covariance of an M-estimator whose observations are blocks (Liang and Zeger 1986, cluster-robust). It knows
nothing of errors that all blocks share, such as the CT's resolution; `INFLATION` is what was measured of them
(docs/own-data.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.camera import Camera, project
from roireg.geometry.poses import perturb
from roireg.register.gauss_newton import view_shares
from roireg.register.levels import Level
from roireg.register.quadratic import (
    ImageAndJacobian,
    Pixels,
    drr_and_jacobian,
    normalised,
    pixels_at,
    without_outliers,
)

# A window of the local normalisation is about as large: within it, residuals go together.
BLOCK_PX = 16
# Of the largest eigenvalue: directions that the X-ray does not see at all stay uncertain, and do not divide by zero.
RIDGE = 1e-9
# Of standard deviations.
INFLATION = 2.0
# Of the information's diagonal: below it nothing in the image moves with a parameter.
LEAST_INFORMATION = 1e-20


@dataclass(frozen=True, eq=False)
class Fit:
    """How an X-ray and the DRR of a pose agree.

    Attributes:
        ncc: of the locally normalised images, on the pixels that count; 0 where one of them has no contrast.
        coverage: fraction of the image that counts, by coverage and excluded bones.
        residual: what is minimised at the pose: half the mean squared residual, outliers taken away.
        information: `(6, 6)` H, per rad and mm, rotations about the patient's centre, along the volume's axes.
        scatter: `(6, 6)` of the gradient.
    """

    ncc: float
    coverage: float
    residual: float
    information: Float[Tensor, "6 6"]
    scatter: Float[Tensor, "6 6"]


def fit_at(level: Level, rig_pose: Float[Tensor, "4 4"], center_mm: Float[Tensor, "3"]) -> Fit:
    """The fit of one X-ray at a pose `volume_from_rig` (mm)."""
    pose = (rig_pose @ level.rig_from_camera)[None]
    rendered = drr_and_jacobian(level, pose, center_mm)
    seen = pixels_at(level, pose)
    kept = without_outliers(level, seen, rendered)
    image = normalised(rendered[:, :1], seen.weight, seen.share, seen.mass, level)
    residual, columns = _residuals(level, kept, rendered)
    share = kept.share[0, 0]
    gradient = _block_sums(share * residual * columns)
    weighted = (share * columns).flatten(1)
    return Fit(
        ncc=float((seen.share * image * seen.fixed).sum()),
        coverage=float(seen.weight.mean()),
        residual=float(0.5 * (share * residual.square()).sum()),
        information=(weighted @ columns.flatten(1).T).double(),
        scatter=(gradient @ gradient.T).double(),
    )


def _residuals(
    level: Level, pixels: Pixels, rendered: ImageAndJacobian
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "6 H W"]]:
    own = normalised(rendered, pixels.weight, pixels.share, pixels.mass, level)
    return own[0, 0] - pixels.fixed[0, 0], own[0, 1:]


def _block_sums(values: Float[Tensor, "C H W"]) -> Float[Tensor, "C N"]:
    height, width = values.shape[1:]
    padded = torch.nn.functional.pad(values, (0, -width % BLOCK_PX, 0, -height % BLOCK_PX))
    tiles = padded.unfold(1, BLOCK_PX, BLOCK_PX).unfold(2, BLOCK_PX, BLOCK_PX)
    return tiles.sum(dim=(-1, -2)).flatten(1)


def covariance(fits: Sequence[Fit]) -> Float[Tensor, "6 6"]:
    """Of the twist (rad, mm; volume axes) at which several X-rays end together; a single one may be given too.

    Infinite where the X-rays say nothing of a parameter.
    """
    shares = view_shares([torch.tensor([fit.residual], dtype=torch.float64) for fit in fits])[:, 0]
    information = sum(share * fit.information for share, fit in zip(shares, fits, strict=True))
    scatter = sum(share**2 * fit.scatter for share, fit in zip(shares, fits, strict=True))
    if bool((information.diagonal() < LEAST_INFORMATION).any()):
        return torch.full((6, 6), math.inf, dtype=torch.float64)
    # Free of units: a radian and a millimetre are not alike.
    scale = information.diagonal().clamp_min(1e-30).sqrt()
    unit = information / scale[:, None] / scale + RIDGE * torch.eye(6, dtype=information.dtype)
    inverse = torch.linalg.inv(unit) / scale[:, None] / scale
    return INFLATION**2 * inverse @ scatter @ inverse


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a pose, along and about the axes of one X-ray's camera at the patient's centre."""

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
    """What a covariance means to one X-ray.

    Args:
        covariance: of the twist of `perturb` about `center_mm`, volume axes.
        pose: `volume_from_camera`, mm.
        camera: the detector.
        center_mm: volume frame.
        bone_points_mm: points whose projections are looked at, volume frame.

    Returns:
        Standard deviations; `projection_mm` is the root of the points' mean squared shift on the detector. All are
        infinite where the X-ray says nothing.
    """
    if not bool(covariance.isfinite().all()):
        return Spread(math.inf, math.inf, math.inf, (math.inf,) * 3, math.inf)
    turn = torch.block_diag(pose[:3, :3].T, pose[:3, :3].T)
    sd = (turn @ covariance @ turn.T).diagonal().clamp_min(0).sqrt()
    pixel_mm = covariance.new_tensor(camera.pixel_spacing_mm)

    def shadows(twist: Float[Tensor, "6"]) -> Float[Tensor, "M"]:
        return (project(bone_points_mm, camera, perturb(pose, twist, center_mm)) * pixel_mm).flatten()

    jacobian = torch.autograd.functional.jacobian(shadows, torch.zeros(6, dtype=torch.float64))
    shift = (jacobian @ covariance @ jacobian.T).diagonal().clamp_min(0)
    rotation = tuple(math.degrees(float(angle)) for angle in sd[:3])
    projection_mm = math.sqrt(2 * float(shift.mean())) if bool(shift.isfinite().all()) else math.inf
    return Spread(*sd[3:].tolist(), rotation, projection_mm)
