"""Smooth, invertible deformations of a patient, and the resampling of CT and labels through them.

A deformation is a backward map from the specimen to the source patient, both LPS in mm:

$$\\varphi(x) = c + D\\,(x + u(x) - c)$$

with D a diagonal matrix (scales, and -1 for a left-right mirror) and u the exponential of a smooth stationary velocity
field, so that $x \\mapsto x + u(x)$ is a diffeomorphism.
"""

from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

FIELD_SPACING_MM = 8.0
SQUARINGS = 6
MIN_JACOBIAN = 0.1
INVERSION_ROUNDS = 100
INVERSION_TOLERANCE_MM = 1e-6


@dataclass(frozen=True, eq=False)
class Warp:
    """A deformation, given by the backward map phi of the module's docstring.

    Attributes:
        displacement_mm: `(z, y, x, 3)`, u at the nodes of a grid with components along x, y, z; trilinear in between.
        origin_mm: position of the first node.
        center_mm: c.
        scale: `(3,)` diagonal of D.
    """

    displacement_mm: np.ndarray
    origin_mm: np.ndarray
    center_mm: np.ndarray
    scale: np.ndarray

    def displacement_at(self, points_mm: np.ndarray) -> np.ndarray:
        """u at points `(N, 3)` of the specimen."""
        return sample_field(self.displacement_mm, (points_mm - self.origin_mm) / FIELD_SPACING_MM)

    def source_from_specimen(self, points_mm: np.ndarray) -> np.ndarray:
        """The backward map of points `(N, 3)`."""
        return self.center_mm + self.scale * (points_mm + self.displacement_at(points_mm) - self.center_mm)

    def specimen_from_source(self, points_mm: np.ndarray) -> np.ndarray:
        """The forward map of points `(N, 3)`, by fixed-point iteration.

        Raises:
            ValueError: the iteration does not converge.
        """
        target = self.center_mm + (points_mm - self.center_mm) / self.scale
        x = target
        for _ in range(INVERSION_ROUNDS):
            x, before = target - self.displacement_at(x), x
            if np.abs(x - before).max() < INVERSION_TOLERANCE_MM:
                return x
        raise ValueError("the inversion of a deformation did not converge")


def sample_field(field: np.ndarray, nodes_xyz: np.ndarray) -> np.ndarray:
    """Trilinear values `(N, 3)` of a `(z, y, x, 3)` field at node coordinates `(x, y, z)`, clamped at its border."""
    zyx = nodes_xyz[:, ::-1].T
    return np.stack([ndimage.map_coordinates(field[..., k], zyx, order=1, mode="nearest") for k in range(3)], axis=-1)


def exponential(velocity_mm: np.ndarray) -> np.ndarray:
    """Displacement by the flow of a stationary velocity field `(z, y, x, 3)` in unit time, by scaling and squaring."""
    shape = velocity_mm.shape[:3]
    nodes = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")[::-1], axis=-1).reshape(-1, 3)
    displacement = velocity_mm / 2**SQUARINGS
    for _ in range(SQUARINGS):
        moved = nodes + displacement.reshape(-1, 3) / FIELD_SPACING_MM
        displacement = displacement + sample_field(displacement, moved).reshape(velocity_mm.shape)
    return displacement


def jacobian_determinant(displacement_mm: np.ndarray) -> np.ndarray:
    """Determinant `(z, y, x)` of the derivative of x + u(x)."""
    gradient = np.stack(np.gradient(displacement_mm, FIELD_SPACING_MM, axis=(2, 1, 0)), axis=-1)
    return np.linalg.det(gradient + np.eye(3))


def random_warp(
    rng: np.random.Generator,
    lower_mm: np.ndarray,
    upper_mm: np.ndarray,
    displacement_sd_mm: float,
    smoothness_mm: float,
    scale_range: float,
    mirror: bool,
) -> Warp:
    """A random deformation of the box between two corners (source patient, LPS).

    Args:
        rng: random generator.
        lower_mm, upper_mm: corners of the box; c is its centre.
        displacement_sd_mm: standard deviation of each component of the velocity.
        smoothness_mm: sigma of the Gaussian that smooths the velocity.
        scale_range: the size along each axis is scaled by a factor in `1 +- scale_range`.
        mirror: whether left and right are exchanged.

    Raises:
        ValueError: the deformation is too steep to be invertible.
    """
    center = (lower_mm + upper_mm) / 2
    half = (upper_mm - lower_mm) / 2 * (1 + scale_range)
    nodes = np.ceil(2 * half / FIELD_SPACING_MM).astype(int) + 1
    velocity = np.empty((*nodes[::-1], 3))
    for k in range(3):
        noise = ndimage.gaussian_filter(rng.standard_normal(nodes[::-1]), smoothness_mm / FIELD_SPACING_MM)
        velocity[..., k] = (noise - noise.mean()) * (displacement_sd_mm / noise.std())
    displacement = exponential(velocity)
    if jacobian_determinant(displacement).min() < MIN_JACOBIAN:
        raise ValueError("the deformation folds: lower displacement_sd_mm or raise smoothness_mm")
    scale = 1 / rng.uniform(1 - scale_range, 1 + scale_range, 3)
    scale[0] *= -1 if mirror else 1
    return Warp(displacement, center - half, center, scale)


def identity_warp(lower_mm: np.ndarray, upper_mm: np.ndarray) -> Warp:
    """The deformation that changes nothing."""
    return Warp(np.zeros((2, 2, 2, 3)), lower_mm, (lower_mm + upper_mm) / 2, np.ones(3))


@numba.njit(inline="always")
def _cubic_weights(f):
    """The four cubic B-spline weights for a fraction f in [0, 1)."""
    g = 1.0 - f
    return g**3 / 6, (4 - 6 * f**2 + 3 * f**3) / 6, (4 - 6 * g**2 + 3 * g**3) / 6, f**3 / 6


@numba.njit(inline="always")
def _vote(array, iz, iy, ix, wz, wy, wx):
    """Among the ids of the eight neighbours, the one with the largest sum of trilinear weights."""
    first = array[iz, iy, ix]
    best, best_weight = first, -1.0
    for i in range(8):
        candidate = array[iz + (i >> 2), iy + ((i >> 1) & 1), ix + (i & 1)]
        weight = 0.0
        for j in range(8):
            a, b, c = j >> 2, (j >> 1) & 1, j & 1
            if array[iz + a, iy + b, ix + c] == candidate:
                weight += (wz if a else 1 - wz) * (wy if b else 1 - wy) * (wx if c else 1 - wx)
        if weight > best_weight:
            best, best_weight = candidate, weight
        if weight > 0.5:
            break
    return best


@numba.njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def resample(coefficients, labels, metal, field, affine, field_affine, step_mm, center, scale, shape, outside):
    """Sample a source patient at the nodes of a specimen's grid.

    Args:
        coefficients: `(z, y, x)` cubic B-spline coefficients of the source's HU.
        labels, metal: `(z, y, x)` ids on the source grid.
        field: `(z, y, x, 3)` displacement u at the nodes of a grid, mm.
        affine: `(2, 3)` first voxel (mm) and spacing (mm) of the source grid.
        field_affine: `(2, 3)` first node (mm) and spacing (mm) of the displacement's grid.
        step_mm: `(2, 3)` first voxel (mm) and spacing (mm) of the specimen's grid.
        center, scale: c and the diagonal of D.
        shape: `(z, y, x)` of the specimen's grid.
        outside: HU of voxels outside of the source.

    Returns:
        HU (float32), labels and metal (uint8) on the specimen's grid.
    """
    nz, ny, nx = shape
    hu = np.full((nz, ny, nx), np.float32(outside))
    out_labels = np.zeros((nz, ny, nx), np.uint8)
    out_metal = np.zeros((nz, ny, nx), np.uint8)
    limit = np.array([field.shape[2] - 1, field.shape[1] - 1, field.shape[0] - 1])
    size = np.array([labels.shape[2], labels.shape[1], labels.shape[0]])
    for k in numba.prange(nz):
        p, q, n, w = np.empty(3), np.empty(3), np.empty(3, np.int64), np.empty(3)
        p[2] = step_mm[0, 2] + k * step_mm[1, 2]
        for j in range(ny):
            p[1] = step_mm[0, 1] + j * step_mm[1, 1]
            for i in range(nx):
                p[0] = step_mm[0, 0] + i * step_mm[1, 0]
                for a in range(3):
                    node = min(max((p[a] - field_affine[0, a]) / field_affine[1, a], 0.0), float(limit[a]))
                    n[a] = min(int(node), limit[a] - 1)
                    w[a] = node - n[a]
                inside = True
                for a in range(3):
                    u = 0.0
                    for c in range(8):
                        cz, cy, cx = c >> 2, (c >> 1) & 1, c & 1
                        weight = (w[2] if cz else 1 - w[2]) * (w[1] if cy else 1 - w[1]) * (w[0] if cx else 1 - w[0])
                        u += weight * field[n[2] + cz, n[1] + cy, n[0] + cx, a]
                    q[a] = (center[a] + scale[a] * (p[a] + u - center[a]) - affine[0, a]) / affine[1, a]
                    inside &= 1.0 <= q[a] < size[a] - 2.0
                if not inside:
                    continue
                ix, iy, iz = int(q[0]), int(q[1]), int(q[2])
                fx, fy, fz = q[0] - ix, q[1] - iy, q[2] - iz
                bx, by, bz = _cubic_weights(fx), _cubic_weights(fy), _cubic_weights(fz)
                total = 0.0
                for c in range(4):
                    plane = 0.0
                    for b in range(4):
                        r = coefficients[iz - 1 + c, iy - 1 + b]
                        line = bx[0] * r[ix - 1] + bx[1] * r[ix] + bx[2] * r[ix + 1] + bx[3] * r[ix + 2]
                        plane += by[b] * line
                    total += bz[c] * plane
                hu[k, j, i] = total
                out_labels[k, j, i] = _vote(labels, iz, iy, ix, fz, fy, fx)
                out_metal[k, j, i] = _vote(metal, iz, iy, ix, fz, fy, fx)
    return hu, out_labels, out_metal
