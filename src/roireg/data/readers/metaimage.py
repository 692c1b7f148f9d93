"""MetaImage (.mha, .mhd), read from its text header without ITK, which crashes on odd numbers there."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from roireg.data.readers.gate import check_regular
from roireg.data.readers.grid import (
    Keys,
    StoredVolume,
    checked_frame,
    checked_size,
    checked_spacing,
    detached,
    read_ascii,
    read_values,
)
from roireg.data.readers.numbers import numbers_of
from roireg.errors import InputError

HEADER_LIMIT_BYTES = 2**18
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
KEYS = Keys("ElementSpacing", "TransformMatrix", "Offset")
DIRECTIONS, ORIGINS = ("TransformMatrix", "Rotation", "Orientation"), ("Offset", "Position", "Origin")


def read_meta_image(path: Path) -> StoredVolume:
    """A MetaImage file.

    Raises:
        InputError: its header does not describe a volume of numbers, or voxels are missing.
    """
    fields, length = _header(path)
    sizes = numbers_of(f"{path}: DimSize", _needed(path, fields, "DimSize"), None, (1, 2**31))
    if _integer(path, fields, "ElementNumberOfChannels", "1") != 1:
        raise InputError(path, "it has several channels", "Give a three-dimensional CT of one channel")
    size = checked_size(path, [int(one) for one in sizes], "DimSize")
    frame, notes = _frame(path, fields, size, len(sizes))
    dtype = _dtype(path, fields)
    name = _needed(path, fields, "ElementDataFile")
    skip = _integer(path, fields, "HeaderSize", "0")
    if name.split()[0] == "LIST" or "%" in name:
        raise InputError(path, "its voxels are in several files", "Convert it to one .mha file")
    data = path if name == "LOCAL" else check_regular(detached(path, name))
    start = length if name == "LOCAL" else skip
    if skip < 0:
        start = max(data.stat().st_size - dtype.itemsize * size[0] * size[1] * size[2], 0)
    if fields.get("BinaryData", "True").lower() == "false":
        values = read_ascii(path, data.read_bytes()[start:], dtype, size)
    elif fields.get("CompressedData", "False").lower() == "true":
        values = _inflated(path, data, start, fields, dtype, size)
    else:
        values = read_values(path, data, start, "none", dtype, size)
    return StoredVolume(values, frame, notes)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the text header, and its length in bytes: it ends after the line of `ElementDataFile`."""
    with path.open("rb") as file:
        start = file.read(HEADER_LIMIT_BYTES)
    fields: dict[str, str] = {}
    at = 0
    while at < len(start):
        end = start.find(b"\n", at)
        if end < 0:
            break
        line, at = start[at:end], end + 1
        if not line.strip():
            continue
        key, equals, value = (part.strip() for part in line.partition(b"="))
        if not equals or not key.isascii() or len(key) > 80:
            break
        name = key.decode("ascii")
        if name in fields:
            raise InputError(f"{path}: {name}", "it stands twice in the header", "Correct the header")
        fields[name] = value.decode("utf-8", "replace")
        if name == "ElementDataFile":
            return fields, at
    raise InputError(path, "its header has no ElementDataFile", "Copy or download it again")


def _needed(path: Path, fields: dict[str, str], key: str) -> str:
    value = fields.get(key, "")
    if not value:
        raise InputError(f"{path}: {key}", "the header does not have it", "Correct the header, or export it again")
    return value


def _integer(path: Path, fields: dict[str, str], key: str, default: str) -> int:
    (value,) = numbers_of(f"{path}: {key}", fields.get(key) or default, 1, (-1, 2**40))
    return int(value)


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype:
    name = _needed(path, fields, "ElementType")
    if name not in TYPES:
        raise InputError(f"{path}: ElementType", f"it is {name}", f"Give a CT of one of {', '.join(TYPES)}")
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    return np.dtype((">" if big else "<") + TYPES[name])


def _frame(
    path: Path, fields: dict[str, str], size: tuple[int, int, int], count: int
) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    spacing = numbers_of(f"{path}: ElementSpacing", _needed(path, fields, "ElementSpacing"), count, (-1e6, 1e6))
    checked_spacing(path, np.array(spacing[:3]), "ElementSpacing")
    stated = [next((fields[key] for key in keys if key in fields), None) for keys in (DIRECTIONS, ORIGINS)]
    frame, notes = np.eye(4), []
    directions = np.eye(count)
    if stated[0] is None:
        notes.append("its header has no TransformMatrix: voxels are taken to run to the patient's left, back and head")
    else:
        directions = np.array(numbers_of(f"{path}: TransformMatrix", stated[0], count**2, (-1e6, 1e6)))
        # A row for each axis.
        directions = directions.reshape(count, count)
        lengths = np.linalg.norm(directions, axis=1)
        if np.abs(lengths - 1).max() > 0.01:
            raise InputError(f"{path}: TransformMatrix", "its rows are not of length 1", "Correct the header")
    frame[:3, :3] = directions[:3, :3].T * np.array(spacing[:3])
    if stated[1] is None:
        notes.append("its header has no Offset: the first voxel is taken to lie at 0, 0, 0")
    else:
        frame[:3, 3] = numbers_of(f"{path}: Offset", stated[1], count, (-1e6, 1e6))[:3]
    frame, more = checked_frame(path, frame, size, KEYS)
    return frame, (*notes, *more)


def _inflated(
    path: Path, data: Path, start: int, fields: dict[str, str], dtype: np.dtype, size: tuple[int, int, int]
) -> np.ndarray:
    stated = _integer(path, fields, "CompressedDataSize", "0")
    held = data.stat().st_size - start
    if stated > held:
        raise InputError(path, "it is truncated: voxels are missing", "Copy or download it again")
    return read_values(path, data, start, "zlib", dtype, size)
