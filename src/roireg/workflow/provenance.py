"""Hash of the code that a workflow script runs, so that an edit reruns exactly the rules that depend on it."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from roireg.plugins import is_file

PACKAGE = "roireg"
DATA_SUFFIXES = {".html", ".css", ".js"}


def _statements(tree: ast.Module) -> Iterator[ast.stmt | ast.Module]:
    """The module and all statements in it, at any depth. Not `ast.walk`, as expressions are nine of ten nodes."""
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt | ast.Module):
            yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            # A conditional expression or a lambda has a single expression there.
            if isinstance(below := getattr(node, name, None), list):
                waiting += below


def _without_docstrings(nodes: Iterable[ast.stmt | ast.Module]) -> None:
    """Take docstrings of modules, classes, functions and fields away."""
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported_names(nodes: Iterable[ast.stmt | ast.Module]) -> set[str]:
    """Dotted names below the package that a module imports, at any depth of its code."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith(f"{PACKAGE}.")}


@dataclass(frozen=True)
class Source:
    """A parsed file: its code as normalised text, and the names of the package that it imports."""

    meaning: str
    imports: frozenset[str]


@cache
def _source(text: str) -> Source:
    """Parse a file's text. Cached, because parsing takes most of the time and many scripts import the same modules."""
    tree = ast.parse(text)
    nodes = list(_statements(tree))
    _without_docstrings(nodes)
    return Source(imports=frozenset(_imported_names(nodes)), meaning=ast.dump(tree))


@dataclass(frozen=True, eq=False)
class Library:
    """The package as its files are when they are first needed; each is read once, however many scripts import it.

    Attributes:
        source: the folder that contains the package.
    """

    source: Path
    _sources: dict[Path, Source] = field(default_factory=dict, repr=False)
    _files: dict[str, list[Path]] = field(default_factory=dict, repr=False)

    def files(self, script: Path, modules: Iterable[str] = ()) -> list[Path]:
        """The script, `modules`, and every module of the package that they import, at any distance; sorted.

        Args:
            script: a file.
            modules: names of modules that the script imports by names that it is given; those of plugins do not count.
        """
        found: set[Path] = set()
        waiting = [
            script,
            *(file for name in modules if name.startswith(f"{PACKAGE}.") for file in self._files_of(name)),
        ]
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            found.add(path)
            for name in self._read(path).imports:
                waiting += self._files_of(name)
        return sorted(found)

    def digest(self, script: Path, plugins: Iterable[str] = (), modules: Iterable[str] = ()) -> str:
        """Hash of a script, what it imports and plugins; comments, docstrings, layout and file times do not matter.

        Of a plugin that is given as a module, only the name is hashed. Templates, styles and scripts of the web page
        that lie in an imported package are hashed byte by byte.

        Args:
            script: a file.
            plugins: as the configuration names them.
            modules: as of `files`.
        """
        digest = hashlib.sha256()
        for path in sorted(self.files(script, modules), key=self._name_of):
            digest.update(path.name.encode() + b"\0" + self._read(path).meaning.encode() + b"\0")
            beside = sorted(path.parent.iterdir()) if path.name == "__init__.py" else []
            for data in (file for file in beside if file.suffix in DATA_SUFFIXES):
                digest.update(data.name.encode() + b"\0" + data.read_bytes() + b"\0")
        for plugin in plugins:
            meaning = _source(Path(plugin).read_text()).meaning if is_file(plugin) else ""
            digest.update(plugin.encode() + b"\0" + meaning.encode() + b"\0")
        return digest.hexdigest()[:16]

    def _name_of(self, path: Path) -> tuple[bool, str]:
        """By what files are put in order, wherever scripts and package lie: an installed one is apart from them."""
        inside = path.is_relative_to(self.source / PACKAGE)
        return inside, path.relative_to(self.source).as_posix() if inside else path.name

    def _read(self, path: Path) -> Source:
        if path not in self._sources:
            self._sources[path] = _source(path.read_text(encoding="utf-8"))
        return self._sources[path]

    def _files_of(self, name: str) -> list[Path]:
        """Files executed by importing `name`: the module, and each package's `__init__` above it except the top one."""
        if name not in self._files:
            parts = name.split(".")
            bases = [self.source.joinpath(*parts[:end]) for end in range(2, len(parts) + 1)]
            files = [file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py")]
            self._files[name] = [file for file in files if file.is_file()]
        return self._files[name]


def code_files(script: Path, source: Path, modules: Iterable[str] = ()) -> list[Path]:
    """`Library.files` of the package as it is now."""
    return Library(source).files(script, modules)


def code_digest(script: Path, source: Path, plugins: Iterable[str] = ()) -> str:
    """`Library.digest` of the package as it is now."""
    return Library(source).digest(script, plugins)
