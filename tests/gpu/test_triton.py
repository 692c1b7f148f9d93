"""nanodrr's Triton kernel, run by Triton's interpreter, renders what its PyTorch kernel renders."""

import math

import pytest
import torch
from torch import Tensor
from volumes import general_pose, phantom, relative_error

from roireg.data.volume import Volume
from roireg.drr.nanodrr import as_subject
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import to_nanodrr_intrinsics
from roireg.geometry.poses import perturb

pytest.importorskip("triton", reason="there is no Triton for this machine")
SAMPLES = 8
# Sums of a dozen float32 numbers in another order.
TOLERANCE = 1e-5
# Moments about the isocentre are small differences of moments about the source, which is some ten times further away.
ROTATION_TOLERANCE = 1e-4


def camera(height: int, width: int, sign: float = -1.0, spacing_mm: tuple[float, float] = (24.0, 24.0)) -> Camera:
    """A C-arm of 1020 mm, its principal point off the centre."""
    fx, fy = (1020.0 / mm for mm in spacing_mm)
    k = [[sign * fx, 0.0, 0.53 * width], [0.0, fy, 0.46 * height], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, dtype=torch.float64), height, width, spacing_mm)


def rendered(kernel: str, volume: Volume, subject, view: Camera, poses: Tensor) -> Tensor:
    """`(B, C, H * W)` by one of nanodrr's kernels, in float32."""
    from nanodrr.drr._triton import triton_raymarch
    from nanodrr.drr.backends import render_torch
    from nanodrr.drr.renderer import _make_tgt

    count, real = len(poses), torch.float32
    inverse = to_nanodrr_intrinsics(view).to(real)[None].expand(count, -1, -1)
    distance = torch.full((count,), view.source_to_detector_mm, dtype=real)
    target = _make_tgt(inverse, distance, view.height, view.width, torch.device("cpu"), real)
    source = torch.zeros(count, 1, 3)
    step = target.norm(dim=-1) / SAMPLES
    if kernel == "torch":
        image = render_torch(subject, poses.to(real), source, target, step, SAMPLES, view.height, view.width)
        return image.flatten(2)
    matrix = (subject.world_to_voxel.to(real) @ poses.to(real))[:, :3]
    values, labels = (part[0, 0].contiguous() for part in (subject.image, subject.label))
    return triton_raymarch(
        values, labels, matrix, source, target.contiguous(), step, SAMPLES, subject.n_classes, view.width
    )


VIEWS = {
    "seen from behind": camera(8, 12),
    "seen from the front": camera(8, 12, sign=1.0),
    "rectangular pixels": camera(8, 14, spacing_mm=(20.0, 31.0)),
    "a tall detector": camera(16, 5),
}


# Of each view one pose; of the first, batches.
@pytest.mark.parametrize(
    ("name", "count"), [*((name, 1) for name in VIEWS), *(("seen from behind", n) for n in (2, 3))]
)
def test_image_and_gradient_to_the_pose_agree(name: str, count: int):
    volume = phantom(torch.float32)
    poses = torch.cat([general_pose(volume, seed) for seed in range(count)])
    subject, weights = as_subject(volume), torch.linspace(0.2, 1.7, VIEWS[name].height * VIEWS[name].width)
    images, gradients = {}, {}
    for kernel in ("torch", "triton"):
        twist = torch.zeros(count, 6, dtype=torch.float64, requires_grad=True)
        image = rendered(kernel, volume, subject, VIEWS[name], perturb(poses, twist, volume.center_mm))
        (gradients[kernel],) = torch.autograd.grad((image * weights).sum(), twist)
        images[kernel] = image.detach()
    largest = float(images["torch"].max())
    assert largest > 0.5
    assert float((images["triton"] - images["torch"]).abs().max()) < TOLERANCE * largest
    for part, tolerance in ((slice(0, 3), ROTATION_TOLERANCE), (slice(3, 6), TOLERANCE)):
        assert relative_error(gradients["triton"][:, part], gradients["torch"][:, part]) < tolerance


def test_rays_that_miss_the_volume_are_zero_and_have_no_gradient():
    volume = phantom(torch.float32)
    pose = general_pose(volume)
    far = torch.tensor([[0.0, 0.0, math.pi, 0.0, 0.0, 0.0]], dtype=torch.float64)
    away = perturb(pose, far, pose[0, :3, 3]).requires_grad_()
    image = rendered("triton", volume, as_subject(volume), VIEWS["seen from behind"], away)
    assert float(image.detach().abs().max()) == 0
    (gradient,) = torch.autograd.grad(image.sum(), away)
    assert float(gradient.abs().max()) == 0
