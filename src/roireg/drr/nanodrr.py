"""GPU backend: nanodrr's ray marcher (a fused Triton kernel on CUDA, PyTorch operations elsewhere)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.volume import Volume
from roireg.drr.bounds import ray_bounds
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import to_nanodrr_intrinsics


def as_subject(volume: Volume):
    """The volume as a `nanodrr.data.Subject` without labels."""
    if "nanodrr" in volume.derived:
        return volume.derived["nanodrr"]
    from nanodrr.data import Subject

    image = volume.values[None, None]
    volume.derived["nanodrr"] = Subject(
        image,
        torch.zeros_like(image),
        volume.volume_from_voxel.to(image),
        volume.voxel_from_volume.to(image),
        Subject._make_voxel_to_grid(image.shape).to(image),
        volume.center_mm.to(image),
        max_label=0,
        convert_to_mu=False,
    )
    return volume.derived["nanodrr"]


def render(volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float) -> Float[Tensor, "B H W"]:
    """See `roireg.drr.render`. All rays get as many samples as the longest one needs for a spacing of `step_mm`."""
    from nanodrr.drr import render as nanodrr_render

    near, far = ray_bounds(volume, camera, pose.detach())
    longest_mm = float(((far - near) * camera.ray_lengths_mm.to(near)).max())
    real = volume.values.dtype
    image = nanodrr_render(
        as_subject(volume),
        to_nanodrr_intrinsics(camera)[None].to(volume.values).expand(pose.shape[0], -1, -1),
        pose.to(real),
        torch.full((pose.shape[0],), camera.source_to_detector_mm, dtype=real, device=pose.device),
        camera.height,
        camera.width,
        n_samples=max(math.ceil(longest_mm / step_mm), 2),
    )
    return image[:, 0]
