"""Generates docs/configuration.md: a table of keys for each section."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from roireg.workflow.schema.config import NAMED, Config
from roireg.workflow.schema.nodes import (
    Node,
    entry,
    nullable,
    properties,
    range_text,
    resolved,
    schema,
    type_text,
    unit,
    variants,
    words,
)

HEAD = """\
# Configuration

The default configuration is [config.yaml](../config.yaml). `snakemake --configfile mine.yaml` overrides it with one or
more files. Such a file has only the keys that it changes; all others keep their values. A new entry of a named section
(a recipe, a segmenter, an encoder, a start, an optimizer, a ROI term, weights, a method) gets the defaults below for
the keys that it leaves out; a key without a default is required. A wrong key or value ends the run with one line that
names the key and says what is allowed.

The unit of a key is the end of its name: `_mm`, `_px`, `_deg`. The column "paper" gives the value in the paper (WSReg,
MICCAI 2025) with its section; [paper-gaps.md](paper-gaps.md) lists what the paper leaves open. This page is generated
by `make config` from the models in `src/roireg/workflow/schema`.
"""
COLUMNS = ("key", "type, unit", "default", "range", "meaning", "paper")


@dataclass(frozen=True)
class Table:
    """A table of keys under a heading."""

    title: str
    about: str
    rows: list[tuple[str, ...]]


def documentation() -> str:
    """The text of docs/configuration.md."""
    top = [key for key in Config.model_fields if not _has_keys(resolved(schema()["properties"][key]))]
    tables = [Table("Top level", "", [_row(key, resolved(schema()["properties"][key]), _DEFAULTS[key]) for key in top])]
    for key in Config.model_fields:
        if key not in top:
            tables += _section(key)
    return HEAD + "".join(_markdown(table) for table in tables)


_DEFAULTS: dict[str, Any] = Config().model_dump(mode="json")


def _has_keys(node: Node) -> bool:
    return "properties" in node or (entry(node) is not None)


def _section(key: str) -> Iterator[Table]:
    """The tables of a section; a section of named entries has a table for each type of entry."""
    node = resolved(schema()["properties"][key])
    said = words(node)
    about = said.what + (f" Paper: {said.paper}" if said.paper else "")
    if key not in NAMED:
        yield Table(f"`{key}`", about, list(_rows(node, _DEFAULTS[key])))
        return
    names = ", ".join(f"`{name}`" for name in _DEFAULTS[key]) or "none"
    about += f" In config.yaml: {names}."
    kinds = variants(entry(node))
    if not kinds:
        yield Table(f"`{key}.*`", about, list(_rows(entry(node), None)))
        yield from _networks(f"{key}.*", entry(node))
        return
    for index, (name, kind) in enumerate(kinds.items()):
        yield Table(f"`{key}.*`, type `{name}`", about if index == 0 else "", list(_rows(kind, None)))


def _networks(path: str, node: Node) -> Iterator[Table]:
    """Tables of a key that has several types, one for each type."""
    for key, child in properties(node):
        for name, kind in variants(child).items():
            yield Table(f"`{path}.{key}`, type `{name}`", "", list(_rows(kind, None)))


def _rows(node: Node, defaults: dict[str, Any] | None, above: str = "") -> Iterator[tuple[str, ...]]:
    """Rows of a node's keys, each followed by the keys below it."""
    for key, child in properties(node):
        default = child.get("default", ...) if defaults is None else defaults[key]
        yield _row(above + key, child, default)
        inner = next((resolved(one) for one in child.get("anyOf", []) if "properties" in resolved(one)), child)
        if "properties" in inner:
            below = default if isinstance(default, dict) and defaults is not None else None
            yield from _rows(inner, below, f"{above}{key}.")


def _row(key: str, node: Node, default: Any) -> tuple[str, ...]:
    said = words(node)
    shown = "" if default is ... or (_has_keys(node) and entry(node) is None) else f"`{_text(default)}`"
    measure = ", ".join(part for part in (type_text(node), unit(key), "or null" if nullable(node) else "") if part)
    return (f"`{key}`", measure, shown, range_text(node), said.what, said.paper.removesuffix("."))


def _text(value: Any) -> str:
    if isinstance(value, list) and len(str(value)) > 100:
        return "see config.yaml"
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).removesuffix("\n...\n").strip()


def _markdown(table: Table) -> str:
    lines = ["", f"## {table.title}", ""]
    if table.about:
        lines += [table.about, ""]
    shown = [index for index in range(len(COLUMNS)) if index < 3 or any(row[index] for row in table.rows)]
    lines += [_line([COLUMNS[index] for index in shown]), _line(["---"] * len(shown))]
    lines += [_line([row[index].replace("|", "\\|") for index in shown]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
