"""An X-ray whose tags say nothing about its values is registered with either meaning, and the result says which."""

import json

import numpy as np
import pydicom
import torch
from typer.testing import CliRunner

from reliability.registered import CAMERA, TRUE_MM, write_whole
from roireg.cli.app import app
from roireg.data.writers.poses import read_pose
from roireg.data.xray import OTHER_POLARITY
from roireg.geometry.camera import project


def test_white_bone_without_a_tag_is_found_and_said(tmp_path):
    whole = write_whole(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    dataset.PixelData = (np.uint16(65535) - dataset.pixel_array).tobytes()
    del dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign
    dataset.save_as(tmp_path / "x.dcm")
    files = ["--ct", str(tmp_path / "ct.nrrd"), "--xray", str(tmp_path / "x.dcm")]
    done = CliRunner().invoke(app, ["register", *files, "--size", "64", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output + done.stderr
    assert OTHER_POLARITY in " ".join(done.stderr.split())
    stored = json.loads((tmp_path / "out" / "pose.json").read_text())
    assert OTHER_POLARITY in stored["warnings"]
    pose = torch.as_tensor(read_pose(tmp_path / "out" / "pose.json").pose)
    off_px = (project(whole.bone_mm, CAMERA, pose) - whole.pixels).norm(dim=-1).mean()
    assert float(off_px) * CAMERA.pixel_spacing_mm[0] < TRUE_MM
