"""What `roireg report-bug` tells, and what it must not tell."""

import getpass
import json

import pytest
import torch
import yaml
from own_patient import carm_camera
from typer.testing import CliRunner

from roireg.cli.app import app
from roireg.data.writers.poses import pose_entries
from roireg.geometry.poses import pa_pose
from roireg.report.bug_report import changed, scrubbed

SECRETS = ("Smith", "John", "clinic", "jsmith", "Tibia_of_Smith", "holiday")


@pytest.fixture
def pose_file(tmp_path):
    camera = carm_camera(64)
    pose = pa_pose(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), 700.0)
    entries = {
        **pose_entries(pose, camera),
        "roireg": "0.1.0",
        "method": "holiday",
        "ct": "Smith_John.nii.gz",
        "xray": "/home/jsmith/clinic/Smith_John_1.dcm",
        "views_registered_together": ["/home/jsmith/clinic/Smith_John_1.dcm", "Smith_John_2.dcm"],
        "verdict": "check",
        "reasons": ["Smith_John_2.dcm contradicts smith_john_1", "see /home/jsmith/clinic/Smith_John_1.dcm"],
        "warnings": [f"of {getpass.getuser()}: no tag says what values mean"],
        "evidence": {"ncc": 0.71},
        "bones": {"Tibia_of_Smith": {"volume_from_camera": pose.tolist()}},
        "geometry": [{"name": "pixel", "value": "0.2 mm", "source": "ImagerPixelSpacing", "PatientName": "Smith"}],
        "PatientName": "Smith^John",
        "bone_points_mm": [[1.0, 2.0, 3.0]],
    }
    (tmp_path / "pose.json").write_text(json.dumps(entries))
    return tmp_path / "pose.json"


def told(*arguments) -> str:
    result = CliRunner().invoke(app, ["report-bug", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_it_tells_versions_device_and_geometry_and_no_names(pose_file):
    text = told(pose_file)
    for secret in (*SECRETS, str(pose_file.parent)):
        assert secret.lower() not in text.lower(), secret
    report = yaml.safe_load(text)
    assert report["packages"]["torch"] == torch.__version__.split("+")[0] or "+" in report["packages"]["torch"]
    assert set(report["machine"]) == {"python", "system", "cores", "memory_gb", "gpus"}
    found = report["result"]
    assert found["camera"]["source_to_detector_mm"] == pytest.approx(1000.0)
    assert len(found["volume_from_camera"]) == 4
    assert found["evidence"]["ncc"] == 0.71
    assert found["reasons"][0] == "<name> contradicts <name>"
    assert found["geometry"] == [{"name": "pixel", "value": "0.2 mm", "source": "ImagerPixelSpacing"}]
    assert found["views"] == 2
    assert "bone_points_mm" not in text


def test_of_a_configuration_only_what_differs_is_told_and_no_names(tmp_path):
    path = tmp_path / "mine.yaml"
    mine = {
        "deepfluoro": {"path": "/home/jsmith/clinic/data.h5"},
        "methods": {"holiday": {"label": "Smith", "init": "pa", "similarity": "ssim", "optimizer": "adam"}},
        "optimizers": {"adam": {"patience": 33}},
    }
    path.write_text(yaml.safe_dump({key: mine[key] for key in ("methods", "optimizers")}))
    text = told("--config", path)
    for secret in SECRETS:
        assert secret.lower() not in text.lower()
    (found,) = (value for key, value in yaml.safe_load(text).items() if key.startswith("config"))
    assert found["optimizers"]["adam"] == {"patience": 33}
    assert found["methods"]["<name>"]["similarity"] == "ssim"
    assert found["methods"]["<name>"]["label"] == "<name>"
    assert changed(mine["deepfluoro"], {"path": None}) == {"path": "<name>"}


def test_it_can_be_written_to_a_file(tmp_path):
    assert "read it before you send it" in " ".join(told("-o", tmp_path / "bug.yaml").split())
    assert "packages" in yaml.safe_load((tmp_path / "bug.yaml").read_text())


def test_paths_go_whatever_they_are_called():
    assert scrubbed({"a": [r"in C:\Users\x\y.png, so"]}, []) == {"a": ["in <path> so"]}
    assert scrubbed(3.5, []) == 3.5


def test_what_stands_in_quotes_is_a_name_and_an_apostrophe_is_none():
    assert scrubbed("the patient's label 'left knee' isn't there", []) == "the patient's label <name> isn't there"
