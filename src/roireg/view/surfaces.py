"""Surfaces of the CT's bones for the 3D scene, as triangles."""

import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt32
from scipy import ndimage
from skimage.measure import marching_cubes

from roireg.data.patient import BONE_HU, Patient
from roireg.data.volume import MU_BONE_PER_MM, MU_WATER_PER_MM, Volume, attenuation_from_hu

# The longest side of the grid on which surfaces are found: some 100,000 triangles.
LONGEST_VOXELS = 140
# Labels are blurred by this many voxels, so that their steps do not show.
SMOOTHING_VOXELS = 0.8


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles; `colors` has a number for each vertex: 0 for bone without labels, otherwise that of the label."""

    vertices_mm: Float[np.ndarray, "V 3"]
    normals: Float[np.ndarray, "V 3"]
    colors: UInt8[np.ndarray, "V"]
    faces: UInt32[np.ndarray, "F 3"]


def bone_surface(patient: Patient) -> Surface:
    """The surface of each label, or of all bone if there are no labels; volume frame.

    The vertices are those of marching cubes (Lorensen and Cline 1987, as in scikit-image) on voxels averaged to at most
    `LONGEST_VOXELS` a side.
    """
    factor = max(-(-max(patient.volume.values.shape) // LONGEST_VOXELS), 1)
    factors = (factor, factor, factor)
    if patient.labels is None:
        means = patient.volume.block_means(factors)
        level = float(attenuation_from_hu(means.values.new_tensor(BONE_HU), MU_WATER_PER_MM, MU_BONE_PER_MM))
        return _joined([_surface(means, means.values.numpy(), level, 0)])
    parts = []
    for number, label in enumerate(patient.label_names, start=1):
        means = patient.volume.with_values((patient.labels == label).float()).block_means(factors)
        parts.append(_surface(means, ndimage.gaussian_filter(means.values.numpy(), SMOOTHING_VOXELS), 0.5, number))
    return _joined(parts)


def _surface(volume: Volume, values: Float[np.ndarray, "D H W"], level: float, color: int) -> Surface:
    # Surfaces are closed where the CT ends.
    padded = np.pad(values, 1, constant_values=min(float(values.min()), 0.0))
    if not padded.min() < level < padded.max():
        return Surface(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.uint8), np.zeros((0, 3), np.uint32))
    zyx, faces, normals, _ = marching_cubes(padded, level)
    frame = volume.volume_from_voxel.numpy()
    vertices = (zyx[:, ::-1] - 1) @ frame[:3, :3].T + frame[:3, 3]
    turned = normals[:, ::-1] @ np.linalg.inv(frame[:3, :3])
    lengths = np.linalg.norm(turned, axis=1, keepdims=True)
    return Surface(
        vertices, turned / np.maximum(lengths, 1e-9), np.full(len(zyx), color, np.uint8), faces.astype(np.uint32)
    )


def _joined(parts: list[Surface]) -> Surface:
    starts = np.cumsum([0, *(len(part.vertices_mm) for part in parts[:-1])])
    return Surface(
        np.concatenate([part.vertices_mm for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.colors for part in parts]),
        np.concatenate([part.faces + np.uint32(start) for part, start in zip(parts, starts, strict=True)]),
    )


def packed(surface: Surface) -> bytes:
    """The surface for the page: numbers of vertices and triangles, then float32, float32, uint32, and uint8 colours."""
    counts = struct.pack("<II", len(surface.vertices_mm), len(surface.faces))
    arrays = (surface.vertices_mm.astype("<f4"), surface.normals.astype("<f4"), surface.faces.astype("<u4"))
    return counts + b"".join(array.tobytes() for array in arrays) + surface.colors.tobytes()
