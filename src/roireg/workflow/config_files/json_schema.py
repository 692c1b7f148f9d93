"""Generates the JSON schema of configuration files, for editors.

A configuration file may leave out any key, so the schema requires none. The workflow itself checks with the models.
"""

from typing import Any

import yaml

from roireg.workflow.schema.nodes import schema, unit, words

HEAD = """\
# Written by `make config` from the models in src/roireg/workflow/schema: change those.
$schema: https://json-schema.org/draft/2020-12/schema
"""


def json_schema() -> str:
    """The text of config/config.schema.yaml."""
    body = {"title": "roireg configuration", **_partial(schema())}
    return HEAD + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)


def _partial(node: Any, key: str = "") -> Any:
    """The node without required keys, its description on one line with the unit and the paper's value."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for name, value in node.items():
        if name in ("required", "discriminator") or (name == "title" and isinstance(value, str)):
            continue
        if name == "description":
            found[name] = _description(node, key)
        elif name in ("properties", "$defs"):
            found[name] = {child: _partial(below, child) for child, below in value.items()}
        else:
            found["anyOf" if name == "oneOf" else name] = _partial(value)
    return found


def _description(node: dict[str, Any], key: str) -> str:
    said = words(node)
    paper = f" Paper: {said.paper}" if said.paper else ""
    return said.what + (f" In {unit(key)}." if unit(key) else "") + paper
