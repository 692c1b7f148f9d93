"""How the hand moves the patient: the pivot's projection follows the drag, turns leave it in place."""

import math

import pytest
import torch
from volumes import DOUBLE, camera

from roireg.geometry.camera import project
from roireg.geometry.poses import carm_pose, perturb
from roireg.geometry.se3 import is_rigid
from roireg.view.moves import deeper, in_camera, point_under, shifted, turned
from roireg.view.pose_numbers import PoseNumbers, numbers_of, pose_of

PIVOT = torch.tensor([12.0, -30.0, 45.0], **DOUBLE)
TWIST = torch.tensor([0.3, -0.2, 0.5, 20.0, 10.0, -15.0], **DOUBLE)
SIGNS = pytest.mark.parametrize("sign", [-1.0, 1.0], ids=["seen from the detector", "seen from the source"])


def start() -> torch.Tensor:
    return perturb(carm_pose(PIVOT, 700.0, 25.0, -10.0), TWIST, PIVOT)


def seen(pose, view, point=PIVOT):
    return project(point[None], view, pose)[0]


@SIGNS
@pytest.mark.parametrize("drag", [(10.0, 0.0), (0.0, -7.5), (-31.0, 22.0)])
def test_a_drag_of_d_pixels_moves_the_pivot_by_d_pixels(sign, drag):
    view, pose = camera(256, sign), start()
    moved = shifted(pose, view, PIVOT, *drag)
    assert torch.allclose(seen(moved, view) - seen(pose, view), torch.tensor(drag, **DOUBLE))
    # Parallel to the detector, without a turn.
    assert torch.equal(moved[:3, :3], pose[:3, :3])
    assert float(in_camera(moved, PIVOT)[2]) == pytest.approx(float(in_camera(pose, PIVOT)[2]))


@SIGNS
def test_a_turn_leaves_the_pivot_and_turns_by_its_angle(sign):
    view, pose = camera(256, sign), start()
    moved = turned(pose, view, PIVOT, (3.0, -4.0, 12.0))
    assert is_rigid(moved)
    assert torch.allclose(in_camera(moved, PIVOT), in_camera(pose, PIVOT))
    cosine = float(((pose[:3, :3].T @ moved[:3, :3]).trace() - 1) / 2)
    assert math.degrees(math.acos(cosine)) == pytest.approx(13.0)


@SIGNS
def test_what_is_near_the_viewer_follows_the_hand(sign):
    view, pose = camera(256, sign), start()
    # Who looks from behind the detector has its side of the patient near them; otherwise it is that of the source.
    near = point_under(pose, view, tuple(seen(pose, view).tolist()), float(in_camera(pose, PIVOT)[2]) - sign * 50)
    right = seen(turned(pose, view, PIVOT, (5.0, 0.0, 0.0)), view, near) - seen(pose, view, near)
    down = seen(turned(pose, view, PIVOT, (0.0, 5.0, 0.0)), view, near) - seen(pose, view, near)
    assert float(right[0]) > 3
    assert abs(float(right[1])) < 0.5
    assert float(down[1]) > 3
    assert abs(float(down[0])) < 0.5


@SIGNS
def test_clockwise_is_clockwise_in_the_picture(sign):
    view, pose = camera(256, sign), start()
    column, row = seen(pose, view).tolist()
    above = point_under(pose, view, (column, row - 20), float(in_camera(pose, PIVOT)[2]))
    moved = seen(turned(pose, view, PIVOT, (0.0, 0.0, 90.0)), view, above)
    assert moved.tolist() == pytest.approx([column + 20, row], abs=1e-6)


@SIGNS
def test_depth_changes_along_the_ray_and_keeps_the_pivot_in_the_picture(sign):
    view, pose = camera(256, sign), start()
    moved = deeper(pose, view, PIVOT, 30.0)
    assert torch.allclose(seen(moved, view), seen(pose, view))
    assert float(in_camera(moved, PIVOT)[2] - in_camera(pose, PIVOT)[2]) == pytest.approx(30.0)


def test_the_patient_cannot_be_pulled_through_the_source():
    view, pose = camera(256), start()
    assert float(in_camera(deeper(pose, view, PIVOT, -5000.0), PIVOT)[2]) == pytest.approx(0.05 * 1020.0)


def test_a_point_under_a_pixel_is_seen_there():
    view, pose = camera(256), start()
    point = point_under(pose, view, (40.0, 200.0), 650.0)
    assert seen(pose, view, point).tolist() == pytest.approx([40.0, 200.0])
    assert float(in_camera(pose, point)[2]) == pytest.approx(650.0)


def test_numbers_and_pose_are_each_others_inverse():
    pose = start()
    assert torch.allclose(pose_of(numbers_of(pose, PIVOT), PIVOT), pose)
    typed = PoseNumbers(-170.0, 35.0, 178.0, 10.0, -20.0, 800.0)
    back = numbers_of(pose_of(typed, PIVOT), PIVOT)
    assert list(vars(back).values()) == pytest.approx(list(vars(typed).values()))


def test_the_numbers_of_a_c_arm_are_its_angles():
    numbers = numbers_of(carm_pose(PIVOT, 734.0, -20.0, 5.0), PIVOT)
    assert list(vars(numbers).values()) == pytest.approx([-20.0, 5.0, 0.0, 0.0, 0.0, 734.0], abs=1e-9)


@pytest.mark.parametrize("secondary", [90.0, -90.0])
def test_where_two_axes_are_one_the_pose_is_still_found(secondary):
    pose = carm_pose(PIVOT, 734.0, 30.0, secondary)
    assert torch.allclose(pose_of(numbers_of(pose, PIVOT), PIVOT), pose, atol=1e-6)
