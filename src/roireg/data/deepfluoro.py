"""Reads and writes the DeepFluoro full-resolution HDF5 layout (Grupp et al. 2020, DOI 10.7281/T1/IFSXNV).

The layout, with matrices as stored (`roireg.geometry.conversions` converts them to this library's frames):

    proj-params/{extrinsic, intrinsic, num-cols, num-rows, pixel-col-spacing, pixel-row-spacing}
    <specimen>/vol/{pixels, spacing, origin, dir-mat}              HU, (z, y, x); mm, LPS
    <specimen>/vol-seg/image/{pixels, spacing, origin, dir-mat}    label ids on the same grid
    <specimen>/vol-seg/labels-def/<N>                              name of label N
    <specimen>/vol-landmarks/<NAME>                                mm, LPS
    <specimen>/projections/<NNN>/image/pixels                      raw intensity
    <specimen>/projections/<NNN>/gt-seg/pixels                     label ids
    <specimen>/projections/<NNN>/gt-landmarks/<NAME>               (column, row) px
    <specimen>/projections/<NNN>/gt-poses/cam-to-*-vol             4x4, camera world to volume
    <specimen>/projections/<NNN>/rot-180-for-up                    0 or 1
    <specimen>/projections/<NNN>/good-fov                          0 or 1, may be missing

Vectors may be stored as columns, `(3, 1)` or `(2, 1)`, and numbers as one-element arrays; all may be integers or floats
of any size and byte order.
"""

import errno
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from roireg.data.label_names import check_distinct
from roireg.data.readers.gate import brief, check_regular, require_memory
from roireg.errors import InputError

if TYPE_CHECKING:
    from roireg.geometry.camera import Camera

# What h5py raises on damaged files is not documented.
READ_ERRORS = (Exception,)
AGAIN = "Download it again; it may be truncated"
PARAMETERS = "proj-params"
DIRECTION_TOLERANCE = 1e-3
GRID_TOLERANCE_MM = 1e-2
NOT_IDS = "not all values are label ids (whole numbers from 0 to 255)"
POSES = ("cam-to-pelvis-vol", "cam-to-left-femur-vol", "cam-to-right-femur-vol")


@dataclass(frozen=True, eq=False)
class ProjectionParameters:
    """Parameters of the C-arm, common to all X-rays of a file.

    Attributes:
        extrinsic: `(4, 4)`, maps the world frame to the camera frame, mm.
        intrinsic: `(3, 3)`, px, with negative focal entries.
        rows, columns: size of the detector in px.
        row_spacing_mm, column_spacing_mm: distance between rows, and between columns.
    """

    extrinsic: np.ndarray
    intrinsic: np.ndarray
    rows: int
    columns: int
    row_spacing_mm: float
    column_spacing_mm: float

    def camera(self) -> "Camera":
        """The camera in this library's convention."""
        # Imported here because torch takes seconds, and the workflow also opens files just to list their specimens.
        import torch

        from roireg.geometry.conversions import camera_from_deepfluoro

        spacing = (self.column_spacing_mm, self.row_spacing_mm)
        return camera_from_deepfluoro(torch.from_numpy(self.intrinsic), self.rows, self.columns, spacing)


@dataclass(frozen=True, eq=False)
class Projection:
    """One X-ray as stored.

    Attributes:
        name: key of the projection, such as `000`.
        intensity: `(rows, columns)` raw detector values.
        segmentation: `(rows, columns)` label ids; None if the file has none.
        landmarks_px: `(column, row)` by landmark name; empty if the file has none.
        poses: stored 4x4 matrices by key of `POSES`; the pelvis's is always present.
        rotate_180_for_up: whether the stored image is upside down.
        good_fov: flag of the dataset's authors about the field of view; None if missing.
    """

    name: str
    intensity: np.ndarray
    segmentation: np.ndarray | None
    landmarks_px: dict[str, np.ndarray]
    poses: dict[str, np.ndarray]
    rotate_180_for_up: bool
    good_fov: bool | None = None


@dataclass(frozen=True, eq=False)
class Ct:
    """CT, labels and landmarks of a specimen as stored: HU and label ids as `(z, y, x)`, geometry in mm, LPS."""

    hu: np.ndarray
    labels: np.ndarray
    spacing_mm: np.ndarray
    origin_mm: np.ndarray
    direction: np.ndarray
    label_names: dict[int, str]
    landmarks_mm: dict[str, np.ndarray]

    def volume_from_voxel(self) -> np.ndarray:
        """Matrix `(4, 4)` that maps voxel indices `(x, y, z)` to mm."""
        return Grid(self.hu, self.spacing_mm, self.origin_mm, self.direction).volume_from_voxel()


@dataclass(frozen=True, eq=False)
class Grid:
    """Values as `(z, y, x)` with the geometry of their grid: mm, LPS."""

    pixels: np.ndarray
    spacing_mm: np.ndarray
    origin_mm: np.ndarray
    direction: np.ndarray

    def volume_from_voxel(self) -> np.ndarray:
        """Matrix `(4, 4)` that maps voxel indices `(x, y, z)` to mm."""
        out = np.eye(4)
        out[:3, :3] = self.direction * self.spacing_mm
        out[:3, 3] = self.origin_mm
        return out


@contextmanager
def open_dataset(path: str | Path) -> Iterator[h5py.File]:
    """Context with the HDF5 file opened for reading.

    Raises:
        InputError: the file does not exist, is not HDF5, or is truncated.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "there is no such file", "Set `dataset.path` to a file in the DeepFluoro layout")
    check_regular(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if error.errno == errno.EAGAIN or "unable to lock" in str(error):
            raise InputError(path, "another program holds it open for writing", "Close it there") from None
        raise InputError(path, f"it is not a readable HDF5 file ({brief(error)})", AGAIN) from None
    except READ_ERRORS as error:
        raise InputError(path, f"it is not a readable HDF5 file ({brief(error)})", AGAIN) from None
    try:
        yield file
    except OSError as error:
        raise InputError(path, f"reading failed ({brief(error)})", AGAIN) from None
    finally:
        file.close()


@contextmanager
def _reading(file: h5py.File, key: str) -> Iterator[None]:
    """Context of one access: whatever h5py raises on a damaged file is one line that names the key."""
    try:
        yield
    except InputError:
        raise
    except READ_ERRORS as error:
        raise InputError(f"{file.filename}:{key}", f"it cannot be read ({brief(error)})", AGAIN) from None


def _has(file: h5py.File, key: str) -> bool:
    with _reading(file, key):
        return key in file


def _names(file: h5py.File, key: str, groups_only: bool) -> list[str]:
    """Names within a group, sorted."""
    with _reading(file, key):
        group = file[key]
        return sorted(name for name in group if not groups_only or group.get(name, getclass=True) is h5py.Group)


def specimen_names(file: h5py.File) -> list[str]:
    """Names of the specimens in a file, sorted.

    Raises:
        InputError: the file has none.
    """
    names = [name for name in _names(file, "/", True) if name != PARAMETERS]
    if not names:
        raise InputError(file.filename, "it has no specimen", "The file must follow the DeepFluoro layout")
    return names


def projection_names(file: h5py.File, specimen: str) -> list[str]:
    """Names of a specimen's projections, sorted.

    Raises:
        InputError: the specimen has none.
    """
    key = f"{specimen}/projections"
    _group(file, key)
    names = _names(file, key, True)
    if not names:
        raise InputError(f"{file.filename}:{key}", "it has no X-ray", "Leave this specimen out (`dataset.specimens`)")
    return names


def _get(file: h5py.File, key: str) -> h5py.Group | h5py.Dataset:
    try:
        return file[key]
    except KeyError:
        remedy = "The file must follow the DeepFluoro layout (docs/conventions.md)"
        raise InputError(f"{file.filename}:{key}", "it is missing", remedy) from None
    except READ_ERRORS as error:
        raise InputError(f"{file.filename}:{key}", f"it cannot be read ({brief(error)})", AGAIN) from None


def _group(file: h5py.File, key: str) -> h5py.Group:
    item = _get(file, key)
    if not isinstance(item, h5py.Group):
        raise InputError(f"{file.filename}:{key}", "it is not a group", "The file must follow the DeepFluoro layout")
    return item


def _positive(file: h5py.File, key: str, shape: tuple[int, ...]) -> np.ndarray:
    value = _array(file, key, shape)
    if not (value > 0).all():
        raise InputError(f"{file.filename}:{key}", f"it is {value.tolist()}, not positive", "Correct it")
    return value


def _array(file: h5py.File, key: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """A numeric array, reshaped to `shape` if given: `(3, 1)` is accepted for `(3,)`."""
    item = _get(file, key)
    where = f"{file.filename}:{key}"
    layout = "The file must follow the DeepFluoro layout"
    with _reading(file, key):
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iufb" or item.shape is None:
            raise InputError(where, "it is not an array of numbers", layout)
        if item.size == 0:
            raise InputError(where, "it is empty", layout)
        require_memory(where, item.nbytes)
        if item.chunks is not None and item.id.get_num_chunks() < _chunks(item):
            raise InputError(where, "parts of it were never written, or are lost", AGAIN)
        if item.chunks is None and item.id.get_storage_size() < item.nbytes:
            raise InputError(where, "it was never written, or is lost", AGAIN)
        value = np.asarray(item[()])
    # torch does not accept arrays of another byte order.
    value = value.astype(value.dtype.newbyteorder("="), copy=False)
    if shape is None:
        return value
    if value.size != int(np.prod(shape)):
        raise InputError(where, f"its shape is {value.shape}, not {shape}", "Write it with that shape")
    value = value.reshape(shape).astype(np.float64)
    if not np.isfinite(value).all():
        raise InputError(where, "it has NaN or infinite values", "Repair the file")
    return value


def _chunks(item: h5py.Dataset) -> int:
    """How many chunks hold all of an array."""
    return math.prod(math.ceil(n / chunk) for n, chunk in zip(item.shape, item.chunks, strict=True))


def is_rigid_matrix(matrix: np.ndarray) -> bool:
    """True if a `(4, 4)` matrix is a rotation and a translation."""
    import torch

    from roireg.geometry.se3 import is_rigid

    return is_rigid(torch.from_numpy(matrix))


def _rigid(file: h5py.File, key: str) -> np.ndarray:
    matrix = _array(file, key, (4, 4))
    if not is_rigid_matrix(matrix):
        raise InputError(
            f"{file.filename}:{key}", "it is not a rigid transform (rotation and translation)", "Correct the matrix"
        )
    return matrix


def read_parameters(file: h5py.File) -> ProjectionParameters:
    """Parameters of the C-arm.

    Raises:
        InputError: a parameter is missing or invalid, or the intrinsic matrix does not describe a camera.
    """
    parameters = stored_parameters(file)
    try:
        parameters.camera()
    except ValueError as error:
        where = f"{file.filename}:{PARAMETERS}/intrinsic"
        raise InputError(where, str(error), "Correct the intrinsic matrix") from None
    return parameters


def stored_parameters(file: h5py.File) -> ProjectionParameters:
    """Parameters of the C-arm as stored; the intrinsic matrix need not describe a camera.

    Raises:
        InputError: a parameter is missing or not finite, or the extrinsic matrix is not rigid.
    """
    return ProjectionParameters(
        extrinsic=_rigid(file, f"{PARAMETERS}/extrinsic"),
        intrinsic=_array(file, f"{PARAMETERS}/intrinsic", (3, 3)),
        rows=int(_positive(file, f"{PARAMETERS}/num-rows", ())),
        columns=int(_positive(file, f"{PARAMETERS}/num-cols", ())),
        row_spacing_mm=float(_positive(file, f"{PARAMETERS}/pixel-row-spacing", ())),
        column_spacing_mm=float(_positive(file, f"{PARAMETERS}/pixel-col-spacing", ())),
    )


def read_ct(file: h5py.File, specimen: str) -> Ct:
    """CT, labels and landmarks of a specimen.

    Raises:
        InputError: an entry is missing, of the wrong shape or not finite, or the labels' grid is not the CT's.
    """
    grid = read_grid(file, f"{specimen}/vol")
    return Ct(
        hu=grid.pixels,
        labels=_labels(file, specimen, grid.pixels.shape),
        spacing_mm=grid.spacing_mm,
        origin_mm=grid.origin_mm,
        direction=grid.direction,
        label_names=read_label_names(file, specimen),
        landmarks_mm=read_landmarks_mm(file, specimen),
    )


def read_grid(file: h5py.File, key: str) -> Grid:
    """Values and geometry stored at a key, `<specimen>/vol` or `<specimen>/vol-seg/image`.

    Raises:
        InputError: an entry is missing, of the wrong shape or not finite.
    """
    pixels = _array(file, f"{key}/pixels")
    where = f"{file.filename}:{key}/pixels"
    if pixels.ndim != 3:
        raise InputError(where, f"its shape is {pixels.shape}, not three-dimensional", "Write it as (z, y, x)")
    if not np.isfinite(pixels).all():
        raise InputError(where, "it has NaN or infinite values", "Repair the CT")
    direction = _array(file, f"{key}/dir-mat", (3, 3))
    if np.abs(direction.T @ direction - np.eye(3)).max() > DIRECTION_TOLERANCE:
        where = f"{file.filename}:{key}/dir-mat"
        raise InputError(where, "it is not an orthonormal matrix", "Write the axes of the grid as its columns")
    spacing_mm = _positive(file, f"{key}/spacing", (3,))
    return Grid(pixels, spacing_mm, _array(file, f"{key}/origin", (3,)), direction)


def read_landmarks_mm(file: h5py.File, specimen: str) -> dict[str, np.ndarray]:
    """3D landmarks `(3,)` by name; volume frame, mm."""
    key = f"{specimen}/vol-landmarks"
    _group(file, key)
    return {name: _array(file, f"{key}/{name}", (3,)) for name in _names(file, key, False)}


def _labels(file: h5py.File, specimen: str, shape: tuple[int, ...]) -> np.ndarray:
    """The label ids; their grid must be the CT's."""
    base = f"{specimen}/vol-seg/image"
    labels = _array(file, f"{base}/pixels")
    where, remedy = f"{file.filename}:{base}/pixels", "Resample the labels onto the grid of the CT"
    if labels.shape != shape:
        raise InputError(where, f"its shape {labels.shape} differs from the CT's {shape}", remedy)
    for key, size in (("spacing", (3,)), ("origin", (3,)), ("dir-mat", (3, 3))):
        if _has(file, f"{base}/{key}"):
            ours, theirs = _array(file, f"{base}/{key}", size), _array(file, f"{specimen}/vol/{key}", size)
            if not np.allclose(ours, theirs, rtol=1e-3, atol=GRID_TOLERANCE_MM):
                what = f"{ours.tolist()} differs from the CT's {theirs.tolist()}"
                raise InputError(f"{file.filename}:{base}/{key}", what, remedy)
    if not _are_label_ids(labels):
        raise InputError(where, NOT_IDS, "Renumber the labels")
    return labels


def _are_label_ids(values: np.ndarray) -> bool:
    if values.dtype == np.uint8:
        return True
    return bool(np.isfinite(values).all() and ((values >= 0) & (values <= 255) & (values == np.round(values))).all())


def read_label_names(file: h5py.File, specimen: str) -> dict[int, str]:
    """Names by label id.

    Raises:
        InputError: a key is not a label id, a name is not a string, or two names are equal.
    """
    key = f"{specimen}/vol-seg/labels-def"
    _group(file, key)
    names = _names(file, key, False)
    for name in names:
        if not name.isdecimal() or len(name) > 9:
            raise InputError(
                f"{file.filename}:{key}/{name}", "its key is not a label id", "Use the label's number as key"
            )
    found = {int(name): _text(file, f"{key}/{name}") for name in sorted(names, key=int)}
    check_distinct(found.values(), f"{file.filename}:{key}", "Give each label another name")
    return found


def _text(file: h5py.File, key: str) -> str:
    """A string of fixed or variable length, possibly in an array of one element; padding is removed."""
    item = _get(file, key)
    with _reading(file, key):
        value = item[()] if isinstance(item, h5py.Dataset) and item.shape in ((), (1,)) else None
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if not isinstance(value, bytes | str):
        raise InputError(f"{file.filename}:{key}", "it is not a single string", "Store the label's name")
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
    return text.rstrip("\0").strip()


def read_projection(file: h5py.File, specimen: str, name: str, parameters: ProjectionParameters) -> Projection:
    """One X-ray with its ground truth.

    Raises:
        InputError: the image is missing, of the wrong size, not finite or constant, or a pose is not rigid.
    """
    base = f"{specimen}/projections/{name}"
    intensity = _array(file, f"{base}/image/pixels")
    where = f"{file.filename}:{base}/image/pixels"
    if intensity.shape != (parameters.rows, parameters.columns):
        expected = (parameters.rows, parameters.columns)
        raise InputError(where, f"its shape is {intensity.shape}, proj-params says {expected}", "Correct one of them")
    if not np.isfinite(intensity).all():
        raise InputError(where, "it has NaN or infinite values", "Leave this X-ray out or repair it")
    if intensity.min() == intensity.max():
        raise InputError(where, f"every pixel is {intensity.min()}", "Leave this X-ray out: it is blank")
    segmentation = None
    if _has(file, f"{base}/gt-seg/pixels"):
        segmentation = _array(file, f"{base}/gt-seg/pixels")
        if segmentation.shape != intensity.shape:
            raise InputError(
                f"{file.filename}:{base}/gt-seg/pixels", "its shape differs from the image's", "Correct it"
            )
        if not _are_label_ids(segmentation):
            raise InputError(f"{file.filename}:{base}/gt-seg/pixels", NOT_IDS, "Renumber the labels")
    for key in stored_poses(file, specimen, name):
        _rigid(file, f"{base}/gt-poses/{key}")
    return Projection(
        name=name,
        intensity=intensity,
        segmentation=segmentation,
        landmarks_px=read_landmarks_px(file, specimen, name),
        poses=stored_poses(file, specimen, name),
        rotate_180_for_up=bool(read_flag(file, specimen, name, "rot-180-for-up")),
        good_fov=read_flag(file, specimen, name, "good-fov"),
    )


def stored_poses(file: h5py.File, specimen: str, name: str) -> dict[str, np.ndarray]:
    """The matrices `(4, 4)` of an X-ray by key of `POSES`; they need not be rigid.

    Raises:
        InputError: the pelvis's matrix is missing, or a matrix is not finite.
    """
    base = f"{specimen}/projections/{name}/gt-poses"
    _get(file, f"{base}/{POSES[0]}")
    return {key: _array(file, f"{base}/{key}", (4, 4)) for key in POSES if _has(file, f"{base}/{key}")}


def read_landmarks_px(file: h5py.File, specimen: str, name: str) -> dict[str, np.ndarray]:
    """Landmarks `(column, row)` of an X-ray by name, px; they may lie outside the image."""
    key = f"{specimen}/projections/{name}/gt-landmarks"
    if not _has(file, key):
        return {}
    _group(file, key)
    return {landmark: _array(file, f"{key}/{landmark}", (2,)) for landmark in _names(file, key, False)}


def read_flag(file: h5py.File, specimen: str, name: str, flag: str) -> bool | None:
    """The flag `rot-180-for-up` or `good-fov` of an X-ray; None if it is missing."""
    key = f"{specimen}/projections/{name}/{flag}"
    return bool(_array(file, key, ())) if _has(file, key) else None


def write_parameters(file: h5py.File, parameters: ProjectionParameters) -> None:
    """Write the parameters of the C-arm."""
    group = file.create_group(PARAMETERS)
    group["extrinsic"], group["intrinsic"] = parameters.extrinsic, parameters.intrinsic
    group["num-rows"], group["num-cols"] = parameters.rows, parameters.columns
    group["pixel-row-spacing"] = parameters.row_spacing_mm
    group["pixel-col-spacing"] = parameters.column_spacing_mm


def write_specimen(file: h5py.File, name: str, ct: Ct, projections: Iterable[Projection]) -> None:
    """Write one specimen with its X-rays; only one projection is held in memory at a time."""
    for key, pixels in (("vol", ct.hu), ("vol-seg/image", ct.labels)):
        group = file.create_group(f"{name}/{key}")
        group.create_dataset("pixels", data=pixels, compression="gzip", compression_opts=4, shuffle=True)
        group["spacing"], group["origin"], group["dir-mat"] = ct.spacing_mm, ct.origin_mm, ct.direction
    for label, text in ct.label_names.items():
        file[f"{name}/vol-seg/labels-def/{label}"] = text
    for landmark, position in ct.landmarks_mm.items():
        file[f"{name}/vol-landmarks/{landmark}"] = position
    for projection in projections:
        group = file.create_group(f"{name}/projections/{projection.name}")
        options = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        group.create_dataset("image/pixels", data=projection.intensity, **options)
        if projection.segmentation is not None:
            group.create_dataset("gt-seg/pixels", data=projection.segmentation, **options)
        for landmark, position in projection.landmarks_px.items():
            group[f"gt-landmarks/{landmark}"] = position
        for key, matrix in projection.poses.items():
            group[f"gt-poses/{key}"] = matrix
        group["rot-180-for-up"] = int(projection.rotate_180_for_up)
        if projection.good_fov is not None:
            group["good-fov"] = int(projection.good_fov)
