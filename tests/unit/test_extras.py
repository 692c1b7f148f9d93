"""Optional packages: each is named in pyproject.toml and in the table of extras, and its absence is one line."""

import ast
import logging
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from workflows import REPOSITORY

from roireg.cli.common import one_line_errors
from roireg.extras import EXTRA_OF, missing_extra
from roireg.workflow.job import job

# Parts of the installation that users have no need to know, or that only gather others.
INTERNAL = {"all", "dev", "bench", "docs"}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements} - {"roireg"}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def extras(project) -> dict[str, set[str]]:
    every = project["optional-dependencies"].items()
    return {extra: names(lines) for extra, lines in every if extra not in INTERNAL}


installed = cache(packages_distributions)


def distributions(package: str) -> set[str]:
    return {canonicalize_name(name) for name in installed().get(package, ())}


def third_party(folder: Path) -> set[str]:
    """Packages that modules import, anywhere in them."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"roireg"}


def test_each_package_of_the_table_is_a_requirement_of_its_extra_and_not_of_the_base(project, extras):
    for package, extra in EXTRA_OF.items():
        assert distributions(package) & extras[extra], package
        assert not distributions(package) & names(project["dependencies"]), package


def test_each_requirement_of_an_extra_is_in_the_table(extras):
    known = set().union(*(distributions(package) for package in EXTRA_OF))
    assert set().union(*extras.values()) - known == set()


def test_every_package_that_the_library_imports_is_a_requirement_of_the_base_or_in_the_table(project):
    # Parts of pydantic, jinja2 and pyvista, which bring them.
    of_others = {"annotated_types", "pydantic_core", "typing_extensions", "markupsafe", "vtkmodules"}
    imported = third_party(REPOSITORY / "src") - of_others
    assert len(imported) > 20
    base = names(project["dependencies"])
    assert {one for one in imported if not distributions(one) & base} - set(EXTRA_OF) == set()


def test_all_gathers_every_extra(project, extras):
    every = {part for line in project["optional-dependencies"]["all"] for part in Requirement(line).extras}
    assert extras.keys() - every - {"train"} == set()


def test_a_missing_package_is_one_line_that_names_its_extra(capsys):
    error = ModuleNotFoundError("No module named 'monai.losses'", name="monai.losses")
    line = 'this needs the package monai: pip install "roireg[train]"'
    assert missing_extra(error) == line
    with pytest.raises(SystemExit, match="1"), one_line_errors():
        raise error
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_missing_module_of_no_extra_is_a_fault_of_the_program():
    error = ModuleNotFoundError("No module named 'roireg.nowhere'", name="roireg.nowhere")
    assert missing_extra(error) is None
    assert missing_extra(ModuleNotFoundError("without a name")) is None
    with pytest.raises(ModuleNotFoundError), one_line_errors():
        raise error


def test_a_job_of_the_workflow_says_it_in_its_log(tmp_path):
    with pytest.raises(SystemExit, match="1"), job(tmp_path / "log", 1):
        raise ModuleNotFoundError("No module named 'timm'", name="timm")
    logged = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(r'[\d:]+ error: this needs the package timm: pip install "roireg\[train\]"', logged[-1])
    assert not logging.getLogger("roireg").handlers
