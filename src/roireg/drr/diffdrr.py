"""Reference backend: DiffDRR's trilinear renderer (Gopalakrishnan and Golland 2022), sampled where `fused` samples."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.volume import Volume
from roireg.drr.bounds import ray_bounds
from roireg.geometry.camera import Camera
from roireg.geometry.se3 import transform_points


def render(volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float) -> Float[Tensor, "B H W"]:
    """See `roireg.drr.render`. All rays are sampled at the same ray parameters, those that `fused` uses."""
    from diffdrr.renderers import Trilinear

    real = volume.values.dtype
    dt = step_mm / camera.source_to_detector_mm
    near, far = ray_bounds(volume, camera, pose.detach())
    first = max(math.ceil(float(near.min()) / dt - 0.5), 0)
    last = math.floor(float(far.max()) / dt - 0.5)
    if last <= first:
        return torch.zeros(pose.shape[0], camera.height, camera.width, dtype=real, device=pose.device)
    voxel_from_camera = (volume.voxel_from_volume.to(pose) @ pose).to(real)
    points = camera.detector_points_mm.reshape(1, -1, 3).to(voxel_from_camera)
    target = transform_points(voxel_from_camera, points.expand(pose.shape[0], -1, -1))
    source = voxel_from_camera[:, None, :3, 3]
    lengths = camera.ray_lengths_mm.reshape(1, 1, -1).to(target).expand(pose.shape[0], -1, -1)
    image = Trilinear()(
        volume.values.permute(2, 1, 0),
        source,
        target,
        lengths,
        n_points=last - first + 1,
        alphamin=torch.as_tensor((first + 0.5) * dt, dtype=real),
        alphamax=torch.as_tensor((last + 0.5) * dt, dtype=real),
    )
    return image.reshape(pose.shape[0], camera.height, camera.width)
