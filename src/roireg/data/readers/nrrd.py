"""NRRD (.nrrd, .nhdr) and 3D Slicer's segmentations (.seg.nrrd), read without ITK, which crashes on odd headers."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from roireg.data.readers.gate import check_regular, open_stream
from roireg.data.readers.grid import (
    Keys,
    StoredVolume,
    checked_frame,
    checked_size,
    detached,
    read_ascii,
    values_of,
)
from roireg.data.readers.numbers import number_of, numbers_of
from roireg.errors import InputError

HEADER_LIMIT_BYTES = 2**20
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
CODE_OF_TYPE = {name: code for code, names in TYPES.items() for name in names}
COMPRESSIONS = {"raw": "none", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
TEXT_ENCODINGS = ("ascii", "text", "txt")
# Signs that make LPS of a space's axes.
SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
KEYS = Keys("space directions", "space directions", "space origin")
VECTOR = re.compile(r"\(([^()]*)\)|none", re.IGNORECASE)
SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")


def read_nrrd(path: Path) -> StoredVolume:
    """A NRRD file; of a segmentation with layers, later segments lie over earlier ones.

    Raises:
        InputError: its header does not describe a volume of numbers, or voxels are missing.
    """
    fields, pairs, length = _header(path)
    dimension = int(number_of(f"{path}: dimension", _needed(path, fields, "dimension"), (1, 16)))
    sizes = [int(one) for one in numbers_of(f"{path}: sizes", _needed(path, fields, "sizes"), dimension, (1, 2**31))]
    vectors = _directions(path, fields, dimension)
    apart = [axis for axis, vector in enumerate(vectors) if vector is None]
    spatial = [axis for axis, vector in enumerate(vectors) if vector is not None]
    layers = sizes[apart[0]] if apart else 1
    if len(spatial) != 3 or len(apart) > 1 or (layers > 1 and apart != [0]):
        raise InputError(path, f"it is not a volume ({dimension} axes)", "Give a three-dimensional CT of one channel")
    size = checked_size(path, [sizes[axis] for axis in spatial], "sizes")
    frame, notes = _frame(path, fields, [vectors[axis] for axis in spatial], size)
    values = _values(path, fields, length, (size[0] * layers, size[1], size[2]))
    names: dict[int, str] = {}
    segments = _segments(path, pairs)
    if segments:
        values, names = _as_labels(values.reshape(*size[::-1], layers), segments)
    elif layers > 1:
        raise InputError(path, f"it has {layers} channels", "Give a three-dimensional CT of one channel")
    return StoredVolume(values, frame, notes, names)


def _header(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, key-value pairs, and the header's length in bytes: up to and with the first empty line."""
    with path.open("rb") as file:
        start = file.read(HEADER_LIMIT_BYTES)
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    at = start.find(b"\n") + 1
    while 0 < at < len(start):
        end = start.find(b"\n", at)
        end = len(start) if end < 0 else end
        line, at = start[at:end].strip(b"\r").decode("utf-8", "replace"), end + 1
        if not line.strip():
            break
        if line.startswith("#"):
            continue
        key, mark, value = line.partition(":")
        if not mark:
            raise InputError(path, f"its header has a line that is none of NRRD ({line[:40]!r})", "Export it again")
        if value.startswith("="):
            pairs[key] = value[1:]
        elif key.strip().lower() in fields:
            raise InputError(f"{path}: {key.strip()}", "it stands twice in the header", "Correct the header")
        else:
            fields[key.strip().lower()] = value.strip()
    return fields, pairs, min(at, len(start)) if at else 0


def _needed(path: Path, fields: dict[str, str], key: str) -> str:
    value = fields.get(key, "")
    if not value:
        raise InputError(f"{path}: {key}", "the header does not have it", "Correct the header, or export it again")
    return value


def _directions(path: Path, fields: dict[str, str], dimension: int) -> list[tuple[float, ...] | None]:
    """The vector of each axis; None for one that is not of space."""
    text = _needed(path, fields, "space directions")
    parts = [match for match in VECTOR.finditer(text)]
    if len(parts) != dimension or VECTOR.sub("", text).strip():
        what = f"it has {len(parts)} vectors, and {dimension} axes"
        raise InputError(f"{path}: space directions", what, "Correct the header")
    return [
        None if part[1] is None else numbers_of(f"{path}: space directions", part[1].split(","), 3, (-1e6, 1e6))
        for part in parts
    ]


def _frame(
    path: Path, fields: dict[str, str], vectors: list[Any], size: tuple[int, int, int]
) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    space = _needed(path, fields, "space").lower()
    if space not in SPACES:
        raise InputError(f"{path}: space", f"it is {space!r}", f"Use one of {', '.join(SPACES)}")
    units = {unit.strip('"').lower() for unit in fields.get("space units", '"mm"').split()}
    if units - {"mm", "millimeter", "millimetre"}:
        raise InputError(f"{path}: space units", f"it is {fields['space units']}", "Give lengths in millimetres")
    signs = np.array(SPACES[space], dtype=float)
    frame, notes = np.eye(4), []
    frame[:3, :3] = (np.array(vectors) * signs).T
    if "space origin" in fields:
        origin = fields["space origin"].strip("()").split(",")
        frame[:3, 3] = signs * numbers_of(f"{path}: space origin", origin, 3, (-1e6, 1e6))
    else:
        notes.append("its header has no space origin: the first voxel is taken to lie at 0, 0, 0")
    frame, more = checked_frame(path, frame, size, KEYS)
    return frame, (*notes, *more)


def _values(path: Path, fields: dict[str, str], length: int, size: tuple[int, int, int]) -> Shaped[np.ndarray, "D H W"]:
    kind = " ".join(_needed(path, fields, "type").lower().split())
    encoding = _needed(path, fields, "encoding").lower()
    if kind not in CODE_OF_TYPE:
        raise InputError(f"{path}: type", f"it is {kind!r}", "Give a CT of one channel of numbers")
    code = CODE_OF_TYPE[kind]
    if code[1] != "1" and encoding not in TEXT_ENCODINGS and fields.get("endian") not in ("little", "big"):
        raise InputError(f"{path}: endian", "the header does not say little or big", "Correct the header")
    dtype = np.dtype((">" if fields.get("endian") == "big" else "<") + code)
    name = fields.get("data file", fields.get("datafile"))
    if name == "":
        raise InputError(f"{path}: data file", "it names none", "Correct the header")
    if name is not None and (name.split()[0] == "LIST" or "%" in name):
        raise InputError(path, "its voxels are in several files", "Convert it to one .nrrd file")
    data, start = (path, length) if name is None else (check_regular(detached(path, name)), 0)
    if encoding in TEXT_ENCODINGS:
        return read_ascii(path, data.read_bytes()[start:], dtype, size)
    if encoding not in COMPRESSIONS:
        what = f"it is {encoding!r}"
        raise InputError(f"{path}: encoding", what, f"Save it as {', '.join((*COMPRESSIONS, *TEXT_ENCODINGS))}")
    lines = int(number_of(f"{path}: line skip", fields.get("line skip", fields.get("lineskip", "0")), (0, 1e6)))
    skip = int(number_of(f"{path}: byte skip", fields.get("byte skip", fields.get("byteskip", "0")), (-1, 2**40)))
    compression = COMPRESSIONS[encoding]
    if lines:
        with data.open("rb") as file:
            file.seek(start)
            for _ in range(lines):
                file.readline(HEADER_LIMIT_BYTES)
            start = file.tell()
    if compression == "none":
        count = dtype.itemsize * size[0] * size[1] * size[2]
        start = max(data.stat().st_size - count, 0) if skip < 0 else start + skip
        skip = 0
    elif skip < 0:
        raise InputError(f"{path}: byte skip", "it is negative, and voxels are compressed", "Correct the header")
    with open_stream(data, compression, start) as stream:
        if skip:
            stream.read(skip)
        return values_of(path, data, stream, compression, dtype, size)


def _segments(path: Path, pairs: dict[str, str]) -> list[tuple[str, int, int]]:
    """Name, value and layer of each segment that 3D Slicer has written down, in their order."""
    found: dict[int, dict[str, str]] = {}
    for key, value in pairs.items():
        match = SEGMENT.fullmatch(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value.strip()
    segments = []
    for number, entry in sorted(found.items()):
        label, layer = (
            int(number_of(f"{path}: Segment{number}_{key}", entry.get(key, default), (0, 2**16)))
            for key, default in (("LabelValue", str(number + 1)), ("Layer", "0"))
        )
        segments.append((entry.get("Name", f"segment {number + 1}"), label, layer))
    return segments


def _as_labels(
    layers: Shaped[np.ndarray, "D H W L"], segments: list[tuple[str, int, int]]
) -> tuple[Shaped[np.ndarray, "D H W"], dict[int, str]]:
    """One label a voxel, and their names; ids are the segments' own where those are distinct."""
    values = [value for _, value, _ in segments]
    distinct = len(set(values)) == len(values) and 0 not in values
    if distinct and layers.shape[-1] == 1:
        return layers[..., 0], {value: name for name, value, _ in segments}
    out = np.zeros(layers.shape[:3], np.uint16)
    names = {}
    for number, (name, value, layer) in enumerate(segments, start=1):
        label = value if distinct else number
        if layer < layers.shape[-1]:
            out[layers[..., layer] == value] = label
            names[label] = name
    return out, names
