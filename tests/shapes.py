"""Calls of the library in the tests' process are checked: arrays have the shapes that functions' annotations state.

Types without shapes are the type checker's to check (`make lint`), which needs no running code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook

SOURCES = Path(__file__).resolve().parents[1] / "src"
# As for type checkers, an int is a float. A BinaryIO is not looked into: beartype asks for the text `mode` of a file,
# which is a number for gzip's.
CHECKED = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({BinaryIO: object})))


def checked(function: Callable) -> Callable:
    """The function with a check of its arguments and result, if its annotations state a shape."""
    return CHECKED(function) if "jaxtyping." in repr(function.__annotations__) else function


def compiled_by_numba(source: str) -> bool:
    """Numba compiles a function's own code, and infers its types: a wrapper around it cannot be compiled."""
    return "@numba.njit" in source


def checked_modules() -> list[str]:
    """The library's modules whose functions are checked."""
    paths = sorted(path for path in (SOURCES / "roireg").rglob("*.py") if path.name != "__init__.py")
    checked_paths = (path for path in paths if not compiled_by_numba(path.read_text(encoding="utf-8")))
    return [".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in checked_paths]


def check_shapes() -> None:
    """From now on, modules of the library are imported with checks: call it before the first one is."""
    install_import_hook(checked_modules(), "shapes.checked")
