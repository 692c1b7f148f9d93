"""Files that the page uploads: kept in the session's private folder, under their own names."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

from roireg.errors import InputError
from roireg.files import write_error

GROUP = re.compile(r"[a-z0-9-]{1,40}")
LONGEST_NAME = 200


def place_of(folder: Path, group: str, name: str) -> Path:
    """Where a file is kept: a group is what is opened together, such as the slices of a series.

    Raises:
        InputError: the group or the name could lead elsewhere.
    """
    if not GROUP.fullmatch(group):
        raise InputError(f"upload {group}", "it is no group of files", "Reload the page")
    bad = name in ("", ".", "..") or len(name.encode()) > LONGEST_NAME
    if bad or any(letter in "/\\\0" or not letter.isprintable() for letter in name):
        raise InputError(f"upload {name}", "a file cannot be called so", "Rename it")
    return folder / "uploads" / group / name


async def keep(path: Path, chunks: AsyncIterator[bytes]) -> None:
    """Write an upload as it arrives; one that is broken off, or too large, leaves nothing.

    Raises:
        InputError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as file:
            async for chunk in chunks:
                file.write(chunk)
    except BaseException as error:
        path.unlink(missing_ok=True)
        told = write_error(path.name, error) if isinstance(error, OSError) else None
        if told is not None:
            raise told from None
        raise


def uploaded(folder: Path, group: str) -> Path:
    """What a group holds: its only file, its header if it has one beside raw voxels, or the folder of a series.

    Raises:
        InputError: nothing was uploaded.
    """
    place = place_of(folder, group, "any").parent
    files = sorted(place.iterdir()) if place.is_dir() else []
    if not files:
        raise InputError("upload", "no file arrived", "Choose the file again")
    headers = [path for path in files if path.suffix.lower() in (".mhd", ".nhdr")]
    if len(files) == 1:
        return files[0]
    return headers[0] if len(headers) == 1 else place
