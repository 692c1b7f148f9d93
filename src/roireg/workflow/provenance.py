"""Hash of the code that a workflow script runs, so that an edit reruns exactly the rules that depend on it."""

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "roireg"
DATA_SUFFIXES = {".html", ".css", ".js"}


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The code without docstrings of modules, classes, functions and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported_names(tree: ast.Module) -> set[str]:
    """Dotted names below the package that a module imports, at any depth of its code."""
    names = set()
    for node in ast.walk(tree):
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
    return Source(imports=frozenset(_imported_names(tree)), meaning=ast.dump(_without_docstrings(tree)))


def _files_of(name: str, source: Path) -> list[Path]:
    """Files executed by importing `name`: the module, and each package's `__init__` above it except the top one."""
    parts = name.split(".")
    files = []
    for end in range(2, len(parts) + 1):
        base = source.joinpath(*parts[:end])
        files += [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
    return files


def code_files(script: Path, source: Path) -> list[Path]:
    """The script and every module of the package that it imports, directly or through others, sorted.

    Args:
        script: a Python file.
        source: the folder that contains the package.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _source(path.read_text()).imports:
            waiting += _files_of(name, source)
    return sorted(found)


def code_digest(script: Path, source: Path) -> str:
    """Hash of a script and the modules it imports; comments, docstrings, layout and file times do not change it.

    Templates, styles and scripts of the web page that lie in an imported package are hashed byte by byte.
    """
    digest = hashlib.sha256()
    for path in code_files(script, source):
        digest.update(path.name.encode() + b"\0" + _source(path.read_text()).meaning.encode() + b"\0")
        beside = sorted(path.parent.iterdir()) if path.name == "__init__.py" else []
        for data in (file for file in beside if file.suffix in DATA_SUFFIXES):
            digest.update(data.name.encode() + b"\0" + data.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
