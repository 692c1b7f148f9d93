"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped: the header by nibabel, then every voxel and the checksum."""

import zlib
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Float
from nibabel import Nifti1Header, Nifti2Header
from nibabel.spatialimages import HeaderDataError

from roireg.data.readers.gate import brief, open_stream
from roireg.data.readers.grid import (
    Keys,
    StoredVolume,
    checked_frame,
    checked_size,
    checked_spacing,
    values_of,
)
from roireg.errors import InputError

HEADERS = {348: (Nifti1Header, 348), 540: (Nifti2Header, 540)}
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
KEYS = Keys("pixdim", "sform or qform", "the offset of sform or qform")
MM_OF_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
UNIT_NAMES = {1: "metres", 3: "micrometres"}
GREATEST_OFFSET = 2**28
# Two stated frames that are nearer to each other than this are one, written with other rounding.
SAME_PLACE_MM = 0.1


def read_nifti(path: Path) -> StoredVolume:
    """A NIfTI file.

    Raises:
        InputError: it is damaged, or its header does not describe a volume of numbers.
    """
    with path.open("rb") as file:
        compression = "gzip" if file.read(2) == b"\x1f\x8b" else "none"
    with open_stream(path, compression) as stream:
        header = _header(path, stream)
        size = checked_size(path, header.get_data_shape(), "dim")
        dtype = _dtype(path, header)
        frame, notes = _frame(path, header, size)
        _skip(path, stream, header)
        values = values_of(path, path, stream, compression, dtype, size)
    slope, intercept = _scaling(path, header)
    if (slope, intercept) == (1.0, 0.0):
        return StoredVolume(values, frame, notes)
    scaled = (values * np.float32(slope) + np.float32(intercept)).astype(np.float32)
    return StoredVolume(scaled, frame, notes, unscaled=values)


def _header(path: Path, stream: BinaryIO) -> Nifti1Header:
    damaged = "Copy or download it again"
    try:
        start = stream.read(348)
        order: Literal["little", "big"] = "little" if int.from_bytes(start[:4], "little") in HEADERS else "big"
        found = HEADERS.get(int.from_bytes(start[:4], order))
        if found is None or len(start) < 348:
            raise InputError(path, "its header is truncated or is none of NIfTI", damaged)
        kind, length = found
        start += stream.read(length - len(start))
        header = kind(start, "<" if order == "little" else ">", check=False)
    except (EOFError, OSError, zlib.error, ValueError, HeaderDataError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"its header is damaged ({brief(error)})", damaged) from None
    if bytes(header["magic"].tobytes()[:2]) == b"ni":
        raise InputError(path, "it is a header whose voxels are in another file (.hdr and .img)", "Convert it to .nii")
    if bytes(header["magic"].tobytes()[:2]) != b"n+":
        raise InputError(path, "it is no NIfTI file (Analyze does not say which side is left)", "Convert it to .nii")
    return header


def _dtype(path: Path, header: Nifti1Header) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError, ValueError) as error:
        raise InputError(f"{path}: datatype", f"it is unknown ({brief(error)})", "Export the image again") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: datatype", f"a voxel is no number ({dtype})", "Give a CT of one channel")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        what = f"it is {int(header['bitpix'])}, and a voxel of type {dtype.name} has {8 * dtype.itemsize}"
        raise InputError(f"{path}: bitpix", what, "Correct the header")
    return dtype


def _skip(path: Path, stream: BinaryIO, header: Nifti1Header) -> None:
    offset = float(header["vox_offset"])
    done = int(header["sizeof_hdr"])
    if not np.isfinite(offset) or not done <= offset <= GREATEST_OFFSET:
        raise InputError(f"{path}: vox_offset", f"it is {offset:g}", "Correct the header")
    try:
        if len(stream.read(int(offset) - done)) != int(offset) - done:
            raise EOFError
    except (EOFError, OSError, zlib.error):
        raise InputError(path, "it is truncated: voxels are missing", "Copy or download it again") from None


def _scaling(path: Path, header: Nifti1Header) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{path}: scl_slope, scl_inter", brief(error), "Correct the header") from None
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))


def _frame(
    path: Path, header: Nifti1Header, size: tuple[int, int, int]
) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    """The frame that the file states, LPS, and what was chosen or corrected.

    `sform` counts where both are set, as NIfTI's readers have it that are not ITK's.
    """
    unit = int(header["xyzt_units"]) & 7
    scale = MM_OF_UNIT.get(unit, 1.0)
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64)) * scale
    checked_spacing(path, pixdim, "pixdim")
    notes = [f"its lengths are in {UNIT_NAMES[unit]}: converted to mm"] if unit in UNIT_NAMES else []
    codes = int(header["sform_code"]), int(header["qform_code"])
    stated = {}
    if codes[0] > 0:
        stated["sform"] = np.asarray(header.get_sform(), dtype=np.float64)
    if codes[1] > 0:
        try:
            stated["qform"] = np.asarray(header.get_qform(), dtype=np.float64)
        except (HeaderDataError, ValueError) as error:
            if "sform" not in stated:
                raise InputError(f"{path}: qform", brief(error), "Correct the header") from None
    frames = {name: LPS_FROM_RAS @ _scaled(one, scale) for name, one in stated.items()}
    if not frames:
        # As ITK reads such files; the standard's oldest method takes the same numbers for RAS.
        plain = np.diag([*pixdim, 1.0])
        notes.append(
            "neither sform nor qform is set, so nothing says how the patient lies: voxels are taken to run to the "
            "patient's left, back and head; other programs take right, front and head. Look at an overlay"
        )
        frame, more = checked_frame(path, plain, size, KEYS)
        return frame, (*notes, *more)
    if len(frames) == 2:
        apart_mm = _apart_mm(frames["sform"], frames["qform"], size)
        if not apart_mm <= SAME_PLACE_MM:
            told = f"{apart_mm:.3g} mm" if np.isfinite(apart_mm) else "no finite distance"
            notes.append(
                f"sform (code {codes[0]}) and qform (code {codes[1]}) place voxels up to {told} apart: sform was taken"
            )
    taken = "sform" if "sform" in frames else "qform"
    frame, more = checked_frame(path, frames[taken], size, KEYS)
    notes += [f"{taken}: {note}" for note in more]
    sizes = np.linalg.norm(frame[:3, :3], axis=0)
    if np.abs(sizes / pixdim - 1).max() > 0.01:
        told = " x ".join(f"{x:.4g}" for x in pixdim)
        notes.append(f"pixdim says {told} mm, and {taken} another voxel size: {taken} was taken")
    return frame, tuple(notes)


def _scaled(frame: Float[np.ndarray, "4 4"], scale: float) -> Float[np.ndarray, "4 4"]:
    return np.diag([scale, scale, scale, 1.0]) @ frame


def _apart_mm(one: Float[np.ndarray, "4 4"], other: Float[np.ndarray, "4 4"], size: tuple[int, int, int]) -> float:
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(size) - 1
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())
