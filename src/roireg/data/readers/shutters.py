"""What DICOM tags say of pixels that are no measurements: padding, and shutters and collimators of every shape."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Shaped
from skimage.draw import polygon2mask

from roireg.data.readers.dicom_header import Header, source_of
from roireg.errors import InputError

SHAPES = ("RECTANGULAR", "CIRCULAR", "POLYGONAL")
SIDES = ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
FAR = (-(2**31), 2**31)
MOST_VERTICES = 1000


@runtime_checkable
class Say(Protocol):
    """Where a reader notes what it found."""

    def fact(self, name: str, value: str, keyword: str) -> None:
        """Something that a tag says."""

    def warn(self, text: str) -> None:
        """Something that cannot be meant, or was assumed."""


def stated_invalid(header: Header, stored: Shaped[np.ndarray, "R C"], say: Say) -> Bool[np.ndarray, "R C"] | None:
    """Pixels that are none by the file's tags; None where no tag hides any.

    Args:
        header: of the file, for the frame.
        stored: values as they are stored.
        say: told of each tag that hides pixels, and of those that cannot be meant.
    """
    hidden = _padding(header, stored, say)
    for prefix in ("Collimator", "Shutter"):
        open_part = _opening(header, prefix, stored.shape, say)
        if open_part is not None:
            hidden |= ~open_part
    return hidden if hidden.any() else None


def _padding(header: Header, stored: Shaped[np.ndarray, "R C"], say: Say) -> Bool[np.ndarray, "R C"]:
    """Pixels of the padding value, or of the range from it to its limit."""
    first = header.number("PixelPaddingValue", FAR)
    if first is None or stored.dtype.kind not in "iu":
        return np.zeros(stored.shape, bool)
    last = header.number("PixelPaddingRangeLimit", FAR)
    # Tags of signed and of unsigned values are mixed up by some writers.
    modulus = 2 ** (8 * stored.dtype.itemsize)
    low, high = sorted((first, first if last is None else last))
    values = stored.astype(np.int64)
    hidden = (values >= low) & (values <= high)
    if not hidden.any():
        hidden = ((values % modulus) >= low % modulus) & ((values % modulus) <= high % modulus)
    if hidden.all():
        say.warn("all pixels have the padding value: it is not heeded")
        return np.zeros(stored.shape, bool)
    if hidden.any():
        told = f"{first:g}" if last is None else f"{first:g} to {last:g}"
        say.fact("padding", f"values {told}: {hidden.mean():.1%} of the image", "PixelPaddingValue")
    return hidden


def _opening(header: Header, prefix: str, shape: tuple[int, int], say: Say) -> Bool[np.ndarray, "R C"] | None:
    """The pixels that a shutter or collimator leaves open: those that all of its shapes do."""
    names = [name for name in SHAPES if name in header.words(f"{prefix}Shape")]
    open_part = np.ones(shape, bool)
    for name in names:
        part = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}[name](header, prefix, shape)
        if part is None or not part.any():
            why = "is not set" if part is None else "leaves nothing open"
            say.warn(f"the {name.lower()} {prefix.lower()} {why}: it is not heeded")
            continue
        open_part &= part
        value = f"{name.lower()}, {part.mean():.0%} of the image"
        say.fact(f"{prefix.lower()} opening", value, f"{prefix}Shape")
    return None if open_part.all() or not open_part.any() else open_part


def _rectangle(header: Header, prefix: str, shape: tuple[int, int]) -> Bool[np.ndarray, "R C"] | None:
    """Edges are counted from 1, and may be swapped; the pixels of the edges are open."""
    given = [header.number(f"{prefix}{side}Edge", FAR) for side in SIDES]
    edges = [edge for edge in given if edge is not None]
    if len(edges) < len(SIDES) or not any(edges):
        return None
    (top, bottom), (left, right) = sorted(edges[:2]), sorted(edges[2:])
    open_part = np.zeros(shape, bool)
    open_part[max(int(top) - 1, 0) : max(int(bottom), 0), max(int(left) - 1, 0) : max(int(right), 0)] = True
    return open_part


def _circle(header: Header, prefix: str, shape: tuple[int, int]) -> Bool[np.ndarray, "R C"] | None:
    """Centre (row, column, from 1) and radius."""
    center = header.numbers(f"CenterOfCircular{prefix}", 2, FAR)
    radius = header.number(f"RadiusOfCircular{prefix}", FAR)
    if center is None or not radius or radius < 0:
        return None
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - center[0] + 1) ** 2 + (columns - center[1] + 1) ** 2 <= radius**2


def _polygon(header: Header, prefix: str, shape: tuple[int, int]) -> Bool[np.ndarray, "R C"] | None:
    """Vertices (row, column, from 1) one after the other; the origin alone stands for none."""
    keyword = f"VerticesOfThePolygonal{prefix}"
    flat = header.numbers(keyword, None, FAR)
    if flat is None or not any(flat):
        return None
    if len(flat) % 2 or not 6 <= len(flat) <= 2 * MOST_VERTICES:
        where = f"{header.path}: {source_of(keyword)}"
        raise InputError(where, f"it holds {len(flat)} numbers", "Correct the tag, or delete it")
    return polygon2mask(shape, np.array(flat).reshape(-1, 2) - 1)
