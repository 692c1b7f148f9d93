"""The one way in for files that users bring: is it a file, of what kind by its content, and does it fit in memory?"""

import bz2
import gzip
import io
import os
import stat
import zlib
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from roireg.errors import InputError

# Of the memory that is free, so that what is made of the values fits too.
MEMORY_FRACTION = 0.8
CGROUP_LIMIT, CGROUP_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
# Deflate makes at most 1032 bytes of one; bzip2 makes more of runs.
GREATEST_RATIO = {"gzip": 1040, "zlib": 1040, "bzip2": 500_000}
# Padding that writers leave at the end.
SPARE_BYTES, PADDING = 512, b"\0\r\n "
CHUNK_BYTES = 2**24
AGAIN = "Copy or download it again"
DICOM_GROUPS = (b"\x02\x00", b"\x08\x00")
MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"NRRD": "nrrd",
}
NIFTI_SIZES = (348, 540)


class Content(StrEnum):
    """What a file holds, by its first bytes."""

    DICOM = "dicom"
    HDF5 = "hdf5"
    META_IMAGE = "metaimage"
    NIFTI = "nifti"
    NRRD = "nrrd"
    PNG = "png"
    TIFF = "tiff"
    UNKNOWN = "unknown"


def check_regular(path: str | Path) -> Path:
    """The path, if it is that of a regular file that can be read and is not empty.

    Raises:
        InputError: it is not there, is a folder or a device, cannot be read, or is empty.
    """
    path = Path(path)
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise InputError(path, "it cannot be read (permission denied)", "Change its permissions") from None
        raise InputError(path, "there is no such file or folder", "Check the path") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(path, "it is a folder", "Give a file")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(path, "it is a pipe or a device", "Give a regular file")
    if not os.access(path, os.R_OK):
        raise InputError(path, "it cannot be read (permission denied)", "Change its permissions")
    if found.st_size == 0:
        raise InputError(path, "it is empty", AGAIN)
    return path


def content_of(path: str | Path) -> Content:
    """What a file holds, by its content and not by its name; a gzipped file counts as what is in it.

    Raises:
        InputError: it is no regular file.
    """
    path = check_regular(path)
    with path.open("rb") as file:
        start = file.read(4096)
    if start[:2] == b"\x1f\x8b":
        start = _first_inflated(start)
    if start[128:132] == b"DICM":
        return Content.DICOM
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            return Content(kind)
    if any(int.from_bytes(start[:4], order) in NIFTI_SIZES for order in ("little", "big")):
        return Content.NIFTI
    if _looks_like_meta_image(start):
        return Content.META_IMAGE
    # Without preamble: the first element is one of group 2 or 8, with a two-letter type or a small length.
    if start[:2] in DICOM_GROUPS and (start[4:6].isalpha() or int.from_bytes(start[4:8], "little") < 2**16):
        return Content.DICOM
    return Content.UNKNOWN


def _first_inflated(start: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(start, 4096)
    except zlib.error:
        return b""


def _looks_like_meta_image(start: bytes) -> bool:
    key = start.split(b"=", 1)[0].strip()
    return key in (b"ObjectType", b"NDims", b"Comment", b"ObjectSubType", b"TransformType") and b"=" in start


def available_memory_bytes() -> int:
    """Memory that this process may still take, by the machine and by the container that it runs in."""
    free = psutil.virtual_memory().available
    try:
        limit = CGROUP_LIMIT.read_text(encoding="utf-8").strip()
        if limit != "max":
            free = min(free, int(limit) - int(CGROUP_USE.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        free = min(free, soft - psutil.Process().memory_info().vms)
    return max(free, 0)


def require_memory(where: object, needed_bytes: int) -> None:
    """Refuse what does not fit, before it is allocated.

    Raises:
        InputError: less memory is free.
    """
    free = int(MEMORY_FRACTION * available_memory_bytes())
    if needed_bytes > free:
        what = f"its header asks for {needed_bytes / 1e9:.3g} GB of memory, and {free / 1e9:.1f} GB are free"
        raise InputError(where, what, "Give a smaller image, or correct its header")


class _Zlib(io.RawIOBase):
    """What a zlib stream holds, to its checksum, as `gzip.GzipFile` does for gzip."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflate, self._left = file, zlib.decompressobj(wbits=47), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflate.eof:
            source = self._left or self._file.read(CHUNK_BYTES)
            got = self._inflate.decompress(source, len(buffer))
            self._left = self._inflate.unconsumed_tail
            if got:
                buffer[: len(got)] = got
                return len(got)
            if not source:
                raise EOFError
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()


def open_stream(path: Path, compression: str, skip: int = 0) -> BinaryIO:
    """A stream of what a file holds from byte `skip` on, inflated as `compression` says: gzip, bzip2, zlib, or none."""
    file = path.open("rb")
    file.seek(skip)
    if compression == "zlib":
        return io.BufferedReader(_Zlib(file), CHUNK_BYTES)
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if compression == "bzip2":
        return bz2.BZ2File(file)  # type: ignore[return-value]
    return file


def read_exactly(path: Path, stream: BinaryIO, count: int) -> bytearray:
    """`count` bytes, and then the end of the stream: a compressed one is read to its checksum.

    Raises:
        InputError: there are fewer or more bytes, or a checksum does not fit.
    """
    try:
        values = bytearray(count)
        view, done = memoryview(values), 0
        while done < count:
            got = stream.readinto(view[done : done + CHUNK_BYTES])  # type: ignore[attr-defined]
            if not got:
                raise InputError(path, "it is truncated: voxels are missing", AGAIN)
            done += got
        more = 0
        while rest := stream.read(CHUNK_BYTES):
            more += len(rest)
            # Anything but padding is the end of voxels that were moved.
            if more > SPARE_BYTES or rest.strip(PADDING):
                raise InputError(path, "it holds more voxels than its header says", AGAIN)
    except EOFError:
        raise InputError(path, "it is truncated: voxels are missing", AGAIN) from None
    except (OSError, zlib.error, ValueError) as error:
        raise InputError(path, f"it is damaged ({brief(error)})", AGAIN) from None
    return values


def check_expansion(path: Path, compression: str, count: int) -> None:
    """Refuse a header that asks for more than its file can hold, before anything is allocated.

    Raises:
        InputError: the file is too short for `count` bytes.
    """
    greatest = path.stat().st_size * GREATEST_RATIO.get(compression, 1)
    if count > greatest:
        raise InputError(path, "it is truncated: it is shorter than its header says", AGAIN)


def brief(error: Exception, length: int = 120) -> str:
    """What an error says, in one short line."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= length else line[: length - 3] + "..."
