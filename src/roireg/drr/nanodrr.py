"""GPU backend: nanodrr's ray marcher (a fused Triton kernel on CUDA, PyTorch operations elsewhere)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.volume import Volume
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import to_nanodrr_intrinsics


def as_subject(volume: Volume) -> Any:
    """The volume as a `nanodrr.data.Subject` without labels; cached."""
    if "nanodrr" not in volume.derived:
        image = volume.values[None, None]
        volume.derived["nanodrr"] = _subject(volume, image, torch.zeros_like(image), max_label=0)
    return volume.derived["nanodrr"]


def _subject(volume: Volume, image: Tensor, label: Tensor, max_label: int) -> Any:
    from nanodrr.data import Subject

    return Subject(
        image,
        label,
        volume.volume_from_voxel.to(image),
        volume.voxel_from_volume.to(image),
        Subject._make_voxel_to_grid(image.shape).to(image),
        volume.center_mm.to(image),
        max_label=max_label,
        convert_to_mu=False,
    )


def sample_count(shape: tuple[int, int, int], spacing_mm: Float[Tensor, "3"], step_mm: float) -> int:
    """Samples of every ray: a ray across the grid, through the diagonal of its two shorter sides, has `step_mm`.

    It does not depend on the poses, so the rendering of an X-ray does not depend on the others in its batch.

    Args:
        shape: `(z, y, x)`.
        spacing_mm: voxel size along x, y, z.
        step_mm: distance of samples.
    """
    # Interpolation reaches one voxel beyond the grid.
    sides_mm = sorted((n + 1) * mm for n, mm in zip(reversed(shape), spacing_mm.tolist(), strict=True))
    return max(math.ceil(math.hypot(*sides_mm[:2]) / step_mm), 2)


def _march(volume: Volume, subject: Any, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float) -> Tensor:
    """Render a subject on the volume's grid by nanodrr: `(B, C, H, W)`."""
    from nanodrr.drr import render as nanodrr_render

    real, device = subject.label.dtype, pose.device
    shape = tuple(subject.label.shape[2:])
    samples, intrinsics = f"nanodrr samples of {shape} at {step_mm} mm", f"nanodrr {real} on {device}"
    if samples not in volume.derived:
        volume.derived[samples] = sample_count(shape, volume.spacing_mm, step_mm)
    if intrinsics not in camera.derived:
        camera.derived[intrinsics] = to_nanodrr_intrinsics(camera)[None].to(device, real)
    return nanodrr_render(
        subject,
        camera.derived[intrinsics].expand(pose.shape[0], -1, -1),
        pose.to(real),
        torch.full((pose.shape[0],), camera.source_to_detector_mm, dtype=real, device=device),
        camera.height,
        camera.width,
        n_samples=volume.derived[samples],
    )


def render(volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float) -> Float[Tensor, "B H W"]:
    """See `roireg.drr.render`. Every ray gets as many samples, however long it is in the volume (`sample_count`)."""
    return _march(volume, as_subject(volume), camera, pose, step_mm)[:, 0]
