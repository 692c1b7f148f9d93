"""Reads the DeepFluoro full-resolution HDF5 layout (Grupp et al. 2020, DOI 10.7281/T1/IFSXNV).

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

import h5py
import numpy as np

from roireg.data.deepfluoro_records import POSES, Ct, Grid, Projection, ProjectionParameters
from roireg.data.label_names import check_distinct
from roireg.data.readers.hdf5_file import (
    array_at,
    group_at,
    has,
    item_at,
    names_in,
    positive_at,
    reading,
)
from roireg.errors import InputError

PARAMETERS = "proj-params"
DIRECTION_TOLERANCE = 1e-3
GRID_TOLERANCE_MM = 1e-2
NOT_IDS = "not all values are label ids (whole numbers from 0 to 255)"


def specimen_names(file: h5py.File) -> list[str]:
    """Names of the specimens in a file, sorted.

    Raises:
        InputError: the file has none.
    """
    names = [name for name in names_in(file, "/", True) if name != PARAMETERS]
    if not names:
        raise InputError(file.filename, "it has no specimen", "The file must follow the DeepFluoro layout")
    return names


def projection_names(file: h5py.File, specimen: str) -> list[str]:
    """Names of a specimen's projections, sorted.

    Raises:
        InputError: the specimen has none.
    """
    key = f"{specimen}/projections"
    group_at(file, key)
    names = names_in(file, key, True)
    if not names:
        raise InputError(f"{file.filename}:{key}", "it has no X-ray", "Leave this specimen out (`dataset.specimens`)")
    return names


def is_rigid_matrix(matrix: np.ndarray) -> bool:
    """True if a `(4, 4)` matrix is a rotation and a translation."""
    import torch

    from roireg.geometry.se3 import is_rigid

    return is_rigid(torch.from_numpy(matrix))


def _rigid(file: h5py.File, key: str) -> np.ndarray:
    matrix = array_at(file, key, (4, 4))
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
        intrinsic=array_at(file, f"{PARAMETERS}/intrinsic", (3, 3)),
        rows=int(positive_at(file, f"{PARAMETERS}/num-rows", ())),
        columns=int(positive_at(file, f"{PARAMETERS}/num-cols", ())),
        row_spacing_mm=float(positive_at(file, f"{PARAMETERS}/pixel-row-spacing", ())),
        column_spacing_mm=float(positive_at(file, f"{PARAMETERS}/pixel-col-spacing", ())),
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
    pixels = array_at(file, f"{key}/pixels")
    where = f"{file.filename}:{key}/pixels"
    if pixels.ndim != 3:
        raise InputError(where, f"its shape is {pixels.shape}, not three-dimensional", "Write it as (z, y, x)")
    if not np.isfinite(pixels).all():
        raise InputError(where, "it has NaN or infinite values", "Repair the CT")
    direction = array_at(file, f"{key}/dir-mat", (3, 3))
    if np.abs(direction.T @ direction - np.eye(3)).max() > DIRECTION_TOLERANCE:
        where = f"{file.filename}:{key}/dir-mat"
        raise InputError(where, "it is not an orthonormal matrix", "Write the axes of the grid as its columns")
    spacing_mm = positive_at(file, f"{key}/spacing", (3,))
    return Grid(pixels, spacing_mm, array_at(file, f"{key}/origin", (3,)), direction)


def read_landmarks_mm(file: h5py.File, specimen: str) -> dict[str, np.ndarray]:
    """3D landmarks `(3,)` by name; volume frame, mm."""
    key = f"{specimen}/vol-landmarks"
    group_at(file, key)
    return {name: array_at(file, f"{key}/{name}", (3,)) for name in names_in(file, key, False)}


def _labels(file: h5py.File, specimen: str, shape: tuple[int, ...]) -> np.ndarray:
    """The label ids; their grid must be the CT's."""
    base = f"{specimen}/vol-seg/image"
    labels = array_at(file, f"{base}/pixels")
    where, remedy = f"{file.filename}:{base}/pixels", "Resample the labels onto the grid of the CT"
    if labels.shape != shape:
        raise InputError(where, f"its shape {labels.shape} differs from the CT's {shape}", remedy)
    for key, size in (("spacing", (3,)), ("origin", (3,)), ("dir-mat", (3, 3))):
        if has(file, f"{base}/{key}"):
            ours, theirs = array_at(file, f"{base}/{key}", size), array_at(file, f"{specimen}/vol/{key}", size)
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
    group_at(file, key)
    names = names_in(file, key, False)
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
    item = item_at(file, key)
    with reading(file, key):
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
    intensity = array_at(file, f"{base}/image/pixels")
    where = f"{file.filename}:{base}/image/pixels"
    if intensity.shape != (parameters.rows, parameters.columns):
        expected = (parameters.rows, parameters.columns)
        raise InputError(where, f"its shape is {intensity.shape}, proj-params says {expected}", "Correct one of them")
    if not np.isfinite(intensity).all():
        raise InputError(where, "it has NaN or infinite values", "Leave this X-ray out or repair it")
    if intensity.min() == intensity.max():
        raise InputError(where, f"every pixel is {intensity.min()}", "Leave this X-ray out: it is blank")
    segmentation = None
    if has(file, f"{base}/gt-seg/pixels"):
        segmentation = array_at(file, f"{base}/gt-seg/pixels")
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
    item_at(file, f"{base}/{POSES[0]}")
    return {key: array_at(file, f"{base}/{key}", (4, 4)) for key in POSES if has(file, f"{base}/{key}")}


def read_landmarks_px(file: h5py.File, specimen: str, name: str) -> dict[str, np.ndarray]:
    """Landmarks `(column, row)` of an X-ray by name, px; they may lie outside the image."""
    key = f"{specimen}/projections/{name}/gt-landmarks"
    if not has(file, key):
        return {}
    group_at(file, key)
    return {landmark: array_at(file, f"{key}/{landmark}", (2,)) for landmark in names_in(file, key, False)}


def read_flag(file: h5py.File, specimen: str, name: str, flag: str) -> bool | None:
    """The flag `rot-180-for-up` or `good-fov` of an X-ray; None if it is missing."""
    key = f"{specimen}/projections/{name}/{flag}"
    return bool(array_at(file, key, ())) if has(file, key) else None
