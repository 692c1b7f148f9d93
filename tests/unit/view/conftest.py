"""One CT and its X-rays for all tests here, and one workbench that has opened them."""

import pytest
from workbench import Client, Files, running, write_files


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_files(tmp_path_factory.mktemp("workbench"))


@pytest.fixture
def client(files: Files, tmp_path) -> Client:
    with running(files.opened(xrays=2, out=tmp_path / "out"), tmp_path) as opened:
        yield opened
