"""`roireg register --frames`: sequences of a whole CT and of bones; what is left behind, and what is told."""

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
import yaml
from builders import attenuation, carm, middle_mm, phantom_ct
from forearm import FRAME, NAMES, camera, forearm, hu_and_labels, two_views
from own_patient import counted, write_carm_dicom, write_volume
from PIL import Image
from typer.testing import CliRunner

import roireg
from roireg.cli.app import app
from roireg.data.pose_results import pose_of_row
from roireg.data.writers.poses import pose_entries, write_json
from roireg.drr import render
from roireg.geometry.poses import carm_pose, perturb
from roireg.geometry.se3 import invert, transform_points
from roireg.metrics.pose_errors import registration_errors

SIZE = 120
# Of the patient since the first frame: rad and mm. Between the last two he is moved by hand.
STEPS = ((0, 0, 0, 0, 0, 0), (0.01, 0, -0.01, 1, -1, 2), (0.02, 0, -0.02, 2, -2, 4), (0.1, -0.15, 0.2, 12, 18, 30))
NO_BONE = 2


def phantom_camera():
    spacing = 300.0 / SIZE
    middle = ((SIZE - 1) / 2, (SIZE - 1) / 2)
    return carm(SIZE, SIZE, spacing, spacing, middle, np.eye(4)).camera()


def truth(step) -> torch.Tensor:
    """`volume_from_camera` of a frame."""
    center = middle_mm(phantom_ct())
    start = perturb(carm_pose(center, 734.4, 0.0, 0.0), torch.tensor([0.03, -0.02, 0.04, 4, -5, 3]).double(), center)
    return perturb(start, torch.tensor(step, dtype=torch.float64), center)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CT, and a sequence of it in one file, one of whose frames shows nothing."""
    folder = tmp_path_factory.mktemp("sequence")
    ct, seen = phantom_ct(), phantom_camera()
    write_volume(folder / "ct.nii.gz", ct.hu.astype(np.int16), ct.volume_from_voxel())
    images = [counted(torch.exp(-render(attenuation(ct), seen, truth(step)[None])[0])) for step in STEPS]
    rng = np.random.default_rng(0)
    images.insert(NO_BONE, (30000 + 300 * rng.normal(size=images[0].shape)).astype(np.uint16))
    write_carm_dicom(folder / "one.dcm", images[0], seen, (0.0, 0.0))
    dataset = pydicom.dcmread(folder / "one.dcm")
    dataset.NumberOfFrames, dataset.PixelData = len(images), np.stack(images).tobytes()
    dataset.save_as(folder / "run.dcm", enforce_file_format=True)
    (folder / "frames").mkdir()
    # In the order of numbers, 9 comes before 10.
    for number, image in zip((8, 9, 10, 11, 12), images, strict=True):
        write_carm_dicom(folder / "frames" / f"f{number}.dcm", image, seen, (0.0, 0.0))
    return folder


def run(folder: Path, xray: str, output: Path, *args: str):
    given = ["--ct", folder / "ct.nii.gz", "--xray", folder / xray, "--size", "64", "--out", output, *args]
    return CliRunner().invoke(app, ["register", *map(str, given)])


def told(result) -> str:
    return " ".join((result.output + result.stderr).split())


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out"
    result = run(folder, "run.dcm", output, "--frames", "0:4")
    return output, result


def test_each_frame_is_found_also_after_one_that_shows_nothing_and_after_a_jump(whole):
    output, result = whole
    rows = pd.read_csv(output / "poses.csv")
    assert rows["frame"].tolist() == [0, 1, 2, 3, 4], told(result)
    landmarks = torch.from_numpy(np.stack([*phantom_ct().landmarks_mm.values()]))
    steps = [*STEPS[:NO_BONE], None, *STEPS[NO_BONE:]]
    for (_, row), step in zip(rows.iterrows(), steps, strict=True):
        if step is None:
            assert row["verdict"] == "failed"
            continue
        found = registration_errors(pose_of_row(row), truth(step), phantom_camera(), landmarks, middle_mm(phantom_ct()))
        assert found["mpd_mm"] < 1
        assert row["verdict"] != "failed"


def test_the_motion_is_that_since_the_first_frame_in_the_axes_of_the_rig(folder, whole):
    rows = pd.read_csv(whole[0] / "poses.csv").set_index("frame")
    center = roireg.read_patient(folder / "ct.nii.gz").center_mm
    for frame, step in ((0, STEPS[0]), (3, STEPS[2])):
        began, ended = (transform_points(invert(truth(one)), center[None])[0] for one in (STEPS[0], step))
        moved = rows.loc[frame, [f"motion_{axis}_mm" for axis in "xyz"]].to_numpy(float)
        # Depth is what one view knows least.
        np.testing.assert_allclose(moved[:2], (ended - began).numpy()[:2], atol=0.3)
        np.testing.assert_allclose(moved[2], float((ended - began)[2]), atol=3.0)
        turned = rows.loc[frame, [f"motion_{axis}_deg" for axis in "xyz"]].to_numpy(float)
        assert abs(np.linalg.norm(turned) - np.rad2deg(np.linalg.norm(step[:3]))) < 0.5


def test_a_failed_frame_makes_the_status_and_the_files_of_all_are_there(whole):
    output, result = whole
    assert result.exit_code == 3
    assert "1 failed" in told(result)
    for frame in range(5):
        assert (output / f"frame-{frame:04d}" / "pose.json").is_file()
    with Image.open(output / "sequence.gif") as picture:
        assert picture.n_frames == 5
    assert np.asarray(Image.open(output / "motion.png")).std() > 0


def test_a_folder_of_frames_is_the_same_sequence_in_the_order_of_numbers(folder, whole, tmp_path):
    done = run(folder, "frames", tmp_path / "out", "--frames", "0:1")
    assert done.exit_code == 0, told(done)
    rows = pd.read_csv(tmp_path / "out" / "poses.csv")
    assert rows["xray"].tolist() == ["f8.dcm", "f9.dcm"]
    poses = [f"pose_{r}{c}" for r in range(3) for c in range(4)]
    first = pd.read_csv(whole[0] / "poses.csv").iloc[:2]
    np.testing.assert_allclose(rows[poses].to_numpy(float), first[poses].to_numpy(float), atol=1e-6)


@pytest.mark.parametrize(
    ("xray", "frames", "said"),
    [
        ("run.dcm", "0-4", "--frames: it is '0-4'"),
        ("run.dcm", "4:0", "frame 4"),
        ("run.dcm", "0:7", "run.dcm"),
        ("frames", "3:5", "it holds 5 files, and frame 5 was asked for"),
    ],
)
def test_frames_that_are_not_there_are_told_before_the_work(folder, tmp_path, xray, frames, said):
    done = run(folder, xray, tmp_path / "out", "--frames", frames)
    assert done.exit_code == 1
    assert said in told(done)
    assert "Traceback" not in told(done)
    assert not (tmp_path / "out").exists()


def test_frame_and_frames_are_not_given_together(folder, tmp_path):
    done = run(folder, "run.dcm", tmp_path / "out", "--frames", "0:1", "--frame", "2")
    assert done.exit_code == 1
    assert "--frame: it has no effect together with --frames" in told(done)


def test_bones_of_two_views_are_followed_each_on_its_own(tmp_path):
    hu, labels = hu_and_labels()
    write_volume(tmp_path / "ct.nii.gz", hu.astype(np.int16), FRAME.numpy())
    write_volume(tmp_path / "labels.nii.gz", labels, FRAME.numpy())
    (tmp_path / "names.yaml").write_text(yaml.safe_dump(NAMES))
    shares, truths = (0.0, 0.7), []
    arguments = []
    for number, share in enumerate(shares):
        xrays, moved = two_views(forearm(), share)
        truths.append(moved)
        for name, xray in zip(("front", "side"), xrays, strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            grey = np.rint(60000 * xray.image.numpy()).astype(np.uint16)
            Image.fromarray(grey).save(tmp_path / name / f"{number}.png")
            entries = {
                "source_to_detector_mm": 1300.0,
                "pixel_spacing_mm": 0.6,
                "principal_point_px": camera().intrinsics_px[:2, 2].tolist(),
                "bone": "bright",
                "intensity": "log",
                "seen_from": "source",
                "rig_from_camera": xray.rig_from_camera.tolist(),
            }
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(entries))
        if number == 0:
            write_json(tmp_path / "start.json", pose_entries(xrays[0].true_pose, camera()))
    for name in ("front", "side"):
        arguments += ["--xray", tmp_path / name, "--camera", tmp_path / f"{name}.yaml"]
    arguments += ["--ct", tmp_path / "ct.nii.gz", "--labels", tmp_path / "labels.nii.gz"]
    arguments += ["--label-names", tmp_path / "names.yaml", "--initial", tmp_path / "start.json", "--bone", "radius"]
    arguments += ["--bone", "ulna", "--frames", "0:1", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, ["register", *map(str, arguments)])
    assert done.exit_code == 0, told(done)
    rows = pd.read_csv(tmp_path / "out" / "poses.csv")
    assert rows[["frame", "body", "xray"]].to_numpy().tolist() == [
        [frame, bone, f"{frame}.png"] for frame in (0, 1) for bone in ("radius", "ulna") for _ in range(2)
    ]
    for bone in ("radius", "ulna"):
        for frame in (0, 1):
            (row, _) = (one for _, one in rows[(rows["body"] == bone) & (rows["frame"] == frame)].iterrows())
            off = invert(pose_of_row(row)) @ truths[frame][bone]
            middle = transform_points(invert(truths[frame][bone]), forearm().center_mm[None])
            assert float((transform_points(off, middle) - middle).norm()) < 1.0
    for view in (1, 2):
        with Image.open(tmp_path / "out" / f"sequence-{view}.gif") as picture:
            assert picture.n_frames == 2
