"""Loads the user's own Python files, which add entries to the registries (docs/extending.md)."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from roireg.errors import InputError

# Environment variable by which the workflow passes the plugins to its jobs.
VARIABLE = "ROIREG_PLUGINS"


def load_plugins(names: Iterable[str]) -> list[str]:
    """Import the plugins that are not imported yet, and return their names.

    Args:
        names: paths of Python files (ending in .py, relative to the working directory), or names of importable modules.

    Raises:
        InputError: a plugin cannot be found, or fails when it is imported.
    """
    return [name for name in names if _load(name)]


def _load(name: str) -> bool:
    module = f"roireg_plugin_{Path(name).stem}" if is_file(name) else name
    if module in sys.modules:
        loaded = sys.modules[module].__file__
        if is_file(name) and loaded != str(Path(name).absolute()):
            raise InputError(f"plugin {name}", f"{loaded} has the same name", "Rename one of the two files")
        return False
    try:
        if is_file(name):
            _import_file(module, Path(name).absolute())
        else:
            importlib.import_module(name)
    except Exception as error:
        sys.modules.pop(module, None)
        fault = f"it cannot be imported ({type(error).__name__}: {error})"
        raise InputError(f"plugin {name}", fault, "Give a Python file or module; see docs/extending.md") from error
    return True


def _import_file(module: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(module, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    # Dataclasses and pydantic look the module up by its name.
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)


def is_file(name: str) -> bool:
    """True if a plugin is given as the path of a file, not as the name of a module."""
    return name.endswith(".py")


def share_plugins(names: Iterable[str]) -> None:
    """Name the plugins in the environment, for `load_shared_plugins` in the processes of jobs."""
    absolute = [str(Path(name).absolute()) if is_file(name) else name for name in names]
    os.environ[VARIABLE] = os.pathsep.join(absolute)


def load_shared_plugins() -> None:
    """Import the plugins that `share_plugins` named in the process that started this one."""
    load_plugins(name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name)
