"""The command `roireg`: that it starts quickly, and what its parts share."""

import pytest
import yaml
from imports import TRAINING, loaded_by
from typer.testing import CliRunner

import roireg
from roireg.cli.app import app
from roireg.cli.common import load_xrays
from roireg.errors import InputError
from roireg.workflow.config import default_config


def test_help_lists_the_commands_without_loading_libraries():
    libraries = {"torch", "numpy", "numba", "SimpleITK", "matplotlib", "pydantic", *TRAINING}
    assert loaded_by("from roireg.cli.app import app; app(['--help'], standalone_mode=False)") & libraries == set()
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("inspect", "check-dataset", "register", "batch", "view", "render", "train", "evaluate", "convert"):
        assert command in result.output


def test_the_version_is_the_packages():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == roireg.__version__


def test_a_configuration_is_laid_over_the_default_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"encoders": {"diffpose": {"epochs": 3}}}))
    config = default_config(path)
    assert config["encoders"]["diffpose"]["epochs"] == 3
    assert config["encoders"]["diffpose"]["loss"] == default_config(None)["encoders"]["diffpose"]["loss"]
    path.write_text("encoders: {diffpose: {epoch: 3}}")
    with pytest.raises(InputError, match="epoch"):
        default_config(path)


def test_camera_files_go_with_x_rays(tmp_path):
    with pytest.raises(InputError, match="2 camera files for 3 X-rays"):
        load_xrays([tmp_path] * 3, [tmp_path] * 2, 0, 0, 128, False)
