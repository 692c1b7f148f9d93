"""Settings of all tests, made before torch is imported; a real smoke run that many look at, and fresh copies."""

import os
from pathlib import Path

import pytest
from workflows import Workflow, copy_workflow

# As in `roireg.workflow.job`: waiting pools of threads must not take the cores from working ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A copy in which the smoke workflow has run, for real; its dry-runs change nothing. Each worker has its own."""
    workflow = copy_workflow(tmp_path_factory.mktemp("smoke"))
    result = workflow.run()
    assert result.status == 0, result.output
    return workflow


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A copy in which nothing has run."""
    return copy_workflow(tmp_path)
