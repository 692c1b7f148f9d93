"""Rows of bones that are registered from the pose of the whole CT: what is compared with what, and what fails."""

import math
from dataclasses import replace

import pytest
import torch
from forearm import DOUBLE, forearm, two_views

from roireg.data.pose_results import pose_of_row
from roireg.errors import InputError
from roireg.geometry.camera import project
from roireg.geometry.poses import perturb
from roireg.register.bone import bone_of
from roireg.register.bone_registration import BoneSettings
from roireg.register.bone_rows import BoneGroup, bone_groups, joint_mm, register_specimen_bones

QUICK = BoneSettings(starts=16, levels_px=(40, 80, 120), iterations=10)


@pytest.fixture(scope="module")
def patient():
    return forearm()


@pytest.fixture(scope="module")
def xray(patient):
    (front, _), truths = two_views(patient)
    return replace(front, bone_poses={"radius": truths["radius"], "ulna": truths["ulna"]})


def rows_of(patient, xray, start, *groups):
    return next(register_specimen_bones(patient, [xray], {xray.name: start}, groups, 0, QUICK))


def test_what_bones_moved_against_is_registered_alone_and_with_them():
    first, alone, together = bone_groups(["left femur", "right femur"], ["left hemipelvis", "right hemipelvis"])
    assert first.names == ("left femur", "right femur")
    assert alone.names == ("left hemipelvis+right hemipelvis",)
    assert together.names == ("left hemipelvis+right hemipelvis", "left femur", "right femur")
    assert together.others("left femur") == "left hemipelvis+right hemipelvis, right femur"
    assert alone.others(alone.names[0]) == ""
    assert bone_groups(["ulna"], []) == (BoneGroup(("ulna",)),)


def test_a_bone_is_registered_from_the_pose_of_the_whole_and_judged_by_its_own(patient, xray):
    (row,) = rows_of(patient, xray, xray.known_pose, BoneGroup(("radius",)))
    assert (row["bone"], row["together_with"], row["in_picture"]) == ("radius", "", 1.0)
    bone = bone_of(patient, "radius", QUICK.end_margin_mm)

    def mpd_mm(pose: torch.Tensor) -> float:
        shadows = [project(bone.points_mm, xray.camera, one) for one in (pose, xray.bone_poses["radius"])]
        return float((shadows[0] - shadows[1]).norm(dim=-1).mean()) * xray.camera.pixel_spacing_mm[0]

    assert row["init_mpd_mm"] == pytest.approx(mpd_mm(xray.known_pose))
    assert row["mpd_mm"] == pytest.approx(mpd_mm(pose_of_row(row)))
    assert row["init_mpd_mm"] > 1.5
    assert row["mpd_mm"] < 0.8
    assert row["seconds"] > 0


def test_labels_that_moved_together_are_one_bone(patient, xray):
    joined, one, other = (bone_of(patient, name, 6.0) for name in ("radius + carpals", "radius", "carpals"))
    sums = [float(bone.volume.values.sum()) * float(bone.volume.spacing_mm.prod()) for bone in (joined, one, other)]
    assert sums[0] == pytest.approx(sums[1] + sums[2], rel=1e-3)
    with pytest.raises(InputError, match="poses of their own"):
        rows_of(patient, xray, xray.known_pose, BoneGroup(("radius+ulna",)))


@pytest.mark.parametrize("start", ["outside", "none"])
def test_a_bone_without_a_result_has_failed(patient, xray, start):
    away = perturb(xray.known_pose, torch.tensor([0, 0, 0, 400.0, 0, 0], **DOUBLE), patient.center_mm)
    pose = away if start == "outside" else torch.full((4, 4), math.nan, **DOUBLE)
    rows = rows_of(patient, xray, pose, BoneGroup(("radius", "ulna")))
    assert [row["bone"] for row in rows] == ["radius", "ulna"]
    for row in rows:
        assert row["verdict"] == "failed"
        assert math.isnan(row["mpd_mm"])
        assert math.isnan(row["pose_00"])
        assert math.isfinite(row["init_mpd_mm"]) == (start == "outside")


def test_an_unknown_label_is_told_and_an_xray_without_a_start_is_left_out(patient, xray):
    with pytest.raises(InputError, match="scaphoid"):
        rows_of(patient, xray, xray.known_pose, BoneGroup(("scaphoid",)))
    assert not list(register_specimen_bones(patient, [xray], {}, [BoneGroup(("radius",))], 0, QUICK))


def test_a_bone_turns_about_its_joint_if_the_ct_has_that_landmark(patient):
    wrist = torch.tensor([[15.0, 20.0, 40.0]], **DOUBLE)
    landmarked = replace(patient, landmark_names=("wrist",), landmarks_mm=wrist)
    joint = joint_mm(landmarked, {"Radius": "wrist", "ulna": None}, "radius")
    assert torch.equal(joint, wrist[0])
    assert torch.equal(bone_of(landmarked, "radius", 6.0, joint).center_mm, wrist[0])
    assert joint_mm(landmarked, {"Radius": "wrist", "ulna": None}, "ulna") is None
    assert joint_mm(landmarked, {}, "radius") is None
    with pytest.raises(InputError, match=r"config: bones\.joints: radius: .* 'elbow'.*wrist"):
        joint_mm(landmarked, {"radius": "elbow"}, "radius")
