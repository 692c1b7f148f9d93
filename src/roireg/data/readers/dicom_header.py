"""The tags of a DICOM file, found wherever a file keeps them: at the top, or in the groups of all frames or of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from roireg.data.readers.gate import brief
from roireg.data.readers.numbers import numbers_of
from roireg.errors import InputError

AGAIN = "Copy or export it again"
# What pydicom raises on damaged files is not documented, and comes from all that it calls.
READ_ERRORS = (Exception,)
TEXT_NUMBERS = ("DS", "IS")
# Levels of sequences within the groups of a frame.
DEPTH = 4


def source_of(keyword: str) -> str:
    """`(gggg,eeee) Keyword`, for tables."""
    tag = tag_of(keyword)
    return f"({tag.group:04X},{tag.element:04X}) {keyword}"


def tag_of(keyword: str) -> BaseTag:
    """The tag of a keyword in the DICOM dictionary."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return BaseTag(tag)


@dataclass(frozen=True)
class Header:
    """A DICOM header as one frame has it.

    A tag is looked up at the top, then in the shared functional groups, then in those of the frame.

    Attributes:
        path: of the file, for errors.
        dataset: all of it.
        frame: from 0.
    """

    path: Path
    dataset: Dataset
    frame: int = 0

    @property
    def frames(self) -> int:
        """How many frames there are."""
        value = self.raw("NumberOfFrames")
        if value is None:
            return 1
        where = f"{self.path}: {source_of('NumberOfFrames')}"
        return int(numbers_of(where, value, 1, (1, 10**6))[0])

    def of_frame(self, frame: int) -> "Header":
        """The same file, seen by another frame."""
        return Header(self.path, self.dataset, frame)

    def raw(self, keyword: str) -> Any:
        """What stands in a tag; None where it is missing or empty. Text of numbers stays text.

        Raises:
            InputError: it cannot be read.
        """
        tag = tag_of(keyword)
        try:
            for dataset in self._places():
                value = _value(dataset, tag)
                if value is not None and value != "" and value != []:
                    return value
        except READ_ERRORS as error:
            raise InputError(f"{self.path}: {source_of(keyword)}", f"it is damaged ({brief(error)})", AGAIN) from None
        return None

    def numbers(
        self, keyword: str, count: int | None, bounds: tuple[float, float], unit: str = ""
    ) -> tuple[float, ...] | None:
        """Numbers in a tag; None where it is missing or empty.

        Raises:
            InputError: see `numbers_of`.
        """
        value = self.raw(keyword)
        if value is None:
            return None
        return numbers_of(f"{self.path}: {source_of(keyword)}", value, count, bounds, unit)

    def number(self, keyword: str, bounds: tuple[float, float], unit: str = "") -> float | None:
        """One number in a tag; None where it is missing or empty."""
        found = self.numbers(keyword, 1, bounds, unit)
        return None if found is None else found[0]

    def words(self, keyword: str) -> tuple[str, ...]:
        """Words in a tag, in capitals; none where it is missing."""
        value = self.raw(keyword)
        if value is None:
            return ()
        parts = value.split("\\") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
        return tuple(str(part).strip().strip("\0").upper() for part in parts)

    def word(self, keyword: str) -> str:
        """The first word in a tag; empty where it is missing."""
        return next(iter(self.words(keyword)), "")

    def _places(self) -> Iterator[Dataset]:
        yield self.dataset
        for keyword, index in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", self.frame)):
            groups = self.dataset.get(keyword)
            if groups is not None and index < len(groups):
                yield from _nested(groups[index], DEPTH)


def _nested(dataset: Dataset, depth: int) -> Iterator[Dataset]:
    """Items of the sequences in a dataset, at any depth up to `depth`, outer ones first."""
    inner = [element.value[0] for element in dataset if element.VR == "SQ" and len(element.value)]
    yield from inner
    if depth > 1:
        for one in inner:
            yield from _nested(one, depth - 1)


def _value(dataset: Dataset, tag: BaseTag) -> Any:
    """The value of an element; numbers in text are not converted, as what stands there may be none."""
    if tag not in dataset:
        return None
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        kind = element.VR or pydicom.datadict.dictionary_VR(tag)
        if kind in TEXT_NUMBERS:
            return (element.value or b"").decode("latin-1").strip(" \0")
    value = dataset[tag].value
    return None if value is None else value
