"""Bones registered alone, in a picture full of other things: poses, sawn ends, several at once, and verdicts."""

from dataclasses import replace

import pytest
import torch
from forearm import DOUBLE, SPACING_MM, camera, forearm, two_views

from roireg.data.patient import Patient
from roireg.data.volume import Volume
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.geometry.camera import project
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert, transform_points
from roireg.register.bone import bone_of, rays_near
from roireg.register.bone_registration import BoneSettings, find_bones
from roireg.register.bones import register_bones
from roireg.register.verdict import Grade

QUICK = BoneSettings(starts=24, levels_px=(40, 80, 120))


@pytest.fixture(scope="module")
def patient() -> Patient:
    return forearm()


@pytest.fixture(scope="module")
def scene(patient) -> tuple[list[Xray], dict[str, torch.Tensor]]:
    return two_views(patient)


def error_mm(bone, pose: torch.Tensor, truth: torch.Tensor) -> float:
    ends = [transform_points(invert(one), bone.points_mm) for one in (pose, truth)]
    return float((ends[0] - ends[1]).norm(dim=-1).mean())


def test_two_bones_that_moved_on_their_own_are_found_together(patient, scene):
    xrays, truths = scene
    start = xrays[0].true_pose
    results = register_bones(patient, xrays, ["radius", "ulna"], start, QUICK)
    for one in results:
        truth = truths[one.bone.name]
        assert error_mm(one.bone, start, truth) > 1.4
        assert error_mm(one.bone, one.rig_pose, truth) < 0.3
        assert one.verdict.grade is Grade.TRUSTED
        assert max(view.spread.projection_mm for view in one.views) < 0.5


def test_a_bone_alone_is_found_in_a_picture_full_of_other_things(patient, scene):
    xrays, truths = scene
    (one,) = register_bones(patient, xrays, ["radius"], xrays[0].true_pose, QUICK)
    assert error_mm(one.bone, one.rig_pose, truths["radius"]) < 0.5


def test_one_view_says_that_it_does_not_see_depth(patient, scene):
    xrays, truths = scene
    (one,) = register_bones(patient, xrays[:1], ["radius"], xrays[0].true_pose, QUICK)
    (both,) = register_bones(patient, xrays, ["radius"], xrays[0].true_pose, QUICK)
    ends = [transform_points(invert(pose), one.bone.points_mm) for pose in (one.rig_pose, truths["radius"])]
    across, depth = (ends[0] - ends[1])[:, :2].norm(dim=-1).mean(), (ends[0] - ends[1])[:, 2].mean()
    assert float(across) < 0.5
    assert abs(float(depth)) < 3 * one.views[0].spread.depth_mm
    assert one.views[0].spread.depth_mm > 3 * both.views[0].spread.depth_mm


def test_a_ct_that_holds_the_bone_alone_needs_no_labels(patient, scene):
    xrays, truths = scene
    mask = patient.labels == 1
    alone = replace(patient, volume=patient.volume.with_values(patient.volume.values * mask), labels=None)
    (one,) = register_bones(alone, xrays, ["radius"], xrays[0].true_pose, QUICK)
    assert error_mm(one.bone, one.rig_pose, truths["radius"]) < 0.5


def test_another_bone_is_not_trusted(patient, scene):
    xrays, _ = scene
    # Where the radius is, the carpals are not.
    beside = perturb(xrays[0].true_pose, torch.tensor([0, 0, 0, 0, 0, -38.0], **DOUBLE), patient.center_mm)
    (one,) = register_bones(patient, xrays, ["carpals"], beside, QUICK)
    assert one.verdict.grade is not Grade.TRUSTED


def test_a_start_outside_the_picture_and_an_unknown_label_are_told(patient, scene):
    xrays, _ = scene
    away = perturb(xrays[0].true_pose, torch.tensor([0, 0, 0, 400.0, 0, 0], **DOUBLE), patient.center_mm)
    with pytest.raises(InputError, match="outside the picture"):
        register_bones(patient, xrays, ["radius"], away, QUICK)
    with pytest.raises(InputError, match="scaphoid"):
        register_bones(patient, xrays, ["scaphoid"], xrays[0].true_pose, QUICK)


def test_the_sawn_end_is_found_and_the_rounded_one_is_not(patient):
    bone = bone_of(patient, "radius", 6.0)
    near = bone.ends.values.nonzero()[:, 0]
    # The CT ends at the first slice.
    assert int(near.min()) == 0
    assert float(near.max() + 1) * SPACING_MM == pytest.approx(6.0, abs=SPACING_MM)
    # In a CT with empty slices below, the cut is no less flat.
    pad = torch.nn.functional.pad
    values, labels = (pad(one, (0, 0, 0, 0, 5, 0)) for one in (patient.volume.values, patient.labels))
    padded = replace(patient, volume=Volume(values, patient.volume.volume_from_voxel), labels=labels)
    assert float(bone_of(padded, "radius", 6.0).ends.values.sum()) == float(bone.ends.values.sum())
    assert float(bone_of(patient, "carpals", 6.0).ends.values.sum()) == 0


def test_only_rays_near_the_bone_count_and_none_beyond_the_cut(patient, scene):
    xrays, _ = scene
    pose = xrays[0].true_pose
    bone = bone_of(patient, "radius", 6.0)
    weight = rays_near(bone, camera(), pose[None], 3.0)[0]
    assert set(torch.unique(weight).tolist()) >= {0.0, 1.0}
    assert 0.0 < float(((weight > 0) & (weight < 1)).float().mean()) < 0.1
    frame = patient.volume.volume_from_voxel

    def at(x: float, y: float, z: float) -> float:
        point = torch.tensor([[x, y, z]], **DOUBLE)
        column, row = project(point + frame[:3, 3], camera(), pose)[0].round().long().tolist()
        return float(weight[row, column])

    # In its middle; beside it within the margin and far from it; near the cut and beyond it.
    assert at(20.0, 26.0, 25.0) == 1
    assert at(20.0 - 9.0, 26.0, 25.0) == 1
    assert at(20.0 - 16.0, 26.0, 25.0) == 0
    assert at(19.5, 26.0, 2.0) == 0
    assert at(19.5, 26.0, -3.0) == 0


def test_voxels_follow_the_size_of_the_bone(patient):
    small = bone_of(patient, "radius", 6.0)
    assert small.volume.spacing_mm.tolist() == pytest.approx([SPACING_MM] * 3)
    fine = Volume(patient.volume.values, patient.volume.volume_from_voxel * torch.tensor([0.25, 0.25, 0.25, 1.0]))
    tiny = bone_of(replace(patient, volume=fine), "radius", 1.5)
    assert tiny.volume.spacing_mm.tolist() == pytest.approx([0.2] * 3)
    large = Volume(patient.volume.values, patient.volume.volume_from_voxel * torch.tensor([0.5, 0.5, 0.25, 1.0]))
    mixed = bone_of(replace(patient, volume=large), "radius", 1.5)
    assert max(mixed.volume.spacing_mm.tolist()) <= 0.4


def test_a_camera_need_not_be_that_of_the_whole_detector(patient, scene):
    xrays, truths = scene
    rows, columns = slice(40, 250), slice(20, 230)
    crops = [
        replace(one, image=one.image[rows, columns].contiguous(), camera=one.camera.window(rows, columns))
        for one in xrays
    ]
    bone = bone_of(patient, "radius", QUICK.end_margin_mm)
    found = find_bones([bone], crops, xrays[0].true_pose[None], QUICK)
    assert error_mm(bone, found.poses[0], truths["radius"]) < 0.5
