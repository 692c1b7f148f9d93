"""What is made once for all tests, in whatever process they are."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(name: str, make: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which something is made, once in all processes, which read it where it is.

    With workers of pytest-xdist one of them makes it, and the others wait.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tmp_path_factory.mktemp(name)
        make(folder)
        return folder
    shared = tmp_path_factory.getbasetemp().parent / name
    with FileLock(f"{shared}.lock"):
        # Not in the folder, of which a run has copies.
        made = Path(f"{shared}.made")
        if not made.exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir()
            make(shared)
            made.touch()
    return shared


def run_once(name: str, run: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which something has run, once in all processes; each of them has a copy of its own."""
    shared = made_once(name, run, tmp_path_factory)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return shared
    folder = tmp_path_factory.mktemp(name)
    shutil.copytree(shared, folder, dirs_exist_ok=True)
    return folder
