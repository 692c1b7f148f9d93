"""Settings of all tests, made before torch is imported; one real smoke run that many look at, and fresh copies."""

import os
from pathlib import Path

import pytest
from workflows import Workflow, copy_workflow

# As in `roireg.job`: waiting pools of threads must not take the cores from working ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two workers (`make test`), one makes the smoke run and all tests that look at it; other files stay whole."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("smoke" if "smoke" in item.fixturenames else item.path.name))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group").args[0] != "smoke")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A copy in which the smoke workflow has run, for real; its dry-runs change nothing."""
    workflow = copy_workflow(tmp_path_factory.mktemp("smoke"))
    result = workflow.run()
    assert result.status == 0, result.output
    return workflow


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A copy in which nothing has run."""
    return copy_workflow(tmp_path)
