"""A CT from DICOM: a folder with one series, one enhanced multi-frame file, or such a file in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from roireg.data.readers.dicom_file import pixel_frames, read_dicom
from roireg.data.readers.dicom_header import Header, source_of
from roireg.data.readers.gate import Content, content_of, require_memory
from roireg.data.readers.grid import WORKING_BYTES_PER_VOXEL, Keys, StoredVolume, checked_frame
from roireg.errors import InputError

UNEVEN_SHARE = 0.05
SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-3
UNIT_LENGTH = 0.01
KEYS = Keys("PixelSpacing and slice positions", "ImageOrientationPatient", "ImagePositionPatient")
# Names that never are slices.
OTHER_FILES = ("DICOMDIR",)
AGAIN = "Export the series again: slices are missing, or two series are mixed"
FAR_MM = 1e5


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice of a CT, and where it lies.

    Attributes:
        header: of its file, as its frame has it.
        position: of the first pixel's middle, mm, LPS.
        axes: directions of rows and columns, `(2, 3)`.
        spacing: of pixels along a row, and along a column, mm.
        shape: rows and columns.
    """

    header: Header
    position: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "2 3"]
    spacing: tuple[float, float]
    shape: tuple[int, int]

    @property
    def normal(self) -> Float[np.ndarray, "3"]:
        """Direction in which slices follow each other."""
        return np.cross(self.axes[0], self.axes[1])


def read_dicom_ct(path: Path) -> StoredVolume:
    """A CT from a folder or from a multi-frame file, in the values that its rescale tags make.

    Raises:
        InputError: there is no CT, or slices are missing, mixed, damaged or do not say where they lie.
    """
    headers = _headers(path)
    slices, notes = _one_stack(path, [one for header in headers for one in _slices(header)])
    slices, frame, more = _ordered(path, slices)
    values = _values(path, slices)
    return StoredVolume(values, frame, (*notes, *more))


def _headers(path: Path) -> list[Header]:
    """Headers of the images of the one CT series in a folder, or of a file."""
    if not path.is_dir():
        return [_ct_header(Header(path, read_dicom(path, pixels=False)))]
    try:
        names = sorted(one for one in path.iterdir() if one.is_file() and one.name not in OTHER_FILES)
    except OSError as error:
        raise InputError(path, f"it cannot be read ({error.strerror})", "Change its permissions") from None
    files = [one for one in names if one.stat().st_size and content_of(one) is Content.DICOM]
    if not files:
        raise InputError(path, "it holds no DICOM series", "Give the folder of the CT's slices, or a file")
    headers = [Header(one, read_dicom(one, pixels=False)) for one in files]
    images = [header for header in headers if header.raw("Rows") is not None]
    series = {header.word("SeriesInstanceUID") for header in images}
    if len(series) > 1:
        raise InputError(path, f"it holds {len(series)} DICOM series", "Leave one series in a folder of its own")
    if not images:
        raise InputError(path, "its DICOM files are no images", "Give the folder of the CT's slices")
    return [_ct_header(header) for header in images]


def _ct_header(header: Header) -> Header:
    modality = header.word("Modality") or "CT"
    if modality != "CT":
        raise InputError(header.path, f"its modality is {modality}", "Give a CT")
    return header


def _needed(header: Header, keyword: str, count: int, limits: tuple[float, float], unit: str = "") -> tuple[float, ...]:
    values = header.numbers(keyword, count, limits, unit)
    if values is None:
        raise InputError(header.path, f"{source_of(keyword)} is missing", "Export the series again")
    return values


def _slices(header: Header) -> list[Slice]:
    """All frames of a file."""
    found = []
    for frame in range(header.frames):
        one = header.of_frame(frame)
        position = _needed(one, "ImagePositionPatient", 3, (-FAR_MM, FAR_MM), "mm")
        axes = _needed(one, "ImageOrientationPatient", 6, (-1.1, 1.1))
        spacing = _needed(one, "PixelSpacing", 2, (1e-3, 100.0), "mm")
        rows, columns = (int(_needed(one, keyword, 1, (1, 65535))[0]) for keyword in ("Rows", "Columns"))
        directions = np.array(axes).reshape(2, 3)
        if np.abs(np.linalg.norm(directions, axis=1) - 1).max() > UNIT_LENGTH:
            where = f"{header.path}: {source_of('ImageOrientationPatient')}"
            raise InputError(where, "its directions are not of length 1", "Export the series again")
        # DICOM gives the distance of rows first.
        found.append(Slice(one, np.array(position), directions, (spacing[1], spacing[0]), (rows, columns)))
    return found


def _one_stack(path: Path, slices: list[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """Slices of one direction, size and spacing; scouts under the same UID are left out, and said."""
    scouts = [one for one in slices if "LOCALIZER" in one.header.words("ImageType")]
    stack = [one for one in slices if one not in scouts]
    groups: dict[tuple[Any, ...], list[Slice]] = {}
    for one in stack:
        key = (one.shape, tuple(np.round(one.spacing, 4)), tuple(np.round(one.axes.ravel(), 2)))
        groups.setdefault(key, []).append(one)
    largest = max(groups.values(), key=len, default=[])
    odd = [one for group in groups.values() if group is not largest for one in group]
    if len(odd) > max(2, UNEVEN_SHARE * len(largest)):
        raise InputError(path, f"its slices are of {len(groups)} sizes or directions", AGAIN)
    left_out = len(scouts) + len(odd)
    notes: tuple[str, ...] = ()
    if left_out:
        names = ", ".join(sorted({one.header.path.name for one in (*scouts, *odd)})[:3])
        notes = (f"{left_out} image{'s' if left_out > 1 else ''} left out as no slice of the CT ({names})",)
    if len(largest) < 2:
        what = "it is one slice of a CT" if largest else "it holds no slice of a CT"
        raise InputError(path, what, "Give the folder of the whole series")
    return largest, notes


def _ordered(path: Path, slices: Sequence[Slice]) -> tuple[list[Slice], Float[np.ndarray, "4 4"], tuple[str, ...]]:
    """Slices from first to last, and the grid that they make."""
    first = slices[0]
    along = np.array([one.position @ first.normal for one in slices])
    ordered = [slices[index] for index in along.argsort(kind="stable")]
    positions = np.stack([one.position for one in ordered])
    gaps = np.diff(positions @ first.normal)
    step = float(np.median(gaps))
    if gaps.min() < SAME_PLACE_MM:
        double = int((gaps < SAME_PLACE_MM).sum())
        what = (
            "all its slices lie in one place" if double == len(gaps) else f"{double} slices lie where another one does"
        )
        raise InputError(path, what, "Export the series again: phases or series are mixed, or positions are wrong")
    if np.abs(gaps - step).max() > UNEVEN_SHARE * abs(step):
        worst = int(np.abs(gaps - step).argmax())
        what = f"slices are {step:.3g} mm apart, but {gaps[worst]:.3g} mm after slice {worst + 1}"
        raise InputError(path, what, AGAIN)
    sideways = np.abs(np.diff(positions, axis=0) - gaps[:, None] * first.normal).max()
    if sideways > UNEVEN_SHARE * abs(step):
        raise InputError(path, "the gantry was tilted", "Resample it to an upright grid (dcm2niix does)")
    turned = max(float(np.abs(one.axes - first.axes).max()) for one in ordered)
    if turned > SAME_DIRECTION:
        raise InputError(path, "its slices have different directions", AGAIN)
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1] = first.axes[0] * first.spacing[0], first.axes[1] * first.spacing[1]
    # By the ends: rounding of single positions does not add up.
    frame[:3, 2] = (positions[-1] - positions[0]) / (len(ordered) - 1)
    frame[:3, 3] = positions[0]
    size = (first.shape[1], first.shape[0], len(ordered))
    upright, notes = checked_frame(path, frame, size, KEYS)
    return ordered, upright, notes


def _values(path: Path, slices: Sequence[Slice]) -> Float[np.ndarray, "D H W"]:
    """Hounsfield units, or whatever the rescale tags of each slice make of what is stored."""
    rows, columns = slices[0].shape
    require_memory(path, len(slices) * rows * columns * WORKING_BYTES_PER_VOXEL)
    out = np.empty((len(slices), rows, columns), np.float32)
    read: dict[Path, Shaped[np.ndarray, "F R C"]] = {}
    for index, one in enumerate(slices):
        name = one.header.path
        if name not in read:
            read = {name: pixel_frames(replace(one.header, dataset=read_dicom(name)))}
        slope, intercept = rescale_of(one.header)
        out[index] = read[name][one.header.frame] * np.float32(slope) + np.float32(intercept)
    return out


def rescale_of(header: Header) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where no tag says."""
    slope = header.number("RescaleSlope", (-1e6, 1e6))
    intercept = header.number("RescaleIntercept", (-1e7, 1e7))
    if slope == 0:
        raise InputError(f"{header.path}: {source_of('RescaleSlope')}", "it is 0", "Export the series again")
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
