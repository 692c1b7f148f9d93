"""Converts pydantic's error about a configuration to one line: the key, what is wrong with it, and what is allowed."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from roireg.errors import InputError
from roireg.settings import Refused
from roireg.workflow.schema.nodes import node_at, nullable, properties, range_text, type_text, variants, words

Path = tuple[str | int, ...]
UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
MISSING = {"missing", "missing_argument"}
WRONG_TYPE = {"int_from_float", "list_type", "tuple_type", "dict_type", "model_type", "dataclass_type"}
WRONG_TYPE |= {f"{name}_type" for name in ("int", "float", "string", "bool")}
LIMITS = {
    "greater_than_equal": ("ge", "below"),
    "greater_than": ("gt", "not above"),
    "less_than_equal": ("le", "above"),
    "less_than": ("lt", "not below"),
    "multiple_of": ("multiple_of", "not a multiple of"),
}


def key_of(path: Path) -> str:
    """The name of a key in messages, such as `config: demo.views`."""
    return "config: " + (".".join(str(part) for part in path) or "top level")


def first_fault(error: ValidationError, config: Mapping[str, Any]) -> InputError:
    """The first of pydantic's errors as an `InputError`."""
    fault = error.errors(include_url=False)[0]
    path, kind = _path(fault["loc"], config), fault["type"]
    if kind in UNKNOWN:
        known = sorted(key for key, _ in properties(node_at(path[:-1], config)))
        return InputError(key_of(path[:-1]), f"{path[-1]!r} is not a known key", "Known keys: " + ", ".join(known))
    if kind in MISSING and isinstance(path[-1], int):
        what = f"{path[-1]} values are too few"
        return InputError(key_of(path[:-1]), what, _allowed(path[:-1], config))
    if kind in MISSING:
        return InputError(key_of(path[:-1]), f"{path[-1]!r} is missing", _allowed(path, config))
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        types = ", ".join(variants(node_at(path, None)))
        if kind == "union_tag_not_found":
            return InputError(key_of(path), "'type' is missing", f"Give one of {types}")
        return InputError(key_of((*path, "type")), f"{fault['ctx']['tag']!r} is not known", f"Known types: {types}")
    if isinstance(refused := fault.get("ctx", {}).get("error"), Refused):
        return InputError(key_of(path), refused.what, refused.remedy)
    if fault["loc"][-1] == "[key]":
        remedy = "Use letters, digits, dot, underscore, plus and hyphen, beginning with a letter or digit"
        return InputError(key_of(path[:-1]), f"{path[-1]!r} is not a valid name", remedy)
    return InputError(key_of(path), _what(fault, path, config), _allowed(path, config))


def _path(location: Path, config: Any) -> Path:
    """The keys of pydantic's location, without the entries' types and marks such as `[key]` that pydantic inserts."""
    path: list[str | int] = []
    value = config
    for index, part in enumerate(location):
        held = isinstance(value, dict) and part in value
        held = held or (isinstance(value, list) and isinstance(part, int) and part < len(value))
        if held:
            value = value[part]
        elif index < len(location) - 1 or part == "[key]":
            continue
        path.append(part)
    return tuple(path)


def _what(fault: ErrorDetails, path: Path, config: Mapping[str, Any]) -> str:
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}..."
    if kind == "finite_number":
        return f"{shown} is not a finite number"
    if kind in WRONG_TYPE:
        node = node_at(path, config)
        return f"{shown} is not of type {type_text(node)}" + (" or null" if nullable(node) else "")
    if kind in LIMITS:
        limit, relation = LIMITS[kind]
        return f"{shown} is {relation} {context[limit]:g}"
    if kind == "literal_error":
        return f"{shown} is not one of {context['expected']}"
    if kind in ("too_short", "too_long"):
        return f"{context['actual_length']} values are too {'few' if kind == 'too_short' else 'many'}"
    if kind == "string_too_short":
        return "it is empty"
    if kind == "string_pattern_mismatch":
        return f"{shown} does not match {context['pattern']}"
    return f"{shown}: {fault['msg']}"


def _allowed(path: Path, config: Mapping[str, Any]) -> str:
    node = node_at(path, config)
    what = words(node).what.removesuffix(".")
    parts = [range_text(node), "null" if nullable(node) else ""]
    allowed = " or ".join(part for part in parts if part)
    return f"Meaning: {what}" + (f" ({allowed})" if allowed else "") if what else "See docs/configuration.md"
