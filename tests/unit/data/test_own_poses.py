"""Poses for other programs say the same pose."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from own_patient import carm_angles_deg, carm_camera

from roireg.data.pose_formats.formats import FORMATS
from roireg.data.writers.poses import StoredPose, pose_entries, read_pose, write_json
from roireg.errors import InputError
from roireg.geometry.camera import Camera, project
from roireg.geometry.conversions import to_diffdrr
from roireg.geometry.poses import carm_pose, pa_pose, perturb
from roireg.metrics.pose_file_errors import pose_errors, read_markups

DOUBLE = {"dtype": torch.float64}
CENTER = torch.tensor([12.0, -40.0, 300.0], **DOUBLE)
POINTS = CENTER + torch.tensor([[50.0, 0, 0], [0, -30, 0], [0, 10, 60], [-20, 5, -30]], **DOUBLE)
TWIST = torch.tensor([0.1, -0.2, 0.05, 5.0, -8.0, 12.0], **DOUBLE)
CAMERA = carm_camera(100)
POSE = perturb(pa_pose(CENTER, 720.0), TWIST, CENTER)


@pytest.fixture
def stored(tmp_path) -> StoredPose:
    write_json(tmp_path / "pose.json", {**pose_entries(POSE, CAMERA), "bone_points_mm": POINTS.tolist()})
    return read_pose(tmp_path / "pose.json")


def exported(name: str, stored: StoredPose, folder) -> str:
    path = folder / f"out{FORMATS[name].ending}"
    FORMATS[name].write(path, stored)
    return str(path)


def test_a_pose_file_is_read_back_to_the_last_digit(stored):
    assert torch.equal(stored.pose, POSE)
    assert torch.equal(stored.camera.intrinsics_px, CAMERA.intrinsics_px)
    assert (stored.camera.height, stored.camera.pixel_spacing_mm) == (100, CAMERA.pixel_spacing_mm)
    for word in ("LPS", "mm", "volume_from_camera", "source", "depth * (column, row, 1)"):
        assert word in stored.entries["convention"]


def test_the_convention_in_the_file_is_the_one_that_projects(stored):
    entries = stored.entries
    pose, k = np.array(entries["volume_from_camera"]), np.array(entries["camera"]["intrinsics_px"])
    for point, expected in zip(POINTS.numpy(), project(POINTS, CAMERA, POSE).numpy(), strict=True):
        in_camera = np.linalg.inv(pose) @ [*point, 1.0]
        pixel = k @ in_camera[:3] / in_camera[2]
        np.testing.assert_allclose(pixel[:2], expected, atol=1e-9)


def test_itks_transform_maps_points_of_the_volume_to_the_camera(stored, tmp_path):
    transform = sitk.ReadTransform(exported("itk", stored, tmp_path))
    inverse = torch.linalg.inv(POSE)
    for point in POINTS:
        expected = (inverse @ torch.cat([point, torch.ones(1, **DOUBLE)]))[:3]
        np.testing.assert_allclose(transform.TransformPoint(point.tolist()), expected.numpy(), atol=1e-9)


def test_the_matrix_is_plain_text(stored, tmp_path):
    np.testing.assert_allclose(np.loadtxt(exported("matrix", stored, tmp_path)), POSE.numpy(), atol=1e-8)


def test_slicers_points_are_where_the_carm_was(stored, tmp_path):
    path = exported("slicer-points", stored, tmp_path)
    markup = json.loads(Path(path).read_text())["markups"][0]
    assert (markup["coordinateSystem"], markup["coordinateUnits"]) == ("LPS", "mm")
    points = {point["label"]: torch.tensor(point["position"], **DOUBLE) for point in markup["controlPoints"]}
    source, middle = points["X-ray source"], points["detector middle"]
    assert float((middle - source).norm()) == pytest.approx(CAMERA.source_to_detector_mm)
    corner = points["detector top left"]
    # A point on the ray to the corner is seen there.
    halfway = source + 0.5 * (corner - source)
    assert project(halfway[None], CAMERA, POSE)[0].tolist() == pytest.approx([-0.5, -0.5])
    assert torch.allclose(points["reference 2"], POINTS[1])
    assert len(read_markups(path)[0]) == 6 + len(POINTS)


def test_diffdrrs_arguments_are_those_of_our_backend(stored, tmp_path):
    entries = json.loads(Path(exported("diffdrr", stored, tmp_path)).read_text())
    expected = to_diffdrr(CAMERA, POSE[None])
    assert torch.allclose(torch.tensor(entries["RigidTransform"], **DOUBLE), expected.pose[0])
    assert {key: getattr(expected, key) for key in entries["DRR"]} == entries["DRR"]


def test_markups_in_ras_are_turned(tmp_path, stored):
    path = exported("slicer-points", stored, tmp_path)
    entries = json.loads(Path(path).read_text())
    entries["markups"][0]["coordinateSystem"] = "RAS"
    write_json(tmp_path / "ras.mrk.json", entries)
    turned, notes = read_markups(tmp_path / "ras.mrk.json")
    assert notes == ()
    assert torch.allclose(turned * torch.tensor([-1.0, -1, 1]), read_markups(path)[0])


def test_landmarks_that_are_not_placed_are_left_out_and_said(tmp_path, stored):
    entries = json.loads(Path(exported("slicer-points", stored, tmp_path)).read_text())
    points = entries["markups"][0]["controlPoints"]
    whole = len(points)
    points[1] |= {"position": [0.0, 0.0, 0.0], "positionStatus": "undefined"}
    points[3]["position"] = None
    write_json(tmp_path / "some.mrk.json", entries)
    found, notes = read_markups(tmp_path / "some.mrk.json")
    assert len(found) == whole - 2
    assert notes == (f"2 of {whole} are not placed and left out",)
    write_json(tmp_path / "truth.json", pose_entries(POSE, CAMERA))
    _, told = pose_errors(tmp_path / "truth.json", tmp_path / "truth.json", tmp_path / "some.mrk.json")
    assert notes[0] in told


def test_landmarks_in_metres_are_converted_and_other_units_refused(tmp_path, stored):
    path = exported("slicer-points", stored, tmp_path)
    entries = json.loads(Path(path).read_text())
    markup = entries["markups"][0]
    markup["coordinateUnits"] = "m"
    for point in markup["controlPoints"]:
        point["position"] = [x / 1000 for x in point["position"]]
    write_json(tmp_path / "m.mrk.json", entries)
    found, notes = read_markups(tmp_path / "m.mrk.json")
    assert torch.allclose(found, read_markups(path)[0])
    assert notes == ("converted from m to mm",)
    markup["coordinateUnits"] = "furlong"
    write_json(tmp_path / "m.mrk.json", entries)
    with pytest.raises(InputError, match="coordinateUnits"):
        read_markups(tmp_path / "m.mrk.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "not JSON"),
        ("{}", "not a pose file"),
        ('{"format": "roireg pose"}', "missing"),
        ("[1]", "not a pose file"),
    ],
)
def test_what_is_no_pose_is_told(tmp_path, text, said):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_pose(tmp_path / "p.json")


def test_a_matrix_that_is_not_rigid_is_told(tmp_path):
    write_json(tmp_path / "p.json", pose_entries(2 * POSE, CAMERA))
    with pytest.raises(InputError, match="rigid"):
        read_pose(tmp_path / "p.json")


def test_errors_of_a_pose_and_of_another_detector(tmp_path, stored):
    shift = perturb(POSE, torch.tensor([0, 0, 0, 3.0, 0, 0], **DOUBLE), CENTER)
    write_json(tmp_path / "truth.json", pose_entries(shift, CAMERA))
    errors, points = pose_errors(tmp_path / "pose.json", tmp_path / "truth.json", None)
    assert errors["tre_mm"] == pytest.approx(3.0)
    assert 3.0 < errors["mpd_mm"] < 5.0
    assert "(4)" in points
    write_json(tmp_path / "half.json", pose_entries(shift, CAMERA.resized(50, 50)))
    assert pose_errors(tmp_path / "pose.json", tmp_path / "half.json", None)[0]["tre_mm"] == pytest.approx(3.0)
    write_json(tmp_path / "other.json", pose_entries(shift, CAMERA.cropped(10)))
    with pytest.raises(InputError, match="detector"):
        pose_errors(tmp_path / "pose.json", tmp_path / "other.json", None)


@given(st.floats(-179, 179), st.floats(-85, 85))
def test_a_carms_angles_are_read_back(primary, secondary):
    pose = carm_pose(CENTER, 720.0, primary, secondary)
    assert carm_angles_deg(pose) == pytest.approx((primary, secondary), abs=1e-6)
    assert torch.allclose(pose[:3, 3] + 720.0 * pose[:3, 2], CENTER)


def test_a_carm_at_zero_is_pa():
    assert torch.allclose(carm_pose(CENTER, 700.0, 0, 0), pa_pose(CENTER, 700.0))


@pytest.mark.parametrize("camera", [CAMERA, Camera(CAMERA.intrinsics_px, 60, 100, (2.0, 2.0))])
def test_a_mirrored_camera_sees_the_mirrored_picture(camera):
    here, there = project(POINTS, camera, POSE), project(POINTS, camera.mirrored(), POSE)
    assert torch.allclose(there[:, 0], camera.width - 1 - here[:, 0])
    assert torch.allclose(there[:, 1], here[:, 1])
    assert torch.equal(camera.mirrored().mirrored().intrinsics_px, camera.intrinsics_px)
