"""How settings are declared and checked: strict pydantic models whose fields carry their range and their description.

A field's description is the string below it. A paragraph of it that begins with `Paper:` says what the paper (WSReg,
MICCAI 2025) has for it, and where. Units are in names: `_mm`, `_px`, `_deg`.
"""

from collections.abc import Hashable, Sequence
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

# Unknown keys, NaN and infinity are refused.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True)
# Dataclasses find the strings below their fields only while the class statement runs, so they are built there.
STRICT_DATACLASS = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Refused(ValueError):
    """A value that does not go with others: what is wrong with it, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}. {remedy}")


T = TypeVar("T", bound=Hashable)
Kind = TypeVar("Kind")


def of_kind(settings: object, kind: type[Kind]) -> Kind:
    """Settings that have to be of one kind.

    Raises:
        TypeError: they are of another one.
    """
    if not isinstance(settings, kind):
        raise TypeError(f"{type(settings).__name__} where {kind.__name__} is needed")
    return settings


def _without_repetition(values: Sequence[T]) -> Sequence[T]:
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise Refused(f"{repeated[0]!r} is there twice", "Name each once")
    return values


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    low, high = values
    if low > high:
        raise Refused(f"{low} is more than {high}", "Give the smaller one first")
    return values


UNIQUE = (AfterValidator(_without_repetition), Field(json_schema_extra={"uniqueItems": True}))

# It becomes part of paths.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Text = Annotated[str, MinLen(1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]
Names = Annotated[tuple[str, ...], *UNIQUE]
OneOrMoreNames = Annotated[tuple[str, ...], MinLen(1), *UNIQUE]

Count = Annotated[int, Ge(1)]
NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
# Added to the variances of images in [0, 1] in an NCC.
NccEpsilon = Annotated[float, Gt(0), Le(1)]
Probability = Annotated[float, Ge(0), Le(1)]
# Of something, neither none nor all of it.
ProperFraction = Annotated[float, Gt(0), Lt(1)]
# Least and largest value of a factor, an exponent or a width.
Range = Annotated[tuple[Annotated[float, Gt(0), Le(100)], Annotated[float, Gt(0), Le(100)]], AfterValidator(_rising)]
