"""`roireg batch`: each X-ray as `roireg register` alone would find it, and none stops the others."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from builders import attenuation, carm, middle_mm, phantom_ct
from own_patient import counted, write_carm_dicom, write_volume
from typer.testing import CliRunner

from roireg.cli.app import app
from roireg.data.pose_results import pose_of_row
from roireg.drr import render
from roireg.geometry.poses import carm_pose, perturb

SIZE = 96
TWISTS = {"a.dcm": (0.03, -0.02, 0.04, 4, -5, 3), "b.dcm": (-0.02, 0.03, -0.03, -6, 4, -5)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CT, two X-rays of it, and one that is none."""
    folder = tmp_path_factory.mktemp("batch")
    ct, spacing, middle = phantom_ct(), 300.0 / SIZE, ((SIZE - 1) / 2, (SIZE - 1) / 2)
    camera = carm(SIZE, SIZE, spacing, spacing, middle, np.eye(4)).camera()
    write_volume(folder / "ct.nii.gz", ct.hu.astype(np.int16), ct.volume_from_voxel())
    for name, twist in TWISTS.items():
        center = middle_mm(ct)
        pose = perturb(carm_pose(center, 734.4, 0.0, 0.0), torch.tensor(twist, dtype=torch.float64), center)
        image = counted(torch.exp(-render(attenuation(ct), camera, pose[None])[0]))
        write_carm_dicom(folder / name, image, camera, (0.0, 0.0))
    (folder / "none.dcm").write_bytes(b"this is no X-ray" * 30)
    return folder


def call(command: str, *args: object):
    return CliRunner().invoke(app, [command, "--size", "64", *map(str, args)])


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("done") / "out"
    xrays = [folder / name for name in ("a.dcm", "none.dcm", "b.dcm")]
    return output, call("batch", "--ct", folder / "ct.nii.gz", *xrays, "-o", output)


def test_a_file_that_is_no_xray_has_a_row_that_says_why_and_does_not_stop_the_others(done):
    output, result = done
    rows = pd.read_csv(output / "results.csv")
    assert [Path(name).name for name in rows["xray"]] == ["a.dcm", "none.dcm", "b.dcm"]
    assert rows["verdict"].tolist()[1] == "refused"
    assert "none.dcm" in rows["reasons"][1]
    assert rows["pose_00"].isna().tolist() == [False, True, False]
    assert result.exit_code == 1
    assert "1 refused" in result.output


def test_poses_are_those_of_each_xray_registered_alone(folder, done, tmp_path):
    output, _ = done
    rows = pd.read_csv(output / "results.csv")
    alone = call("register", "--ct", folder / "ct.nii.gz", "--xray", folder / "b.dcm", "-o", tmp_path)
    assert alone.exit_code == 0, alone.output
    expected = json.loads((tmp_path / "pose.json").read_text())
    row = rows.iloc[2]
    np.testing.assert_array_equal(pose_of_row(row).numpy(), np.array(expected["volume_from_camera"]))
    assert row["verdict"] == expected["verdict"]
    assert row["ncc"] == expected["evidence"]["ncc"]
    written = json.loads((Path(row["folder"]) / "pose.json").read_text())
    assert written["volume_from_camera"] == expected["volume_from_camera"]


def test_what_is_wrong_with_the_options_is_told_once(folder, tmp_path):
    xrays = [folder / name for name in TWISTS]
    result = call("batch", "--ct", folder / "ct.nii.gz", *xrays, "--method", "none such", "-o", tmp_path)
    assert result.exit_code == 1
    assert result.output.count("none such") == 1
    result = call("batch", "--ct", folder / "ct.nii.gz", *xrays, *["--camera", folder / "x.yaml"] * 3, "-o", tmp_path)
    assert "3 camera files for 2 X-rays" in result.output
