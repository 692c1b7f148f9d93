"""What the sections of the configuration have in common."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from roireg.settings import STRICT

T = TypeVar("T")


class Section(BaseModel):
    """Keys of one section. It has no description of its own: the field that holds it has one."""

    model_config = STRICT | ConfigDict(frozen=True)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """An entry of a named section in the default configuration, and a comment that says what it is for."""

    value: T
    comment: str = ""


Entries = Callable[[], Mapping[str, Entry[Any]]]


def named(entries: Entries) -> Any:
    """A field that holds entries by name, by default these."""
    return Field(default_factory=lambda: {name: entry.value for name, entry in entries().items()})


def section(kind: type[Section]) -> Any:
    """A field that holds a section, by default with all of its defaults."""
    return Field(default_factory=kind)


def any_of(kinds: Iterable[type]) -> Any:
    """The type of a value that is one of several kinds, told apart by `type`."""
    return Annotated[reduce(or_, kinds), Field(discriminator="type")]
