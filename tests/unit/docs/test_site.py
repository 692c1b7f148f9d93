"""The site: it is built without a warning, every public name is on its page, and a broken link is noticed."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workflows import REPOSITORY

import roireg

PARTS = ("docs", "src", "config", "mkdocs.yml", "config.yaml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINKED = ("CITATION.cff", "LICENSE")


def test_every_public_name_is_on_the_page_of_the_library():
    page = (REPOSITORY / "docs" / "api.md").read_text()
    shown = {}
    for path in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
        module, _, name = path.rpartition(".")
        shown[name] = getattr(importlib.import_module(module), name)
    assert shown == {name: getattr(roireg, name) for name in roireg.__all__ if name != "__version__"}


@pytest.fixture
def copy(tmp_path) -> Path:
    for part in (*PARTS, *LINKED):
        if (REPOSITORY / part).is_dir():
            shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / part, tmp_path / part)
    return tmp_path


def built(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mkdocs", "build"], cwd=folder, capture_output=True, text=True)


def test_the_site_is_built_and_a_broken_link_or_a_lost_page_is_not_let_through(copy):
    done = built(copy)
    assert done.returncode == 0, done.stderr
    site = copy / "build" / "site"
    start = (site / "start.html").read_text()
    assert 'href="own-data.html"' in start
    assert (site / "images" / "own-patient.png").is_file()
    assert "register_xrays" in (site / "api.html").read_text()
    (copy / "docs" / "lost.md").write_text("[nowhere](absent.md) [gone](own-data.md#no-such-heading)\n")
    done = built(copy)
    assert done.returncode == 1
    for said in ("lost.md", "absent.md", "no-such-heading"):
        assert said in done.stderr
