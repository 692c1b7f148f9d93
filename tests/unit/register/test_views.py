"""X-rays registered jointly, one path for the workflow and the library, and verdicts in the results."""

import math
from dataclasses import replace

import pytest
import torch
from volumes import phantom_specimen

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.pose_results import pose_of_row
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.errors import InputError
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert
from roireg.register.method import MethodSettings
from roireg.register.registration import register_xrays
from roireg.register.run import register_specimen, view_groups
from roireg.register.settings import (
    AdamSettings,
    GaussNewtonSettings,
    OptimizerSettings,
    PaSettings,
    PerturbationSettings,
    StartSettings,
    WeightSettings,
)

DOUBLE = {"dtype": torch.float64}
NEWTON = GaussNewtonSettings(levels_px=(20, 40), local_sigma_px=(8.0, 5.0))
NEAR = PerturbationSettings(2.0, 6.0)
ROTATION_SDS = [f"rotation_{axis}_sd_deg" for axis in "xyz"]
SDS = ["projection_sd_mm", "across_sd_mm", "down_sd_mm", "depth_sd_mm", *ROTATION_SDS]


def method(views: int = 1, search: OptimizerSettings = NEWTON, start: StartSettings = NEAR) -> MethodSettings:
    return MethodSettings(
        name="test",
        init="near",
        similarity="builtin",
        roi="none",
        optimizer=search.type,
        weights="all",
        start=start,
        search=search,
        regions=None,
        pixels=WeightSettings(),
        step_mm=None,
        views=views,
    )


def rotated_views(count: int, degrees: float = 75.0, noise: float = 0.0) -> tuple[Patient, list[Xray]]:
    """The phantom from cameras in turn as they are and turned about the patient, with noise in the images."""
    patient, xrays = phantom_specimen(count)
    generator = torch.Generator().manual_seed(0)
    turn = torch.tensor([0.0, 0.0, math.radians(degrees), 0.0, 0.0, 0.0], **DOUBLE)
    views = []
    for number, xray in enumerate(xrays):
        # The groups of two are the first half and the second half of the list.
        pose = perturb(xray.true_pose, turn, patient.center_mm) if 2 * number >= count else xray.true_pose
        image = scaled(render(patient.volume, xray.camera, pose[None]))[0]
        image = image + noise * torch.randn(image.shape, generator=generator)
        views.append(replace(xray, image=image, true_pose=pose))
    return patient, views


@pytest.mark.parametrize(("count", "views"), [(2, 2), (4, 2), (5, 2), (5, 3), (3, 1), (7, 3)])
def test_every_x_ray_is_in_a_group_of_so_many_different_ones(count, views):
    _, xrays = phantom_specimen(count)
    groups = view_groups(xrays, views)
    assert len(groups) == -(-count // views)
    names = [[xray.name for xray in group] for group in groups]
    assert all(len(set(group)) == len(group) == views for group in names)
    assert {name for group in names for name in group} == {xray.name for xray in xrays}


def test_a_group_knows_its_cameras_by_their_true_poses_and_where_its_first_one_is_expected():
    _, xrays = phantom_specimen(4)
    by_name = {xray.name: xray for xray in xrays}
    for lead, *others in view_groups(xrays, 2):
        torch.testing.assert_close(lead.rig_from_camera, by_name[lead.name].rig_from_camera, rtol=0, atol=1e-9)
        for other in others:
            torch.testing.assert_close(
                invert(lead.rig_from_camera) @ other.rig_from_camera,
                invert(lead.true_pose) @ other.true_pose,
                rtol=0,
                atol=1e-9,
            )


@pytest.mark.parametrize("count", [2, 3])
def test_two_views_give_a_row_and_a_trace_for_every_x_ray(count):
    patient, xrays = rotated_views(count)
    results = list(register_specimen(patient, xrays, method(views=2), seed=0))
    assert sorted(result.row["projection"] for result in results) == [xray.name for xray in xrays]
    for result in results:
        assert result.row["views"] == 2
        assert result.row["init_mpd_mm"] > 2
        assert result.row["mpd_mm"] < 0.2
        assert result.row["seconds"] > 0
        assert torch.equal(pose_of_row(result.row), result.trace.poses[result.trace.best])
        assert result.mpd_mm[result.trace.best] == pytest.approx(result.row["mpd_mm"])


def test_two_views_move_as_one():
    patient, xrays = rotated_views(2)
    first, second = register_specimen(patient, xrays, method(views=2), seed=0)
    relation = invert(xrays[0].true_pose) @ xrays[1].true_pose
    assert len(first.trace.poses) == len(second.trace.poses)
    for one, other in zip(first.trace.poses, second.trace.poses, strict=True):
        torch.testing.assert_close(one @ relation, other, rtol=0, atol=1e-6)


def test_two_views_see_depth_that_each_alone_does_not():
    patient, xrays = rotated_views(2, noise=0.1)
    alone = {result.row["projection"]: result.row for result in register_specimen(patient, xrays, method(), seed=0)}
    jointly = {one.row["projection"]: one.row for one in register_specimen(patient, xrays, method(views=2), seed=0)}
    assert sum(row["tre_mm"] for row in jointly.values()) < sum(row["tre_mm"] for row in alone.values()) / 3
    for name, row in jointly.items():
        assert row["depth_sd_mm"] < alone[name]["depth_sd_mm"] / 3


def test_adam_registers_no_two_x_rays_jointly():
    patient, xrays = phantom_specimen(2)
    with pytest.raises(InputError, match="type adam registers one X-ray alone, and there are 2"):
        next(register_specimen(patient, xrays, method(2, AdamSettings(3)), seed=0))
    with pytest.raises(InputError, match="Use one of type gauss_newton"):
        register_xrays(patient, xrays, method(search=AdamSettings(3)))


def test_fewer_x_rays_than_a_group_needs_are_told():
    patient, xrays = phantom_specimen(2)
    with pytest.raises(InputError, match="3 X-rays are registered jointly, and there are 2") as raised:
        next(register_specimen(patient, xrays, method(3), seed=0))
    assert raised.value.where == "config: methods.*.views"


def expected_nearby(patient: Patient, xray: Xray, twist: list[float]) -> Xray:
    """The X-ray with a device that states its position wrongly by a twist."""
    near = perturb(xray.true_pose, torch.tensor(twist, **DOUBLE), patient.center_mm)
    center = torch.eye(4, **DOUBLE)
    center[:3, 3] = patient.center_mm
    return replace(xray, rig_from_camera=invert(center) @ near)


TWISTS = ([0.04, -0.05, 0.03, 8.0, -6.0, 10.0], [-0.03, 0.02, 0.05, -7.0, 5.0, 12.0])


def test_the_workflow_and_the_library_end_at_the_same_pose():
    patient, xrays = phantom_specimen(2)
    xrays = [expected_nearby(patient, xray, twist) for xray, twist in zip(xrays, TWISTS, strict=True)]
    start = PaSettings()
    for result, xray in zip(register_specimen(patient, xrays, method(start=start), seed=0), xrays, strict=True):
        own = register_xrays(patient, [xray], method(start=start))
        (one,) = own.xrays
        torch.testing.assert_close(one.pose, pose_of_row(result.row), rtol=0, atol=1e-3)
        assert result.row["verdict"] == str(own.verdict.grade)
        for column, value in (
            ("ncc", one.evidence.ncc),
            ("coverage", one.evidence.coverage),
            ("projection_sd_mm", one.evidence.projection_sd_mm),
            ("depth_sd_mm", one.spread.depth_mm),
        ):
            assert result.row[column] == pytest.approx(value, rel=1e-3)


def test_jointly_too_the_workflow_and_the_library_end_at_the_same_pose():
    patient, (first, second) = rotated_views(2)
    lead = expected_nearby(patient, first, TWISTS[0])
    rows = [one.row for one in register_specimen(patient, [lead, second], method(2, start=PaSettings()), seed=0)]
    relation = invert(first.true_pose) @ second.true_pose
    rig = [lead, replace(second, rig_from_camera=lead.rig_from_camera @ relation)]
    own = register_xrays(patient, rig, method(start=PaSettings()))
    for one, row in zip(own.xrays, rows, strict=True):
        torch.testing.assert_close(one.pose, pose_of_row(row), rtol=0, atol=1e-3)


def test_the_right_pose_is_trusted_and_the_row_says_how_sure_it_is():
    patient, xrays = phantom_specimen(2)
    for result in register_specimen(patient, xrays, method(), seed=0):
        row = result.row
        assert row["mpd_mm"] < 0.2
        assert row["verdict"] == "trusted"
        assert row["ncc"] > 0.95
        assert 0.9 < row["coverage"] <= 1
        assert all(math.isfinite(row[column]) and row[column] > 0 for column in SDS)
        # One view sees depth worst, and turns out of the image plane worse than within it.
        assert row["depth_sd_mm"] > 3 * max(row["across_sd_mm"], row["down_sd_mm"])
        assert row["rotation_z_sd_deg"] < max(row["rotation_x_sd_deg"], row["rotation_y_sd_deg"])
        assert row["projection_sd_mm"] < 0.5


def test_a_wrong_pose_is_not_trusted():
    patient, xrays = phantom_specimen(2)
    # Another X-ray's picture: no pose near this camera's shows it.
    wrong = [replace(xray, image=xray.image.flip(0, 1)) for xray in xrays]
    rows = [result.row for result in register_specimen(patient, wrong, method(), seed=0)]
    assert all(row["mpd_mm"] > 10 for row in rows)
    assert all(row["verdict"] != "trusted" for row in rows)
    # Phantom's blobs look like other blobs, yet the images say that they do not tell where bone is.
    assert all(row["ncc"] < 0.9 and row["projection_sd_mm"] > 1.2 for row in rows)


def test_a_registration_that_is_cut_off_far_away_is_not_trusted():
    patient, xrays = phantom_specimen(1)
    short = replace(NEWTON, levels_px=(40,), local_sigma_px=(5.0,), iterations=1)
    far = method(search=short, start=PerturbationSettings(8.0, 25.0))
    (result,) = register_specimen(patient, xrays, far, seed=0)
    assert result.row["mpd_mm"] > 5
    assert result.row["verdict"] != "trusted"
