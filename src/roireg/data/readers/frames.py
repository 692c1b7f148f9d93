"""Which frames of a sequence are meant: of a multi-frame file, or of a folder with a file for each frame."""

import re
from dataclasses import dataclass
from pathlib import Path

from roireg.errors import InputError

RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True)
class FrameRange:
    """Frames `first` to `last`, both included, counted from 0."""

    first: int
    last: int

    @property
    def numbers(self) -> range:
        """The frames, in order."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class FrameFile:
    """A file, and the frame of it that is meant."""

    path: Path
    frame: int


def frame_range(text: str) -> FrameRange:
    """The range that `A:B` stands for.

    Raises:
        InputError: it is no such range, or ends before it begins.
    """
    match = RANGE.fullmatch(text.strip())
    if match is None:
        raise InputError("--frames", f"it is {text!r}", "Give first and last frame, counted from 0, such as 0:19")
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise InputError("--frames", f"frame {last} lies before frame {first}", "Give the smaller one first")
    return FrameRange(first, last)


def frame_files(path: str | Path, frames: FrameRange) -> list[FrameFile]:
    """The frames of a multi-frame file, or the files of a folder that have these places in the order of their names.

    Numbers in names are compared as numbers: `frame10` comes after `frame9`. Hidden files do not count.

    Raises:
        InputError: the folder has fewer files.
    """
    path = Path(path)
    if not path.is_dir():
        return [FrameFile(path, number) for number in frames.numbers]
    names = sorted((one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")), key=_natural)
    if frames.last >= len(names):
        remedy = f"Give --frames within 0:{len(names) - 1}" if names else "Give the folder that holds the frames"
        raise InputError(path, f"it holds {len(names)} files, and frame {frames.last} was asked for", remedy)
    return [FrameFile(names[number], 0) for number in frames.numbers]


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
