"""The wheel, and environments in which it is installed, made once for all tests and processes."""

from pathlib import Path

import pytest
from once import made_once
from wheel_environment import Environment, build_wheel, environment_with


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    (made,) = made_once("dist", build_wheel, tmp_path_factory).glob("*.whl")
    return made


def _environment(wheel: Path, name: str, extras: frozenset[str], tmp_path_factory) -> Environment:
    folder = made_once(name, lambda folder: environment_with(wheel, folder, extras), tmp_path_factory)
    return Environment(folder / "env", tmp_path_factory.mktemp(f"work-{name}"))


@pytest.fixture(scope="session")
def base(wheel, tmp_path_factory) -> Environment:
    """What `pip install roireg` brings."""
    return _environment(wheel, "base", frozenset(), tmp_path_factory)


@pytest.fixture(scope="session")
def with_workflow(wheel, tmp_path_factory) -> Environment:
    """What `pip install "roireg[workflow]"` brings."""
    return _environment(wheel, "with-workflow", frozenset({"workflow"}), tmp_path_factory)


@pytest.fixture(scope="session")
def with_slurm(wheel, tmp_path_factory) -> Environment:
    """What `pip install "roireg[workflow,slurm]"` brings."""
    return _environment(wheel, "with-slurm", frozenset({"workflow", "slurm"}), tmp_path_factory)
