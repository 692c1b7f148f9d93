"""What Adam changes: six numbers of a pose, in two charts."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from volumes import general_pose, phantom

from roireg.geometry.poses import pa_pose
from roireg.geometry.se3 import invert, transform_points
from roireg.register.charts import perturbation_chart, pose_logarithm_chart

FOCAL_MM = 1020.0
DOUBLE = {"dtype": torch.float64}
VOLUME = phantom()
POSES = torch.cat([general_pose(VOLUME, seed) for seed in range(3)])
CHARTS = {
    "perturbation": perturbation_chart(POSES, VOLUME.center_mm),
    "pose_logarithm": pose_logarithm_chart(POSES, VOLUME.corner_mm, FOCAL_MM),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_starts_at_the_initial_poses(name):
    torch.testing.assert_close(CHARTS[name].pose(CHARTS[name].start), POSES, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CHARTS)
def test_the_poses_of_a_chart_have_the_gradient_of_finite_differences(name):
    start = CHARTS[name].start.clone().requires_grad_()
    assert torch.autograd.gradcheck(CHARTS[name].pose, (start,))


def test_the_logarithm_of_the_posterior_anterior_view_is_diffposes():
    """Their isocentre pose: Euler angles ZYX of pi/2, 0, -pi/2, and the middle of the CT from its corner."""
    corner = torch.tensor([150.0, -90.0, -700.0], **DOUBLE)
    middle = torch.tensor([0.0, 30.0, -600.0], **DOUBLE)
    # Midway between source and detector lies the middle of the CT.
    pose = pa_pose(middle, FOCAL_MM / 2)[None]
    logarithm = pose_logarithm_chart(pose, corner, FOCAL_MM).start[0]
    # Their world is mirrored: the mirror at x keeps a rotation vector's x and negates its y and z.
    theirs = Rotation.from_euler("ZYX", [math.pi / 2, 0, -math.pi / 2]).as_rotvec()
    torch.testing.assert_close(logarithm[:3], torch.from_numpy(theirs * [1, -1, -1]))
    # The left Jacobian leads from the logarithm's translation to the pose's: the middle of the CT from the corner.
    turn = torch.linalg.matrix_exp(skew_twist(logarithm))
    torch.testing.assert_close(turn[:3, 3], middle - corner)


def skew_twist(logarithm: torch.Tensor) -> torch.Tensor:
    (x, y, z), out = logarithm[:3], torch.zeros(4, 4, **DOUBLE)
    out[:3, :3] = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], **DOUBLE)
    out[:3, 3] = logarithm[3:]
    return out


def test_a_turn_of_the_logarithm_moves_a_point_at_the_isocentre_and_one_of_the_perturbation_does_not():
    points = VOLUME.center_mm[None].expand(3, 1, 3)
    moved = {}
    for name, chart in CHARTS.items():
        there = chart.start + torch.tensor([0.0, 0.01, 0.0, 0.0, 0.0, 0.0], **DOUBLE)
        seen = [transform_points(invert(pose), points) for pose in (POSES, chart.pose(there))]
        moved[name] = float((seen[1] - seen[0]).norm(dim=-1).max())
    assert moved["perturbation"] < 1e-9
    assert moved["pose_logarithm"] > 0.1


def test_the_corner_is_left_anterior_and_inferior_whichever_way_the_grid_runs():
    volume = phantom()
    forwards = volume.volume_from_voxel.clone()
    forwards[:3, :3] = torch.diag(torch.tensor([4.0, 5.0, 4.5], **DOUBLE))
    size = torch.tensor(volume.values.shape[::-1], **DOUBLE)
    first = forwards[:3, 3]
    last = first + (size - 1) * torch.tensor([4.0, 5.0, 4.5], **DOUBLE)
    backwards = forwards.clone()
    backwards[:3, :3] *= -1
    backwards[:3, 3] = last
    for frame in (forwards, backwards):
        corner = type(volume)(volume.values, frame).corner_mm
        np.testing.assert_allclose(corner, [last[0], first[1], first[2]])
