"""Atomic file writes: a file is either written completely, or not at all; a full disk is one line."""

import csv
import errno
import math
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roireg.errors import InputError

if TYPE_CHECKING:
    import h5py
    import pandas as pd

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
CORE_BLOCK_BYTES = 2**24
# File systems allow 255 bytes.
STEM_BYTES = 150


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname()) or "host"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _short(stem: str) -> str:
    return stem.encode("utf-8", "surrogateescape")[:STEM_BYTES].decode("utf-8", "ignore")


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files for `path` whose process on this host is dead."""
    pattern = re.compile(rf"\.{re.escape(_short(path.stem))}\.{_host()}-(\d+){re.escape(path.suffix)}")
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(".")]
    for name in names:
        found = pattern.fullmatch(name)
        if found and not _alive(int(found[1])):
            with suppress(OSError):
                (path.parent / name).unlink(missing_ok=True)


def write_error(path: str | Path, error: OSError) -> InputError | None:
    """The error of one line for a file that could not be written: a full disk, or no permission; None for others."""
    if error.errno in NO_SPACE:
        remedy = "Make space and run the same command again: it continues with what is missing"
        return InputError(path, "the disk is full", remedy)
    if error.errno in CANNOT_WRITE:
        return InputError(path, f"it cannot be written ({error.strerror})", "Choose another folder")
    return None


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Context with a temporary path beside `path`; it is renamed to `path` on success and removed on failure.

    Temporary files of dead processes for the same `path` are removed.

    Raises:
        InputError: the disk is full, or the file cannot be written there.
    """
    path = Path(path)
    temporary = path.with_name(f".{_short(path.stem)}.{_host()}-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        told = write_error(path, error)
        if told is None:
            raise
        raise told from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_hdf5(path: str | Path) -> Iterator["h5py.File"]:
    """Context with a new HDF5 file, which is made in memory and written atomically on success.

    HDF5 crashes if the disk becomes full while it writes; a plain write fails with an error.

    Raises:
        InputError: the disk is full, or the file cannot be written there.
    """
    import h5py

    with atomic_path(path) as temporary:
        with h5py.File(str(temporary), "w", driver="core", backing_store=False, block_size=CORE_BLOCK_BYTES) as file:
            yield file
            file.flush()
            content = file.id.get_file_image()
        with temporary.open("wb") as out:
            out.write(content)


def check_writable(folder: str | Path) -> None:
    """Check that a folder for results can be created and written to, before they are computed; leave nothing there.

    Raises:
        InputError: it is a file, or cannot be created or written to.
    """
    folder = Path(folder)
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with atomic_path(folder / "writable") as probe:
        probe.write_bytes(b"")
    with suppress(OSError):
        (folder / "writable").unlink()
        for one in made:
            one.rmdir()


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV, atomically."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of equal keys as CSV, atomically, without pandas; NaN becomes an empty cell."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: "" if _is_nan(value) else value for key, value in row.items()})


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
