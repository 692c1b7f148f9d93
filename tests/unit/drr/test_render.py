"""The renderer's backends against DiffDRR, against each other and against finite differences."""

import numpy as np
import pytest
import torch
from volumes import camera, chest_volume, general_pose, gradient_errors, image_error, phantom, relative_error

from roireg.data.volume import Volume, attenuation_from_hu
from roireg.drr import coverage, exclusion, project_mask, render, render_with_jacobian
from roireg.drr.weights import dilated_labels
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import RAS_FROM_LPS, to_diffdrr
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import se3_exp

DOUBLE = {"dtype": torch.float64}


def test_a_ray_through_a_unit_impulse_integrates_to_one():
    values = torch.zeros(9, 9, 9, **DOUBLE)
    values[4, 4, 4] = 1.0
    volume = Volume(values, torch.eye(4, **DOUBLE))
    k = torch.tensor([[-1e4, 0.0, 0.0], [0.0, 1e4, 0.0], [0.0, 0.0, 1.0]], **DOUBLE)
    view = Camera(k, 1, 1, (0.1, 0.1))
    assert float(render(volume, view, pa_pose(volume.center_mm, 735.0)[None], 0.01)) == pytest.approx(1.0, rel=1e-4)


def test_a_water_box_attenuates_by_its_thickness():
    values = torch.full((30, 20, 30), 0.0192, **DOUBLE)
    volume = Volume(values, torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0], **DOUBLE)))
    image = render(volume, camera(33), pa_pose(volume.center_mm, 735.0)[None], 0.05)[0]
    assert float(image[16, 16]) == pytest.approx(0.0192 * 60, rel=2e-3)


def test_a_drr_does_not_change_when_camera_and_volume_move_together():
    volume, view = phantom(), camera(24)
    pose = general_pose(volume)
    motion = se3_exp(torch.tensor([0.4, -0.9, 0.3, 100.0, -30.0, 12.0], **DOUBLE))
    moved = Volume(volume.values, motion @ volume.volume_from_voxel)
    assert relative_error(render(moved, view, motion @ pose, 1.0), render(volume, view, pose, 1.0)) < 1e-9


@pytest.mark.parametrize("volume", [phantom(torch.float32), chest_volume()], ids=["phantom", "chest"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_backends_agree_with_diffdrr_trilinear(volume, sign):
    assert image_error(volume, "fused", sign) < 1e-5
    assert image_error(volume, "nanodrr", sign) < 1e-3


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_whole_of_diffdrr_gives_the_same_image(sign):
    from diffdrr.drr import DRR
    from diffdrr.pose import RigidTransform
    from torchio import ScalarImage, Subject

    volume, view = chest_volume(), camera(48, sign)
    pose = general_pose(volume)
    theirs = to_diffdrr(view, pose)
    affine = torch.diag(torch.tensor(RAS_FROM_LPS, **DOUBLE)) @ volume.volume_from_voxel
    image = ScalarImage(tensor=volume.values.permute(2, 1, 0)[None], affine=affine.numpy())
    drr = DRR(
        Subject(volume=image, density=image, mask=None, reorient=torch.eye(4)),
        sdd=theirs.sdd,
        height=theirs.height,
        width=theirs.width,
        delx=theirs.delx,
        dely=theirs.dely,
        x0=theirs.x0,
        y0=theirs.y0,
        reverse_x_axis=theirs.reverse_x_axis,
        renderer="trilinear",
    )
    reference = drr(RigidTransform(theirs.pose.float()), n_points=1200)[:, 0]
    assert relative_error(render(volume, view, pose, 0.5), reference) < 1e-3


@pytest.mark.parametrize("backend", ["fused", "nanodrr", "diffdrr"])
@pytest.mark.parametrize("volume", [phantom(), chest_volume()], ids=["phantom", "chest"])
def test_pose_gradients_agree_with_central_differences(volume, backend):
    assert max(gradient_errors(volume, backend)) < 1e-2


def test_the_per_ray_jacobian_agrees_with_central_differences_and_with_autograd():
    volume, view = phantom(), camera(32)
    pose = general_pose(volume)
    image, jacobian = render_with_jacobian(volume, view, pose, volume.center_mm, 1.0)
    assert torch.equal(image, render(volume, view, pose.clone().requires_grad_(True), 1.0).detach())
    for k, size in enumerate([1e-7] * 3 + [1e-5] * 3):
        step = torch.zeros(6, **DOUBLE)
        step[k] = size
        ahead, behind = (render(volume, view, perturb(pose, s, volume.center_mm), 1.0) for s in (step, -step))
        assert relative_error(jacobian[..., k], (ahead - behind) / (2 * size)) < 1e-2
    twist = torch.zeros(6, **DOUBLE, requires_grad=True)
    weights = torch.linspace(-1, 1, 32 * 32, **DOUBLE).reshape(1, 32, 32)
    (render(volume, view, perturb(pose, twist, volume.center_mm), 1.0) * weights).sum().backward()
    assert torch.allclose(twist.grad, torch.einsum("bhw,bhwk->k", weights, jacobian), rtol=1e-9)


def test_the_image_with_and_without_gradient_is_the_same():
    volume = phantom(torch.float32)
    pose = general_pose(volume)
    with_gradient = render(volume, camera(40), pose.clone().requires_grad_(True), 1.3).detach()
    assert relative_error(render(volume, camera(40), pose, 1.3), with_gradient) < 1e-6


def test_a_batch_of_poses_renders_as_one_by_one():
    volume = phantom(torch.float32)
    poses = torch.cat([general_pose(volume, seed) for seed in range(3)])
    together = render(volume, camera(20), poses)
    alone = torch.cat([render(volume, camera(20), pose[None]) for pose in poses])
    assert torch.equal(together, alone)
    assert not torch.allclose(together[0], together[1], rtol=1e-2)


def test_skipping_air_does_not_change_the_image():
    rng = np.random.default_rng(0)
    values = np.zeros((50, 60, 70), np.float32)
    for corner in rng.integers(0, 45, size=(12, 3)):
        values[tuple(slice(c, c + 3) for c in corner)] = rng.uniform(0.01, 0.1)
    sparse = Volume(torch.from_numpy(values), torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], **DOUBLE)))
    pose = general_pose(sparse)
    reference = render(sparse, camera(64), pose, 0.9, "diffdrr")
    assert relative_error(render(sparse, camera(64), pose, 0.9), reference) < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"step_mm": 0.0}, "step_mm"),
        ({"backend": "siddon"}, "siddon"),
        ({"pose": torch.eye(4, **DOUBLE)}, r"\(B, 4, 4\)"),
    ],
)
def test_wrong_arguments_are_named(call, message, unchecked):
    volume = phantom(torch.float32)
    arguments = {"pose": general_pose(volume), **call}
    with pytest.raises(ValueError, match=message):
        render(volume, camera(8), **arguments)


def box(faces: tuple[bool, bool]) -> Volume:
    """Water in air, running out of the lower, the upper end of the grid as `faces` says."""
    hu = torch.full((40, 30, 30), -1000.0)
    hu[0 if faces[0] else 8 : 40 if faces[1] else 32, 8:22, 6:24] = 0.0
    return Volume(attenuation_from_hu(hu), torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0], **DOUBLE)))


@pytest.mark.parametrize("faces", [(False, False), (True, False), (False, True), (True, True)])
def test_ends_count_as_truncated_where_tissue_touches_them(faces):
    assert box(faces).truncated_faces == tuple((2, side) for side in (0, 1) if faces[side])


def test_without_truncation_every_ray_is_covered():
    volume = box((False, False))
    assert bool((coverage(volume, camera(32), general_pose(volume)) == 1).all())


def test_rays_are_covered_exactly_where_a_longer_ct_gives_the_same_image():
    short = box((True, True))
    longer_values = torch.cat([short.values[:1].expand(30, -1, -1), short.values, short.values[:1].expand(30, -1, -1)])
    frame = short.volume_from_voxel.clone()
    frame[2, 3] -= 30 * 4.0
    longer = Volume(longer_values, frame)
    pose = general_pose(short)
    view = camera(64)
    difference = (render(short, view, pose, 0.5) - render(longer, view, pose, 0.5)).abs()
    covered = coverage(short, view, pose).bool()
    assert 0.2 < float(covered.float().mean()) < 0.95
    assert float(difference[covered].max()) < 1e-4
    assert float((difference[~covered] > 1e-3).float().mean()) > 0.8


def test_a_ball_casts_the_shadow_of_a_ball():
    voxel_mm, radius_mm = 2.0, 30.0
    frame = torch.diag(torch.tensor([voxel_mm, voxel_mm, voxel_mm, 1.0], **DOUBLE))
    grid = torch.stack(torch.meshgrid(*[torch.arange(40.0)] * 3, indexing="ij"), dim=-1)
    ball = Volume((((grid - 19.5) * voxel_mm).norm(dim=-1) < radius_mm).float(), frame)
    view, pose = camera(64), general_pose(ball)
    shadow = project_mask(ball, view, pose, 0.5)[0]
    rays = view.detector_points_mm @ pose[0, :3, :3].T
    to_center = ball.center_mm - pose[0, :3, 3]
    distance_mm = torch.linalg.cross(rays, to_center.expand_as(rays)).norm(dim=-1) / rays.norm(dim=-1)
    assert bool(shadow[distance_mm < radius_mm - voxel_mm].all())
    assert not bool(shadow[distance_mm > radius_mm + voxel_mm].any())
    assert torch.equal(exclusion(ball, view, pose, 0.5)[0], 1 - shadow.float())


def test_labels_are_dilated_by_millimetres():
    volume = Volume(torch.zeros(21, 21, 21), torch.diag(torch.tensor([1.0, 2.0, 4.0, 1.0], **DOUBLE)))
    labels = torch.zeros(21, 21, 21, dtype=torch.bool)
    labels[10, 10, 10] = True
    grown = dilated_labels(labels, 4.0, volume).values.nonzero()
    assert (grown.amax(0) - 10).tolist() == [1, 2, 4]
