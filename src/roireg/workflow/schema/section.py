"""Base class of the sections of the configuration, and helpers for their fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from roireg.settings import STRICT

T = TypeVar("T")


class Section(BaseModel):
    """Base class of a section. Its description is that of the field that holds it."""

    model_config = STRICT | ConfigDict(frozen=True)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """An entry of a named section in the default configuration, with its comment in config.yaml."""

    value: T
    comment: str = ""


Entries = Callable[[], Mapping[str, Entry[Any]]]


def named(entries: Entries) -> Any:
    """A field of named entries; its default are the given ones."""
    return Field(default_factory=lambda: {name: entry.value for name, entry in entries().items()})


def section(kind: type[Section]) -> Any:
    """A field that holds a section; its default is the section with all of its defaults."""
    return Field(default_factory=kind)
