"""`roireg register --bone`: files in, a pose of each bone and pictures out, and what is told where it cannot."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from forearm import FRAME, NAMES, camera, forearm, hu_and_labels, two_views
from own_patient import write_volume
from PIL import Image
from typer.testing import CliRunner

from roireg.cli.app import app
from roireg.data.writers.poses import pose_entries, write_json
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert, transform_points


@pytest.fixture(scope="module")
def truths() -> dict[str, torch.Tensor]:
    return two_views(forearm())[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CT, its labels, two X-rays with a camera file each, and a pose near to that of the bones."""
    folder = tmp_path_factory.mktemp("forearm")
    hu, labels = hu_and_labels()
    write_volume(folder / "ct.nii.gz", hu.astype(np.int16), FRAME.numpy())
    write_volume(folder / "labels.nii.gz", labels, FRAME.numpy())
    (folder / "names.yaml").write_text(yaml.safe_dump(NAMES))
    xrays, _ = two_views(forearm())
    k = camera().intrinsics_px
    for name, xray in zip(("front", "side"), xrays, strict=True):
        grey = np.rint(60000 * xray.image.numpy()).astype(np.uint16)
        Image.fromarray(grey).save(folder / f"{name}.png")
        entries = {
            "source_to_detector_mm": 1300.0,
            "pixel_spacing_mm": 0.6,
            "principal_point_px": k[:2, 2].tolist(),
            "bone": "bright",
            "intensity": "log",
            "seen_from": "source",
            "rig_from_camera": xray.rig_from_camera.tolist(),
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(entries))
    write_json(folder / "start.json", pose_entries(xrays[0].true_pose, camera()))
    return folder


def run(folder: Path, output: Path, *args: str):
    given = ("--ct", "ct.nii.gz", "--labels", "labels.nii.gz", "--label-names", "names.yaml", "--initial", "start.json")
    paths = [str(folder / one) if "." in one else one for one in (*given, *args)]
    return CliRunner().invoke(app, ["register", *paths, "--out", str(output)])


VIEWS = ("--xray", "front.png", "--camera", "front.yaml", "--xray", "side.png", "--camera", "side.yaml")


@pytest.fixture(scope="module")
def both(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("bones") / "out"
    return output, run(folder, output, "--bone", "radius", "--bone", "ulna", *VIEWS)


def test_each_bone_gets_its_own_pose_in_the_frame_of_the_ct(both, truths):
    output, result = both
    assert result.exit_code == 0, result.output + result.stderr
    for view in ("front", "side"):
        stored = json.loads((output / view / "pose.json").read_text())
        assert [one["name"] for one in stored["bones"]] == ["radius", "ulna"]
        assert stored["volume_from_camera"] == stored["bones"][0]["volume_from_camera"]
        assert stored["warnings"] == []
        assert stored["geometry"]
        for one in stored["bones"]:
            points = torch.tensor(one["bone_points_mm"], dtype=torch.float64)
            found = torch.tensor(one["volume_from_rig"], dtype=torch.float64)
            ends = [transform_points(invert(pose), points) for pose in (found, truths[one["name"]])]
            assert float((ends[0] - ends[1]).norm(dim=-1).mean()) < 0.5
            assert one["verdict"] == "trusted"


def test_the_verdict_on_each_is_printed_and_the_pictures_are_there(both):
    output, result = both
    told = " ".join(result.output.split())
    assert "trusted radius" in told
    assert "trusted ulna" in told
    for view in ("front", "side"):
        assert np.asarray(Image.open(output / view / "overlay.png")).std() > 0


@pytest.mark.parametrize(
    "option",
    [("--method", "ours"), ("--config", "ct.yaml"), ("--exclude", "ulna"), ("--gif",), ("--roi", "ulna")],
)
def test_options_that_mean_nothing_for_a_bone_are_refused(folder, tmp_path, option):
    result = run(folder, tmp_path / "out", "--bone", "radius", *VIEWS, *option)
    assert result.exit_code == 1
    assert f"{option[0]}: " in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_told_before_the_work(folder, tmp_path):
    (tmp_path / "file").write_text("")
    result = run(folder, tmp_path / "file" / "out", "--bone", "radius", *VIEWS)
    assert result.exit_code == 1
    assert "file" in result.stderr


def test_without_a_start_and_without_labels_nothing_says_where_the_bone_is(folder, tmp_path):
    args = ["register", "--ct", str(folder / "ct.nii.gz"), "--xray", str(folder / "front.png")]
    args += ["--camera", str(folder / "front.yaml"), "--bone", "radius", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 1
    assert "Give a start with --initial, or labels with --labels" in " ".join(result.stderr.split())


def test_perturbed_starts_end_where_the_bone_is(folder, tmp_path, truths):
    """3 degrees and 3 mm off, from both views."""
    twist = torch.tensor([0.05, -0.03, 0.04, 2.0, -3.0, 2.0], dtype=torch.float64)
    start = perturb(truths["radius"], twist, forearm().center_mm)
    write_json(folder / "off.json", pose_entries(start, camera()))
    result = run(folder, tmp_path / "out", "--bone", "radius", *VIEWS, "--initial", "off.json")
    assert result.exit_code == 0
    (one,) = json.loads((tmp_path / "out/front/pose.json").read_text())["bones"]
    points = torch.tensor(one["bone_points_mm"], dtype=torch.float64)
    found = torch.tensor(one["volume_from_rig"], dtype=torch.float64)
    ends = [transform_points(invert(pose), points) for pose in (found, truths["radius"])]
    assert float((ends[0] - ends[1]).norm(dim=-1).mean()) < 0.5
