"""Intersection of rays with a box that is aligned with the volume's grid (slab method)."""

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.volume import Volume
from roireg.geometry.camera import Camera
from roireg.geometry.se3 import transform_points

PARALLEL_VOXELS = 1e-9


def voxel_rays(
    volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"]
) -> tuple[Float[Tensor, "B 1 1 3"], Float[Tensor, "B H W 3"]]:
    """Source, and vector from the source to every pixel, in voxel indices `(x, y, z)`."""
    voxel_from_camera = volume.to(pose.device).voxel_from_volume.to(pose) @ pose
    points = camera.to(pose.device).detector_points_mm.to(pose).reshape(-1, 3)
    target = transform_points(voxel_from_camera, points.expand(pose.shape[0], -1, -1))
    source = voxel_from_camera[:, None, None, :3, 3]
    return source, target.reshape(pose.shape[0], camera.height, camera.width, 3) - source


def clip_to_box(
    source: Float[Tensor, "B 1 1 A"],
    direction: Float[Tensor, "B H W A"],
    lower: Float[Tensor, "A"],
    upper: Float[Tensor, "A"],
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W"]]:
    """Ray parameters in [0, 1] at which rays enter and leave the box; a ray misses the box if entry exceeds exit."""
    safe = torch.where(direction.abs() < PARALLEL_VOXELS, torch.full_like(direction, PARALLEL_VOXELS), direction)
    a, b = (lower - source) / safe, (upper - source) / safe
    return torch.minimum(a, b).amax(-1).clamp_min(0), torch.maximum(a, b).amin(-1).clamp_max(1)


def ray_bounds(
    volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"]
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W"]]:
    """Ray parameters at which rays enter and leave the zero-padded volume; equal if a ray misses it."""
    source, direction = voxel_rays(volume, camera, pose)
    size = direction.new_tensor(list(volume.values.shape[::-1]))
    near, far = clip_to_box(source, direction, torch.full_like(size, -1.0), size)
    near = near.clamp_max(1)
    return near, torch.maximum(near, far)
