"""Settings of all tests, made before torch is imported; a real smoke run that many look at, and fresh copies."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from workflows import Workflow, copy_workflow

# As in `roireg.workflow.job`: waiting pools of threads must not take the cores from working ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A copy in which the smoke workflow has run, for real; its dry-runs change nothing.

    With workers of pytest-xdist one of them runs it, the others wait, and each has a copy of its own.
    """
    folder = tmp_path_factory.mktemp("smoke")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return smoke_run(folder)
    shared = tmp_path_factory.getbasetemp().parent / "smoke"
    with FileLock(f"{shared}.lock"):
        if not (shared / "ran").exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir()
            smoke_run(shared)
            (shared / "ran").touch()
    shutil.copytree(shared, folder, dirs_exist_ok=True)
    return Workflow(folder)


def smoke_run(folder: Path) -> Workflow:
    workflow = copy_workflow(folder)
    result = workflow.run()
    assert result.status == 0, result.output
    return workflow


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A copy in which nothing has run."""
    return copy_workflow(tmp_path)
