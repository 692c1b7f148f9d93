"""Types and options of settings: strict pydantic models whose fields have a range and a description.

The description of a field is the string below it. A paragraph that begins with `Paper:` gives the value in the paper
(WSReg, MICCAI 2025), with its section. The unit is the end of the name: `_mm`, `_px`, `_deg`.
"""

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

# Options of models: unknown keys, NaN and infinity are errors.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True)
# Options of dataclasses, without `defer_build`: their descriptions are found only while the class is defined.
STRICT_DATACLASS = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Section(BaseModel):
    """Base class of a section of the configuration. Its description is that of the field that holds it."""

    model_config = STRICT | ConfigDict(frozen=True)


def section(kind: type[Section]) -> Any:
    """A field that holds a section; its default is the section with all of its defaults."""
    return Field(default_factory=kind)


class Refused(ValueError):
    """A value that is not allowed: what is wrong with it, and what to do."""

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
        raise Refused(f"{repeated[0]!r} is given twice", "Give each value once")
    return values


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    low, high = values
    if low > high:
        raise Refused(f"{low} is larger than {high}", "Give the smaller value first")
    return values


UNIQUE = (AfterValidator(_without_repetition), Field(json_schema_extra={"uniqueItems": True}))

# A name that can be part of a path.
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
# A fraction above 0 and below 1.
ProperFraction = Annotated[float, Gt(0), Lt(1)]
# Smallest and largest value of a factor, an exponent or a width.
Range = Annotated[tuple[Annotated[float, Gt(0), Le(100)], Annotated[float, Gt(0), Le(100)]], AfterValidator(_rising)]
