"""The text of config.yaml: all defaults, and a comment on every key where it stands first."""

import textwrap
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import TypeAdapter

from roireg.workflow.schema.config import NAMED, Config
from roireg.workflow.schema.nodes import definition, range_text, resolved, words

WIDTH = 120
INDENT = "  "
HEAD = """\
# The default run: the embedded demo data, sized for two CPU cores. Other runs lay a file over this one:
#   snakemake --cores all --configfile config/study.yaml
# Every key, with its type, unit and range, is in docs/configuration.md. `make config` writes this file from the models
# in src/roireg/workflow/schema, so change a default there.
# yaml-language-server: $schema=config/config.schema.yaml
"""


def config_yaml() -> str:
    """The text of config.yaml."""
    config, writer = Config(), _Writer()
    for key in Config.model_fields:
        writer.lines.append("")
        writer.comment(_words_of(Config, key), "")
        if key in NAMED and getattr(config, key):
            writer.lines.append(f"{key}:")
            for name, entry in NAMED[key]().items():
                writer.comment(entry.comment, INDENT)
                writer.key(name, entry.value, INDENT)
        else:
            writer.key(key, getattr(config, key), "")
    return HEAD + "\n".join(writer.lines) + "\n"


@dataclass
class _Writer:
    """Lines so far, and the classes of settings whose keys have been described."""

    lines: list[str] = field(default_factory=list)
    described: set[type] = field(default_factory=set)

    def comment(self, text: str, indent: str) -> None:
        mark = f"{indent}# "
        self.lines += textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False)

    def key(self, key: str, value: Any, indent: str) -> None:
        """A key and its value: on one line where that is possible, and where its own keys have been described."""
        kind, line = type(value), f"{indent}{_scalar(key)}: {_flow(_plain(value))}"
        keys = _keys(value)
        if (not keys or kind in self.described) and len(line) <= WIDTH:
            self.lines.append(line)
            return
        self.lines.append(f"{indent}{_scalar(key)}:")
        if not keys:
            self._list(_plain(value), indent + INDENT)
            return
        first = kind not in self.described
        self.described.add(kind)
        for below in keys:
            if first:
                self.comment(_words_of(kind, below), indent + INDENT)
            self.key(below, getattr(value, below), indent + INDENT)

    def _list(self, items: list[Any], indent: str) -> None:
        for item in items:
            lines = textwrap.wrap(
                _scalar(item),
                WIDTH,
                initial_indent=f"{indent}- ",
                subsequent_indent=f"{indent}{INDENT}",
                break_on_hyphens=False,
                break_long_words=False,
            )
            self.lines += lines


def _words_of(kind: type, key: str) -> str:
    """What a key does, its range, and what the paper has for it."""
    node = resolved(definition(kind)["properties"][key])
    said, allowed = words(node), range_text(node)
    parts = [said.what, f"[{allowed}]" if allowed else "", f"Paper: {said.paper}" if said.paper else ""]
    return " ".join(part for part in parts if part)


def _keys(value: Any) -> list[str]:
    """Keys of a settings object, its type first; of anything else, none."""
    kind = type(value)
    keys = [*getattr(kind, "model_fields", getattr(kind, "__pydantic_fields__", {}))]
    return sorted(keys, key=lambda key: key != "type")


def _plain(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json") if value is not None else None


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, width=10**6, allow_unicode=True).removesuffix("\n...\n").strip()


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()
