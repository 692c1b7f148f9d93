"""Helpers for the fields of the configuration's sections: named entries, and values of one of several kinds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """An entry of a named section in the default configuration, with its comment in config.yaml."""

    value: T
    comment: str = ""


Entries = Callable[[], Mapping[str, Entry[Any]]]


def named(entries: Entries) -> Any:
    """A field of named entries; its default are the given ones."""
    return Field(default_factory=lambda: {name: entry.value for name, entry in entries().items()})


def one_of(names: Iterable[str]) -> Any:
    """The type of a field whose value is one of these names."""
    return Literal[tuple(names)]


def any_of(kinds: Iterable[type]) -> Any:
    """The type of a value that is one of several kinds, told apart by `type`."""
    return Annotated[reduce(or_, kinds), Field(discriminator="type")]
