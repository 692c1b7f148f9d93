"""Settings of all tests, made before torch is imported; real runs that many look at, fresh copies, and the order."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from once import run_once
from shapes import check_shapes
from workflows import LONG, LONG_MODEL, REPOSITORY, Workflow, copy_workflow, keep_compiled

# As in `roireg.workflow.job`: waiting pools of threads must not take the cores from working ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
check_shapes()

# Files are handed to workers in this order: what takes longest first, and what takes least last, so that no worker
# waits at the end for a long one. Unit tests before the workflow's leave what Numba compiles for its fresh copies.
ORDER = ("tests/slurm", "tests/unit/register", "tests/unit/demo", "tests/workflow", "tests/reliability", "tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(REPOSITORY)
        return next(number for number, folder in enumerate(ORDER) if path.is_relative_to(folder))

    items.sort(key=place)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A copy in which the smoke workflow has run, for real; its dry-runs change nothing."""

    def run(folder: Path) -> None:
        workflow = copy_workflow(folder)
        result = workflow.run()
        assert result.status == 0, result.output
        keep_compiled(workflow)

    return Workflow(run_once("smoke", run, tmp_path_factory))


@pytest.fixture(scope="session")
def long(smoke: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A copy of the smoke run in which the U-Net `LONG_MODEL` has trained, undisturbed."""

    def run(folder: Path) -> None:
        shutil.copytree(smoke.folder, folder, dirs_exist_ok=True)
        result = Workflow(folder).run(LONG_MODEL, overlays=(LONG,))
        assert result.status == 0, result.output

    return Workflow(run_once("long", run, tmp_path_factory))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes are not checked, so that what the library itself says of wrong ones is seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A copy in which nothing has run."""
    return copy_workflow(tmp_path)
