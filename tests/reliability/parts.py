"""A kind of file that is fuzzed: how it is written, how it is read, and what its format protects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reliability.mutations import TEXT_HEADER, Mutator

Parts = dict[str, np.ndarray]
VALUES, GEOMETRY = "values", "geometry"
EVERYTHING = frozenset({VALUES, GEOMETRY})


@dataclass(frozen=True)
class Subject:
    """A kind of file.

    Attributes:
        name: for tables.
        write: writes whole files into a folder.
        target: the file among them that is mutated.
        read: what our reader makes of the folder, by part.
        header: how many bytes at the start are the header; None for all of it.
        header_mutators: of the header.
        protected: parts that checksums of the format protect: a difference there is always wrong.
        spread: a byte of the pixels can change many of them, as they are compressed without a checksum.
        loose: bytes that nothing points to are allowed, so that more bytes need not be found.
        odd: besides bytes: changes the folder, and returns what was done.
        weight: how often it is taken.
    """

    name: str
    write: Callable[[Path], None]
    target: str
    read: Callable[[Path], Parts]
    header: Callable[[bytes], int] | None = None
    header_mutators: Sequence[Mutator] = TEXT_HEADER
    protected: frozenset[str] = frozenset()
    spread: bool = False
    loose: bool = False
    odd: Callable[[Path, np.random.Generator], str] | None = None
    weight: float = 1.0


def text_part(text: str) -> np.ndarray:
    """Text as a part."""
    return np.frombuffer(text.encode("utf-8", "replace"), np.uint8)


def dicom_header(data: bytes) -> int:
    """Where the pixels of a DICOM file begin."""
    at = data.rfind(b"\xe0\x7f\x10\x00")
    return len(data) if at < 0 else at + 12
