"""Describes keys of the configuration in words, from the JSON schema that pydantic makes of the models.

A node is a part of that JSON schema: it describes one key.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from roireg.workflow.schema.config import Config

Node = dict[str, Any]
UNITS = {
    "_per_mm": "1/mm",
    "_mm": "mm",
    "_px": "px",
    "_deg": "degrees",
    "_rad": "rad",
    "_voxels": "voxels",
    "_hu": "HU",
    "_mb": "MB",
}
TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "mapping"}


@cache
def schema() -> Node:
    """The JSON schema of the whole configuration, as pydantic makes it."""
    return Config.model_json_schema()


def resolved(node: Node) -> Node:
    """The node with its reference (`$ref`) replaced by the definition; entries beside the reference take precedence."""
    while "$ref" in node:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = {**schema()["$defs"][node["$ref"].removeprefix("#/$defs/")], **beside}
    return node


def definition(kind: type) -> Node:
    """The node of a class of settings."""
    return schema() if kind is Config else schema()["$defs"][kind.__name__]


def variants(node: Node) -> dict[str, Node]:
    """For a key that has several types: the node of each, by `type`. Empty for any other key."""
    if "discriminator" not in node:
        return {}
    names = {reference: name for name, reference in node["discriminator"]["mapping"].items()}
    return {names[option["$ref"]]: resolved(option) for option in node["oneOf"]}


def entry(node: Node) -> Node | None:
    """For a section of named entries: the node of an entry. None for any other key."""
    found = [*node.get("patternProperties", {}).values()]
    if isinstance(node.get("additionalProperties"), dict):
        found.append(node["additionalProperties"])
    return resolved(found[0]) if found else None


def node_at(path: tuple[str | int, ...], value: Any) -> Node:
    """The node of a key of a configuration.

    Args:
        path: keys from the top level down, and indices of lists.
        value: the configuration, which gives the `type` of entries; missing parts of it are allowed.
    """
    node = schema()
    for key in path:
        node = _chosen(_not_null(node), value)
        if isinstance(key, int):
            child = node.get("items") or node.get("prefixItems", [{}])[0]
        else:
            child = node.get("properties", {}).get(key) or entry(node)
        if child is None:
            break
        node = resolved(child)
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
    return _chosen(node, value)


def _chosen(node: Node, value: Any) -> Node:
    """For a node with several types, the node of the value's type; otherwise the node itself."""
    kind = value.get("type") if isinstance(value, dict) else None
    return variants(node).get(kind, node) if isinstance(kind, str) else node


def _not_null(node: Node) -> Node:
    options = [resolved(option) for option in node.get("anyOf", []) if option.get("type") != "null"]
    return {**options[0], **{k: v for k, v in node.items() if k != "anyOf"}} if len(options) == 1 else node


@dataclass(frozen=True)
class Words:
    """Description of a key: its meaning, and the paper's value."""

    what: str
    paper: str


def words(node: Node) -> Words:
    """The description of a node, on one line."""
    what, _, paper = node.get("description", "").partition("Paper:")
    return Words(*(re.sub(r"\s+", " ", text).strip() for text in (what, paper)))


def unit(key: str) -> str:
    """The unit given by the end of a key's name; empty if it has none."""
    return next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "")


def nullable(node: Node) -> bool:
    """True if null is allowed."""
    return any(option.get("type") == "null" for option in node.get("anyOf", []))


def type_text(node: Node) -> str:
    """The type of a value in words, without its unit and without null."""
    return _plain_type(_not_null(node))


def _plain_type(node: Node) -> str:
    if "enum" in node or "const" in node:
        values = [str(value) for value in node.get("enum", [node.get("const")])]
        return " or ".join(part for part in (", ".join(values[:-1]), values[-1]) if part)
    if node.get("type") == "array":
        return _list_type(node)
    return TYPES[node.get("type", "object")]


def _list_type(node: Node) -> str:
    items = resolved(node["items"] if "items" in node else node["prefixItems"][0])
    many = {"integer": "integers", "number": "numbers", "string": "texts"}.get(items.get("type", ""), "")
    of = f"{_plain_type(items)}" if "enum" in items else many
    if "prefixItems" in node:
        return f"{len(node['prefixItems'])} {of}"
    return f"list of {of}"


def range_text(node: Node) -> str:
    """Allowed range of a number, of the numbers of a list, and of a list's length; empty if there is no limit."""
    node = _not_null(node)
    if node.get("type") == "array":
        items = resolved(node["items"] if "items" in node else node["prefixItems"][0])
        parts = [f"each {text}" for text in [range_text(items)] if text]
        if "items" in node:
            parts += [_length(node)] if _length(node) else []
        return "; ".join(parts)
    parts = [_bounds(node)] if _bounds(node) else []
    if "multipleOf" in node:
        parts.append(f"a multiple of {node['multipleOf']}")
    return ", ".join(parts)


def _bounds(node: Node) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    first = f"from {_number(low)}" if low is not None else f"above {_number(above)}" if above is not None else ""
    last = f"up to {_number(high)}" if high is not None else f"below {_number(below)}" if below is not None else ""
    return ", ".join(part for part in (first, last) if part)


def _length(node: Node) -> str:
    least, most = node.get("minItems"), node.get("maxItems")
    if least and most:
        return f"{least} to {most} values"
    return f"{least} or more values" if least else ""


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e5 else f"{value:.0f}"


def properties(node: Node) -> Iterator[tuple[str, Node]]:
    """Keys of a node with their nodes, `type` first."""
    for key, child in sorted(node.get("properties", {}).items(), key=lambda item: item[0] != "type"):
        yield key, resolved(child)
