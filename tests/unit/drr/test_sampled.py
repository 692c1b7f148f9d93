"""The renderer of a GPU's Jacobian takes the samples of the CPU's."""

import pytest
import torch
from volumes import camera, general_pose, phantom, relative_error

from roireg.data.volume import Volume
from roireg.drr import fused, sampled

POSES = 2


def surrounded(dtype: torch.dtype) -> tuple[Volume, torch.Tensor]:
    """The phantom in a frame of air, and poses: `fused` leaves out samples at the very faces of the grid."""
    volume = phantom(dtype)
    values = torch.nn.functional.pad(volume.values, (2,) * 6)
    frame = volume.volume_from_voxel.clone()
    frame[:3, 3] -= frame[:3, :3] @ torch.full((3,), 2.0, dtype=torch.float64)
    poses = torch.cat([general_pose(volume, seed) for seed in range(POSES)])
    return Volume(values, frame), poses


# In float32, `fused` has 16 bits of each value.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@pytest.mark.parametrize("step_mm", [1.0, 9.0])
def test_image_and_jacobian_are_those_of_the_cpu(dtype: torch.dtype, tolerance: float, step_mm: float):
    volume, poses = surrounded(dtype)
    view = camera(24)
    expected = fused.render_with_jacobian(volume, view, poses, volume.center_mm, step_mm)
    found = sampled.render_with_jacobian(volume, view, poses, volume.center_mm, step_mm)
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        assert relative_error(other, one) < tolerance


def test_few_samples_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch):
    volume, poses = surrounded(torch.float64)
    view = camera(24)
    whole = sampled.render_with_jacobian(volume, view, poses, volume.center_mm, 2.0)
    monkeypatch.setattr(sampled, "SAMPLES_AT_ONCE", 5 * POSES * 24 * 24)
    parts = sampled.render_with_jacobian(volume, view, poses, volume.center_mm, 2.0)
    for one, other in zip(whole, parts, strict=True):
        assert relative_error(other, one) < 1e-12


def test_nothing_behind_the_detector_is_seen():
    volume, poses = surrounded(torch.float64)
    # The phantom is 735 mm from the source: a detector at 700 mm cuts it.
    near = camera(24).resized(24, 24)
    near = type(near)(near.intrinsics_px, 24, 24, tuple(700 / 1020 * mm for mm in near.pixel_spacing_mm))
    expected, _ = fused.render_with_jacobian(volume, near, poses, volume.center_mm, 2.0)
    found, _ = sampled.render_with_jacobian(volume, near, poses, volume.center_mm, 2.0)
    assert relative_error(found, expected) < 1e-12
    beyond, _ = fused.render_with_jacobian(volume, camera(24), poses, volume.center_mm, 2.0)
    assert float(found.sum()) < 0.8 * float(beyond.sum())


@pytest.mark.parametrize("step_mm", [1.0, 3.0])
def test_silhouettes_are_those_of_the_cpu(step_mm: float):
    volume, poses = surrounded(torch.float32)
    mask = volume.with_values((volume.values > 0.03).float())
    expected = fused.project_mask(mask, camera(64), poses, step_mm)
    found = sampled.project_mask(mask, camera(64), poses, step_mm)
    assert 0.05 < float(expected.float().mean()) < 0.95
    # A sample on the border of two voxels may be rounded to either.
    assert float((expected != found).float().mean()) < 1e-3


def test_a_mask_of_nothing_has_no_silhouette():
    volume, poses = surrounded(torch.float32)
    nothing = volume.with_values(torch.zeros_like(volume.values))
    assert not bool(sampled.project_mask(nothing, camera(24), poses, 2.0).any())
    image, jacobian = sampled.render_with_jacobian(nothing, camera(24), poses, volume.center_mm, 2.0)
    assert float(image.abs().max()) == float(jacobian.abs().max()) == 0
