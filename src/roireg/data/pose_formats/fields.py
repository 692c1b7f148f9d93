"""Numbers and matrices of files of other programs, checked."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.readers.camera_file import check_rigid
from roireg.data.readers.numbers import number_of, numbers_of
from roireg.data.readers.text import read_json
from roireg.data.writers.poses import FAR_MM, PIXEL_MM, SIDE_PX, StoredPose, camera_of_entries
from roireg.errors import InputError
from roireg.geometry.camera import Camera

REMEDY = "Compare the file with docs/conventions.md"
ENTRIES = (-1e9, 1e9)


def json_entries(path: str | Path) -> dict[str, Any]:
    """The keys and values of a JSON file.

    Raises:
        InputError: it holds no keys and values.
    """
    entries = read_json(path, REMEDY)
    if not isinstance(entries, dict):
        raise InputError(path, "it has no keys and values", REMEDY)
    return entries


def value_at(path: str | Path, entries: dict[str, Any], key: str) -> Any:
    """The value of a key.

    Raises:
        InputError: the key is missing.
    """
    if key not in entries:
        raise InputError(f"{path}: {key}", "it is missing", REMEDY)
    return entries[key]


def number_at(path: str | Path, entries: dict[str, Any], key: str, bounds: tuple[float, float] = FAR_MM) -> float:
    """One number within bounds."""
    return number_of(f"{path}: {key}", value_at(path, entries, key), bounds, "", REMEDY)


def size_at(path: str | Path, entries: dict[str, Any], key: str) -> int:
    """A number of pixels."""
    return int(number_at(path, entries, key, SIDE_PX))


def spacing_at(path: str | Path, entries: dict[str, Any], key: str) -> float:
    """Size of a pixel, mm."""
    return number_at(path, entries, key, PIXEL_MM)


def matrix_of(where: str, value: Any, rows: int, columns: int) -> Float[Tensor, "R C"]:
    """A matrix given as a list of its rows.

    Raises:
        InputError: it has another shape, or holds what is no number.
    """
    if not isinstance(value, list) or len(value) != rows or not all(isinstance(row, list) for row in value):
        raise InputError(where, f"it is no matrix of {rows} rows", REMEDY)
    found = [numbers_of(where, row, columns, ENTRIES, "", REMEDY) for row in value]
    return torch.tensor(found, dtype=torch.float64)


def matrix_at(path: str | Path, entries: dict[str, Any], key: str, rows: int, columns: int) -> Float[Tensor, "R C"]:
    """The matrix of a key."""
    return matrix_of(f"{path}: {key}", value_at(path, entries, key), rows, columns)


def rigid(where: str, matrix: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """The matrix, if it is a rotation and a translation.

    Raises:
        InputError: it is not.
    """
    check_rigid(where, matrix.numpy())
    return matrix


def stored_pose(path: str | Path, pose: Float[Tensor, "4 4"], camera: Camera) -> StoredPose:
    """A pose `volume_from_camera` (mm) and its camera, as a file of this library would hold them.

    Raises:
        InputError: the pose is not rigid, or the camera can be none.
    """
    entries = {
        "intrinsics_px": [[x + 0.0 for x in row] for row in camera.intrinsics_px.tolist()],
        "height_px": camera.height,
        "width_px": camera.width,
        "pixel_spacing_mm": list(camera.pixel_spacing_mm),
    }
    return StoredPose(rigid(str(path), pose), camera_of_entries(f"{path}: camera", entries), torch.zeros(0, 3))
