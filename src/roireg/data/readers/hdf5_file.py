"""Checked access to HDF5 files: what is damaged, missing or no array of numbers is one line that names the key."""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from roireg.data.readers.gate import brief, check_regular, require_memory
from roireg.errors import InputError

# What h5py raises on damaged files is not documented.
READ_ERRORS = (Exception,)
AGAIN = "Download it again; it may be truncated"


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
def reading(file: h5py.File, key: str) -> Iterator[None]:
    """Context of one access: whatever h5py raises on a damaged file is one line that names the key."""
    try:
        yield
    except InputError:
        raise
    except READ_ERRORS as error:
        raise InputError(f"{file.filename}:{key}", f"it cannot be read ({brief(error)})", AGAIN) from None


def has(file: h5py.File, key: str) -> bool:
    with reading(file, key):
        return key in file


def names_in(file: h5py.File, key: str, groups_only: bool) -> list[str]:
    """Names within a group, sorted."""
    with reading(file, key):
        group = file[key]
        return sorted(name for name in group if not groups_only or group.get(name, getclass=True) is h5py.Group)


def item_at(file: h5py.File, key: str) -> h5py.Group | h5py.Dataset:
    try:
        return file[key]
    except KeyError:
        remedy = "The file must follow the DeepFluoro layout (docs/conventions.md)"
        raise InputError(f"{file.filename}:{key}", "it is missing", remedy) from None
    except READ_ERRORS as error:
        raise InputError(f"{file.filename}:{key}", f"it cannot be read ({brief(error)})", AGAIN) from None


def group_at(file: h5py.File, key: str) -> h5py.Group:
    item = item_at(file, key)
    if not isinstance(item, h5py.Group):
        raise InputError(f"{file.filename}:{key}", "it is not a group", "The file must follow the DeepFluoro layout")
    return item


def positive_at(file: h5py.File, key: str, shape: tuple[int, ...]) -> np.ndarray:
    value = array_at(file, key, shape)
    if not (value > 0).all():
        raise InputError(f"{file.filename}:{key}", f"it is {value.tolist()}, not positive", "Correct it")
    return value


def array_at(file: h5py.File, key: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """A numeric array, reshaped to `shape` if given: `(3, 1)` is accepted for `(3,)`."""
    item = item_at(file, key)
    where = f"{file.filename}:{key}"
    layout = "The file must follow the DeepFluoro layout"
    with reading(file, key):
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
