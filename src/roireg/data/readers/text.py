"""Small text files that users bring, and what stands in them as YAML or JSON."""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from roireg.data.readers.gate import brief, check_regular
from roireg.errors import InputError

TEXT_LIMIT_BYTES = 4_000_000
YAML_ENTRIES = 100_000


def read_text(path: str | Path) -> str:
    """A small text file in UTF-8, whatever the locale; a byte order mark is taken off.

    Raises:
        InputError: it is no regular file, is too large, or is not UTF-8.
    """
    path = check_regular(path)
    if path.stat().st_size > TEXT_LIMIT_BYTES:
        raise InputError(path, f"it is larger than {TEXT_LIMIT_BYTES // 10**6} MB", "Give a text file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(path, "it is no text in UTF-8", "Save it in UTF-8") from None
    if "\0" in text:
        raise InputError(path, "it is no text", "Give a text file")
    return text


class _OnceOnly(yaml.SafeLoader):
    """Plain YAML: a key stands once in a mapping, and aliases repeat little and not themselves."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        # Numbers of entries, aliases written out, of what has been read to its end.
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        event = self.peek_event()
        if alias and event.anchor in self.anchors and id(self.anchors[event.anchor]) not in self._sizes:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: *{event.anchor} repeats itself")
        node = super().compose_node(parent, index)
        if not alias:
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
            self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in parts)
            if self._sizes[id(node)] > YAML_ENTRIES:
                raise yaml.YAMLError(f"line {event.start_mark.line + 1}: more than {YAML_ENTRIES} entries")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key is no word or number")
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: {key!r} stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, remedy: str) -> Any:
    """What a small YAML file says.

    Raises:
        InputError: it is no YAML, or a key stands in it twice.
    """
    text = read_text(path)
    try:
        return yaml.load(text, _OnceOnly)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise InputError(path, f"it is not YAML that can be used ({brief(error)})", remedy) from None


def read_json(path: str | Path, remedy: str) -> Any:
    """What a small JSON file says; NaN and infinity are no numbers.

    Raises:
        InputError: it is no JSON.
    """
    text = read_text(path)

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"it is not JSON that can be used ({brief(error)})", remedy) from None
