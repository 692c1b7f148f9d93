"""A fingerprint of the code that a workflow script runs, so that an edit reruns what depends on it and nothing else."""

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "roireg"
DATA_SUFFIXES = {".html", ".css", ".js"}


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The code without strings that stand alone: docstrings, also those below the fields of a class."""
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
    """What matters of a file: what it does, as text, and the names below the package that it imports."""

    meaning: str
    imports: frozenset[str]


@cache
def _source(text: str) -> Source:
    """Of a file's text; many scripts share a module, and parsing it is what takes the time."""
    tree = ast.parse(text)
    return Source(imports=frozenset(_imported_names(tree)), meaning=ast.dump(_without_docstrings(tree)))


def _files_of(name: str, source: Path) -> list[Path]:
    """Files that importing `name` runs: the module and the `__init__` of each package above it, but the top one."""
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
        source: the folder that holds the package.
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
    """Hash of what the code does: comments, docstrings, layout and file times do not change it.

    Templates and the like count, to the letter, where the code is of the package that holds them.
    """
    digest = hashlib.sha256()
    for path in code_files(script, source):
        digest.update(path.name.encode() + b"\0" + _source(path.read_text()).meaning.encode() + b"\0")
        beside = sorted(path.parent.iterdir()) if path.name == "__init__.py" else []
        for other in (one for one in beside if one.suffix in DATA_SUFFIXES):
            digest.update(other.name.encode() + b"\0" + other.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
