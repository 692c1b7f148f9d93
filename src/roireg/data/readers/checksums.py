"""Checksums within files that their libraries do not look at.

Pillow passes over those of PNG's chunks and of TIFF's deflated strips, and torch over those of its archives.
"""

import zipfile
import zlib
from pathlib import Path

from PIL.TiffImagePlugin import TiffImageFile

from roireg.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"IEND"
COMPRESSION, DEFLATE = 259, (8, 32946)
# Offsets and lengths of strips, and of tiles.
PARTS = ((273, 279), (324, 325))
CHUNK_BYTES = 2**24
AGAIN = "Copy or export it again"


def check_png(path: Path) -> None:
    """Refuse a PNG file of which a chunk is damaged or the end is missing; other files are passed.

    Raises:
        InputError: a checksum does not fit, or there is no last chunk.
    """
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return
        kind = b""
        while kind != END:
            start = file.read(8)
            length, kind = int.from_bytes(start[:4], "big"), start[4:]
            if len(start) < 8 or length > path.stat().st_size - file.tell():
                raise InputError(path, "it is truncated", AGAIN)
            checksum = zlib.crc32(kind)
            while length:
                part = file.read(min(length, CHUNK_BYTES))
                checksum, length = zlib.crc32(part, checksum), length - len(part)
            if int.from_bytes(file.read(4), "big") != checksum:
                raise InputError(path, "it is damaged: a checksum does not fit", AGAIN)


def check_deflated(path: Path, picture: TiffImageFile) -> None:
    """Refuse a page of a TIFF file of which a deflated strip or tile is damaged; others are passed.

    Raises:
        InputError: a strip does not end with its checksum.
    """
    tags = picture.tag_v2
    if tags.get(COMPRESSION) not in DEFLATE:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        for offsets, counts in PARTS:
            for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False):
                if not 0 <= offset <= size - count or count < 1:
                    raise InputError(path, "it is truncated", AGAIN)
                file.seek(offset)
                if not _whole(file.read(count)):
                    raise InputError(path, "it is damaged: a checksum does not fit", AGAIN)


def check_archive(path: Path) -> None:
    """Refuse a ZIP archive, such as `torch.save` writes, of which a member is damaged; other files are passed.

    Raises:
        InputError: a checksum does not fit, or the archive is no whole one.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        raise InputError(path, f"it is damaged ({type(error).__name__})", AGAIN) from None
    if damaged is not None:
        raise InputError(path, f"it is damaged: the checksum of {damaged} does not fit", AGAIN)


def _whole(packed: bytes) -> bool:
    """Whether a zlib stream goes to its end, and its checksum fits."""
    inflate = zlib.decompressobj()
    try:
        while packed and not inflate.eof:
            inflate.decompress(packed, CHUNK_BYTES)
            packed = inflate.unconsumed_tail
    except zlib.error:
        return False
    return inflate.eof
