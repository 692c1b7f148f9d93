"""An image on a grid of the patient as it is stored, and the checks that every format's geometry goes through."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Shaped

from roireg.data.readers.gate import check_expansion, open_stream, read_exactly, require_memory
from roireg.errors import InputError

# How far a voxel may lie from where right angles would put it: rounding of headers stays below, sheared grids do not.
SHEAR_TOLERANCE_MM = 2.5
# Below this an axis that was made upright is rounding in the last digit, and not worth a word.
SHEAR_WORTH_SAYING_MM = 0.05
SPACING_MM = (1e-3, 100.0)
FAR_MM = 1e5
GREATEST_SIDE = 2**16
# What is made of the stored values on the way to attenuation: floats, a copy, and the mean of blocks.
WORKING_BYTES_PER_VOXEL = 10


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """A scalar image with its geometry.

    Attributes:
        values: `(z, y, x)`.
        frame: `volume_from_voxel`, mm (LPS) from voxel indices `(x, y, z)`, at right angles.
        notes: what was assumed or corrected on reading.
        label_names: name by value, where the file holds names.
        unscaled: what is stored, where the header scales it; else None.
    """

    values: Shaped[np.ndarray, "D H W"]
    frame: Float[np.ndarray, "4 4"]
    notes: tuple[str, ...] = ()
    label_names: dict[int, str] = field(default_factory=dict)
    unscaled: Shaped[np.ndarray, "D H W"] | None = None

    @property
    def spacing_mm(self) -> Float[np.ndarray, "3"]:
        """Voxel size along x, y, z."""
        return np.linalg.norm(self.frame[:3, :3], axis=0)

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        depth, height, width = self.values.shape
        return width, height, depth


@dataclass(frozen=True)
class Keys:
    """How a format calls what places its voxels, for errors."""

    spacing: str
    directions: str
    origin: str


def towards_lps(volume: StoredVolume) -> StoredVolume:
    """The same image with voxel axes permuted and turned round, so that they run to left, posterior and superior."""
    order = np.abs(volume.frame[:3, :3] / volume.spacing_mm).argmax(axis=0)
    if len(set(order)) != 3:
        raise ValueError("two voxel axes run along the same axis of the patient")
    axes = [int(np.flatnonzero(order == axis)[0]) for axis in range(3)]
    frame = volume.frame[:, [*axes, 3]].copy()
    values = volume.values.transpose([2 - axis for axis in reversed(axes)])
    for axis in range(3):
        if frame[axis, axis] < 0:
            frame[:3, 3] += frame[:3, axis] * (values.shape[2 - axis] - 1)
            frame[:3, axis] *= -1
            values = np.flip(values, 2 - axis)
    return StoredVolume(np.ascontiguousarray(values), frame, volume.notes, volume.label_names)


def size_text(size: Sequence[int]) -> str:
    """`512 x 512 x 300`, or less of it."""
    return " x ".join(map(str, size))


def checked_size(path: Path, sizes: Sequence[int], key: str) -> tuple[int, int, int]:
    """Voxels along x, y, z of a volume, axes of one voxel at the end aside.

    Raises:
        InputError: it is no volume, or a side is not a number of voxels.
    """
    sides = [int(side) for side in sizes]
    if any(side < 1 or side > GREATEST_SIDE for side in sides):
        raise InputError(f"{path}: {key}", f"it is {size_text(sides)}", "Correct the header, or export the image again")
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) != 3 or min(sides) < 2:
        what = f"it is not a volume ({size_text(sides)})"
        raise InputError(path, what, "Give a three-dimensional CT of one channel")
    return sides[0], sides[1], sides[2]


def checked_frame(
    path: Path, frame: Float[np.ndarray, "4 4"], size: tuple[int, int, int], keys: Keys
) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    """The frame with axes at right angles, and what was done for that.

    Args:
        path: of the file, for errors.
        frame: as it is stored, LPS, mm.
        size: voxels along x, y, z.
        keys: names of the header's fields for spacing, directions and origin.

    Raises:
        InputError: a number is not finite, a spacing is impossible, or axes are far from right angles.
    """
    if not np.isfinite(frame[:3, :3]).all():
        raise InputError(f"{path}: {keys.directions}", "it holds NaN or infinite numbers", "Correct the header")
    if not np.isfinite(frame[:3, 3]).all() or np.abs(frame[:3, 3]).max() > FAR_MM:
        what = f"it is {', '.join(f'{x:g}' for x in frame[:3, 3])}"
        raise InputError(f"{path}: {keys.origin}", what, "Correct the header: it is a place in millimetres")
    spacing = checked_spacing(path, np.linalg.norm(frame[:3, :3], axis=0), keys.spacing)
    axes = frame[:3, :3] / spacing
    left, stretch, right = np.linalg.svd(axes)
    if stretch.min() < 0.1:
        what = "two axes have the same direction"
        raise InputError(f"{path}: {keys.directions}", what, "Correct the header, or export the image again")
    upright = frame.copy()
    upright[:3, :3] = left @ right * spacing
    # About the middle of the grid, where the least is moved.
    half = (np.array(size) - 1) / 2
    upright[:3, 3] += (frame[:3, :3] - upright[:3, :3]) @ half
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    apart_mm = float(np.linalg.norm(corners @ (frame[:3, :3] - upright[:3, :3]).T, axis=1).max())
    if apart_mm > SHEAR_TOLERANCE_MM:
        what = f"its axes are not at right angles (voxels up to {apart_mm:.3g} mm from where they would be)"
        raise InputError(path, what, "Resample it to an upright grid")
    if apart_mm < SHEAR_WORTH_SAYING_MM:
        return upright, ()
    return upright, (f"its axes were made upright: voxels moved by up to {apart_mm:.2g} mm",)


def checked_spacing(path: Path, spacing: Float[np.ndarray, "3"], key: str) -> Float[np.ndarray, "3"]:
    """Voxel sizes in mm.

    Raises:
        InputError: one is not a size in mm that a scanner makes.
    """
    low, high = SPACING_MM
    if not np.isfinite(spacing).all() or (spacing < low).any() or (spacing > high).any():
        told = " x ".join(f"{x:g}" for x in spacing)
        raise InputError(f"{path}: {key}", f"it is {told}", "Correct the header: voxels have a size in millimetres")
    return spacing


def read_values(
    header: Path, data: Path, skip: int, compression: str, dtype: np.dtype, size: tuple[int, int, int]
) -> Shaped[np.ndarray, "D H W"]:
    """Voxels from a file, all of them and no more; memory is asked for before it is taken.

    Args:
        header: of the file with the header, for errors of memory.
        data: the file with the voxels.
        skip: bytes before them, before anything is inflated.
        compression: none, gzip or bzip2.
        dtype: of a voxel, with its byte order.
        size: voxels along x, y, z.

    Raises:
        InputError: the file is cut off, too long or damaged, or the values do not fit in memory.
    """
    with open_stream(data, compression, skip) as stream:
        return values_of(header, data, stream, compression, dtype, size)


def values_of(
    header: Path, data: Path, stream: BinaryIO, compression: str, dtype: np.dtype, size: tuple[int, int, int]
) -> Shaped[np.ndarray, "D H W"]:
    """The same of a stream that stands at the first voxel."""
    count = size[0] * size[1] * size[2]
    check_expansion(data, compression, count * dtype.itemsize)
    require_memory(header, count * (dtype.itemsize + WORKING_BYTES_PER_VOXEL))
    values = np.frombuffer(read_exactly(data, stream, count * dtype.itemsize), dtype)
    return values.reshape(size[::-1]).astype(dtype.newbyteorder("="), copy=False)


def read_ascii(path: Path, text: bytes, dtype: np.dtype, size: tuple[int, int, int]) -> Shaped[np.ndarray, "D H W"]:
    """Voxels written as text.

    Raises:
        InputError: they are not numbers, or there are more or fewer than the header says.
    """
    count = size[0] * size[1] * size[2]
    require_memory(path, count * (dtype.itemsize + WORKING_BYTES_PER_VOXEL))
    words = text.split()
    if len(words) != count:
        what = f"it holds {len(words)} numbers and its header says {count}"
        raise InputError(path, what, "Copy or download it again")
    try:
        return np.array(words, dtype=np.float64).astype(dtype.newbyteorder("=")).reshape(size[::-1])
    except (ValueError, OverflowError):
        raise InputError(path, "its voxels are not numbers", "Export the image again") from None


def detached(path: Path, name: str) -> Path:
    """The file with the voxels that a header names: one that lies in the header's folder or below it.

    Raises:
        InputError: it lies elsewhere.
    """
    target = Path(name)
    if target.is_absolute() or ".." in target.parts:
        what = f"its voxels are in {name!r}, which is not beside it"
        raise InputError(path, what, "Put the two files into one folder")
    return path.parent / target
