r"""X-ray formation for simulated data: exact ray tracing, several materials, a polyenergetic beam, scatter and noise.

This module has no code in common with `roireg.drr`, so that X-rays are not made by the model that registers them:
registration integrates trilinearly on a coarser grid, with one energy.

$$I = \frac{P + \mathrm{SPR}\,(G_\sigma * P)}{1 + \mathrm{SPR}}, \qquad
P(u, v) = A(u, v) \sum_e w_e \exp\Big(-\sum_m (\mu/\rho)_m(e) \int \rho_m\,dl\Big)$$

with A the collimator (1 % of the primary passes it, so that mostly scatter is seen outside the opening), followed by
Poisson noise, detector blur and 16-bit quantisation. The energy weights w_e are fractions of the signal detected
without a patient, chosen for a filtered beam of about 85 kVp; they are an assumption, not a measured spectrum.

Arrays: densities `(z, y, x, materials)` in g/cm^3, materials in the order of `MATERIALS`; areal densities
`(H, W, materials)` in g/cm^2. Poses are `volume_from_camera`, 4x4, mm (see `roireg.geometry`).

Mass attenuation coefficients (cm^2/g): Hubbell and Seltzer, NIST Standard Reference Database 126 (from XCOM): liquid
water, cortical bone (ICRU-44), iron, at 40, 50, 60 and 80 keV; at 70 keV by log-log interpolation.
"""

from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from roireg.geometry.camera import Camera
from roireg.simulation import _siddon

MATERIALS = ("soft tissue", "bone", "metal")
TABLE_KEV = np.array([40.0, 50.0, 60.0, 80.0])
TABLE_CM2_PER_G = np.array(
    [[0.2683, 0.2269, 0.2059, 0.1837], [0.6655, 0.4242, 0.3148, 0.2229], [3.629, 1.958, 1.205, 0.5952]]
)
BIN_KEV = np.array([40.0, 50.0, 60.0, 70.0, 80.0])
BIN_WEIGHTS = np.array([0.12, 0.24, 0.28, 0.22, 0.14])

SOFT_END_HU = 100.0
BONE_FULL_HU = 1600.0
BONE_G_PER_CM3 = 1.92
MUSCLE_G_PER_CM3 = 1.05
AIR_HU = -900.0
IMPLANT_G_PER_CM3 = 4.0
IMPLANT_EDGE_VOXELS = 1.2
STEEL_G_PER_CM3 = 7.87

FULL_SCALE = 65487.0
MAX_COUNT = 65535
SCATTER_GRID_PX = 16
MM_PER_CM = 10.0


def mass_attenuation(kev: np.ndarray) -> np.ndarray:
    """`(materials, energies)` mass attenuation, cm^2/g, by log-log interpolation of the table between 40 and 80 keV."""
    return np.exp([np.interp(np.log(kev), np.log(TABLE_KEV), np.log(row)) for row in TABLE_CM2_PER_G])


@numba.njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _densities(hu, metal, out):
    span = np.float32(BONE_FULL_HU - SOFT_END_HU)
    for i in numba.prange(hu.size):
        h = hu[i]
        if metal[i]:
            out[i, 2] = IMPLANT_G_PER_CM3
        elif h > AIR_HU:
            fraction = min(max((h - np.float32(SOFT_END_HU)) / span, np.float32(0)), np.float32(1))
            excess = (max(h, np.float32(BONE_FULL_HU)) + np.float32(1000)) / np.float32(BONE_FULL_HU + 1000)
            out[i, 0] = (1 + min(h, np.float32(SOFT_END_HU)) / 1000) * (1 - fraction)
            out[i, 1] = np.float32(BONE_G_PER_CM3) * fraction * excess


def densities_from_hu(hu: np.ndarray, metal: np.ndarray) -> np.ndarray:
    """Densities of soft tissue, bone and metal from Hounsfield units: `(..., 3)` float32 in g/cm^3.

    Up to 100 HU a voxel is water-like tissue of density 1 + HU/1000. Between 100 and 1600 HU it is a mixture whose
    fraction of cortical bone (1.92 g/cm^3) grows linearly; above, it is bone of proportionally higher density. Metal
    voxels are metal only, at half the density of steel, because blooming makes an implant look twice as large in a CT.

    Args:
        hu: Hounsfield units; below -900 is air.
        metal: true where the voxel is metal.
    """
    out = np.zeros((*hu.shape, len(MATERIALS)), np.float32)
    flat = np.ascontiguousarray(hu, dtype=np.float32).ravel()
    _densities(flat, np.ascontiguousarray(metal, dtype=np.bool_).ravel(), out.reshape(-1, len(MATERIALS)))
    return out


def siddon(density: np.ndarray, volume_from_voxel: np.ndarray, camera: Camera, pose: np.ndarray) -> np.ndarray:
    r"""Exact line integrals through voxels of constant density (Siddon 1985; traversal of Amanatides and Woo 1987).

    $$L(u, v) = \sum_i \rho_i \, |\text{ray} \cap \text{voxel}_i|$$

    Args:
        density: `(z, y, x)` or `(z, y, x, materials)`, any unit per mm.
        volume_from_voxel: `(4, 4)`, mm from voxel indices `(x, y, z)`; a voxel extends half an index to each side.
        camera: the detector; the integral runs from the source to it.
        pose: `(4, 4)` `volume_from_camera`.

    Returns:
        `(H, W)` or `(H, W, materials)` float32, in the density's unit times mm.
    """
    values = np.ascontiguousarray(density if density.ndim == 4 else density[..., None], dtype=np.float32)
    voxel_from_camera = np.linalg.inv(volume_from_voxel) @ np.asarray(pose, dtype=np.float64)
    rays = voxel_from_camera[:3, :3] @ camera.rays_mm().numpy().astype(np.float64)
    out = _siddon.trace(values, voxel_from_camera[:3, 3], np.ascontiguousarray(rays), camera.height, camera.width)
    out *= camera.ray_lengths_mm.numpy().astype(np.float32)[..., None]
    return out if density.ndim == 4 else out[..., 0]


@dataclass(frozen=True, eq=False)
class Body:
    """A rigid part of the patient.

    Attributes:
        density: `(z, y, x, m)` g/cm^3 of the m materials of the part. It may be negative: a bone is stored as its
            difference from the muscle that replaces it in the rest of the patient.
        materials: the m indices into `MATERIALS`.
        volume_from_voxel: `(4, 4)`, mm.
    """

    density: np.ndarray
    materials: tuple[int, ...]
    volume_from_voxel: np.ndarray


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box `(z, y, x)` around the true voxels; a single voxel if there are none."""
    return ndimage.find_objects(mask, max_label=1)[0] or (slice(0, 1),) * 3


def _body(density: np.ndarray, box: tuple[slice, slice, slice], volume_from_voxel: np.ndarray) -> Body:
    """The body in a box of the grid; `density` has the shape of the box."""
    materials = tuple(k for k in range(len(MATERIALS)) if np.any(density[..., k])) or (0,)
    frame = volume_from_voxel.copy()
    frame[:3, 3] += frame[:3, :3] @ np.array([extent.start for extent in box[::-1]], dtype=np.float64)
    return Body(np.ascontiguousarray(density[..., list(materials)]), materials, frame)


def split_bodies(
    hu: np.ndarray, metal: np.ndarray, pieces: list[np.ndarray], volume_from_voxel: np.ndarray
) -> list[Body]:
    """Split the patient into rigid bodies whose line integrals add up to the patient's: the rest, then each piece.

    In the rest, the pieces are replaced by muscle; a piece is stored as its difference from muscle. Metal voxels of a
    piece are blurred, because real implants have smooth surfaces.

    Args:
        hu: `(z, y, x)`.
        metal: `(z, y, x)` booleans.
        pieces: disjoint masks `(z, y, x)` of the parts that move independently.
        volume_from_voxel: `(4, 4)`.
    """
    rest = densities_from_hu(hu, metal)
    muscle = np.array([MUSCLE_G_PER_CM3, 0, 0], np.float32)
    bodies = []
    for mask in pieces:
        box = bounding_box(mask)
        excess = np.zeros_like(rest[box])
        excess[mask[box]] = rest[box][mask[box]] - muscle
        excess[..., 2] = ndimage.gaussian_filter(excess[..., 2], IMPLANT_EDGE_VOXELS)
        bodies.append(_body(excess, box, volume_from_voxel))
        rest[box][mask[box]] = muscle
    box = bounding_box(hu > AIR_HU)
    return [_body(rest[box], box, volume_from_voxel), *bodies]


def areal_densities(bodies: list[Body], poses: list[np.ndarray], camera: Camera) -> np.ndarray:
    """Sum of the areal densities of all bodies, each under its own pose: `(H, W, 3)` g/cm^2."""
    total = np.zeros((camera.height, camera.width, len(MATERIALS)), np.float32)
    for body, pose in zip(bodies, poses, strict=True):
        integrals = siddon(body.density, body.volume_from_voxel, camera, pose)
        for k, material in enumerate(body.materials):
            total[..., material] += integrals[..., k]
    return np.maximum(total, 0) / MM_PER_CM


@dataclass(frozen=True)
class Cylinder:
    """A solid cylindrical metal instrument: the ends of its axis (mm, LPS) and its radius (mm)."""

    start_mm: tuple[float, float, float]
    end_mm: tuple[float, float, float]
    radius_mm: float


def cylinder_chord(cylinder: Cylinder, camera: Camera, pose: np.ndarray) -> np.ndarray:
    """Length in mm of every ray inside a finite cylinder, in closed form: `(H, W)`."""
    pose = np.asarray(pose, dtype=np.float64)
    start = np.array(cylinder.start_mm)
    axis = np.array(cylinder.end_mm) - start
    length = np.linalg.norm(axis)
    axis = axis / length
    ray = camera.detector_points_mm.numpy() @ pose[:3, :3].T
    relative = pose[:3, 3] - start
    along0, along = relative @ axis, ray @ axis
    across0, across = relative - along0 * axis, ray - along[..., None] * axis
    a = np.maximum((across**2).sum(-1), 1e-12)
    b = across @ across0
    c = across0 @ across0 - cylinder.radius_mm**2
    root = np.sqrt(np.maximum(b**2 - a * c, 0))
    safe = np.where(np.abs(along) < 1e-12, 1e-12, along)
    ends = np.stack([-along0 / safe, (length - along0) / safe])
    t_in = np.maximum(np.maximum((-b - root) / a, ends.min(0)), 0)
    t_out = np.minimum(np.minimum((-b + root) / a, ends.max(0)), 1)
    inside = np.where(b**2 > a * c, np.maximum(t_out - t_in, 0), 0)
    return inside * camera.ray_lengths_mm.numpy()


def transmission(areal_g_per_cm2: np.ndarray) -> np.ndarray:
    """Transmitted fraction, in (0, 1], of the polyenergetic beam: `(H, W)` from `(H, W, 3)` areal densities."""
    attenuation = mass_attenuation(BIN_KEV).astype(np.float32)
    out = np.zeros(areal_g_per_cm2.shape[:-1], np.float32)
    for weight, column in zip(BIN_WEIGHTS / BIN_WEIGHTS.sum(), attenuation.T, strict=True):
        out += np.float32(weight) * np.exp(-(areal_g_per_cm2 @ column))
    return out


def scatter(primary: np.ndarray, ratio: float, sigma_px: float) -> np.ndarray:
    """Scattered radiation, modelled as the primary blurred by `sigma_px` and multiplied by `ratio`."""
    height, width = primary.shape
    block = SCATTER_GRID_PX
    padded = np.pad(primary, [(0, -height % block), (0, -width % block)], mode="edge")
    coarse = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block).mean(axis=(1, 3))
    smooth = ndimage.gaussian_filter(coarse, sigma_px / block, mode="nearest")
    rows, columns = ((np.arange(n) + 0.5) / block - 0.5 for n in (height, width))
    positions = np.meshgrid(rows, columns, indexing="ij")
    return ratio * ndimage.map_coordinates(smooth, positions, order=1, mode="nearest").astype(np.float32)


@dataclass(frozen=True)
class Aperture:
    """A superelliptic opening of the collimator.

    Attributes:
        center_px: `(column, row)`.
        half_axes_px: along columns and along rows.
        exponent: 2 for an ellipse; larger values give squarer corners.
        edge_px: width of the soft edge.
        leak: fraction of the primary that passes outside the opening.
    """

    center_px: tuple[float, float]
    half_axes_px: tuple[float, float]
    exponent: float
    edge_px: float = 2.0
    leak: float = 0.01


def aperture_mask(aperture: Aperture, height: int, width: int) -> np.ndarray:
    """Transmission of the collimator, `(H, W)`: 1 inside the opening, `leak` outside, with a soft edge between."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij", sparse=True)
    (cx, cy), (a, b), n = aperture.center_px, aperture.half_axes_px, aperture.exponent
    level = (np.abs((columns - cx) / a) ** n + np.abs((rows - cy) / b) ** n) ** (1 / n)
    edge = np.clip((1 - level) * min(a, b) / aperture.edge_px + 0.5, 0, 1)
    return (aperture.leak + (1 - aperture.leak) * edge).astype(np.float32)


@dataclass(frozen=True)
class Detector:
    """Noise, scatter and blur of the detector.

    Attributes:
        photons: expected count of an unattenuated pixel.
        scatter_to_primary: ratio of scattered to primary radiation.
        scatter_sigma_px, blur_sigma_px: standard deviations of the Gaussians of scatter and of detector blur.
    """

    photons: float
    scatter_to_primary: float
    scatter_sigma_px: float
    blur_sigma_px: float


def detect(transmitted: np.ndarray, detector: Detector, aperture: Aperture, rng: np.random.Generator) -> np.ndarray:
    """Detected intensities, `(H, W)` uint16, of a transmitted fraction `(H, W)`; about `FULL_SCALE` if unattenuated."""
    primary = transmitted * aperture_mask(aperture, *transmitted.shape)
    field = primary + scatter(primary, detector.scatter_to_primary, detector.scatter_sigma_px)
    field /= 1 + detector.scatter_to_primary
    counts = rng.poisson(field * detector.photons).astype(np.float32)
    blurred = ndimage.gaussian_filter(counts, detector.blur_sigma_px)
    return np.clip(np.rint(blurred * (FULL_SCALE / detector.photons)), 1, MAX_COUNT).astype(np.uint16)
