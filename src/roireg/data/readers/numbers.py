"""The one reader of numbers that stand in users' files: how many, finite, and within what can be meant."""

import math
from collections.abc import Sequence
from typing import Any

from roireg.errors import InputError, one_line

REMEDY = "Correct the file, or export it again"


def numbers_of(
    where: object, value: Any, count: int | None, bounds: tuple[float, float], unit: str = "", remedy: str = REMEDY
) -> tuple[float, ...]:
    """Numbers from text or from a list.

    A comma is taken for a decimal point where blanks or backslashes part the numbers.

    Args:
        where: the file and its key or tag, for errors.
        value: a number, text, or a list of them.
        count: how many there must be; None for any number from one.
        bounds: least and greatest value that can be meant.
        unit: of the numbers, for errors.
        remedy: of the errors.

    Raises:
        InputError: there are more or fewer, or one is no number, not finite or out of bounds.
    """
    parts = _parts(value)
    found = [_number(where, part, remedy) for part in parts]
    if not found or (count is not None and len(found) != count):
        told = f"{count} number{'s' if count != 1 else ''}" if count is not None else "numbers"
        raise InputError(where, f"it holds {_told(value)}, and {told} must stand there", remedy)
    low, high = bounds
    for number in found:
        if not low <= number <= high:
            ends = f"from {low:g} to {high:g}{' ' if unit else ''}{unit}"
            raise InputError(where, f"it is {_told(value)}, and can be {ends}", remedy)
    return tuple(found)


def number_of(where: object, value: Any, bounds: tuple[float, float], unit: str = "", remedy: str = REMEDY) -> float:
    """One number; see `numbers_of`."""
    return numbers_of(where, value, 1, bounds, unit, remedy)[0]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return value.replace("\0", " ").replace("\\", " ").split()
    if isinstance(value, Sequence) or (hasattr(value, "__iter__") and not isinstance(value, dict)):
        return list(value)
    return [value]


def _number(where: object, part: Any, remedy: str) -> float:
    if isinstance(part, bool) or part is None:
        raise InputError(where, f"it holds {_told(part)}, which is no number", remedy)
    try:
        number = float(part.strip().replace(",", ".") if isinstance(part, str) else part)
    except (TypeError, ValueError, OverflowError):
        raise InputError(where, f"it holds {_told(part)}, which is no number", remedy) from None
    if not math.isfinite(number):
        raise InputError(where, f"it holds {_told(part)}, which is not finite", remedy)
    return number


def _told(value: Any) -> str:
    """A value as an error shows it."""
    text = value if isinstance(value, str) else str(value)
    return repr(one_line(text, 60))
