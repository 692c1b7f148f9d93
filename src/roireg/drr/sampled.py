r"""The samples of `fused` by torch operations, for a volume on any device: images with Jacobian, and silhouettes.

Rays are sampled where `fused` samples them, at $t_k = (k + 1/2)\,dt$ of the way from the source to the detector, and
the volume is interpolated in the same way, so that a registration on a GPU follows the same path as on the CPU.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from roireg.data.volume import Volume, cropped
from roireg.geometry.camera import Camera
from roireg.geometry.se3 import invert, transform_points

# Samples that are interpolated at once; each takes some 40 bytes.
SAMPLES_AT_ONCE = 2**23


@dataclass(frozen=True, eq=False)
class Frame:
    """The geometry of a volume, on the device of the poses.

    Attributes:
        grid_from_volume: to torch's coordinates of a grid, in which the outer faces of the voxels are at -1 and 1.
        corners_mm: corners of the box outside which all interpolated values are 0; volume frame.
        diagonal_mm: length of the diagonal of that box.
    """

    grid_from_volume: Float[Tensor, "4 4"]
    corners_mm: Float[Tensor, "8 3"]
    diagonal_mm: float


def _frame_on(volume: Volume, device: torch.device) -> Frame:
    """The geometry of a volume; cached, as it is read from the volume's device."""
    if "frame" not in volume.derived:
        volume.derived["frame"] = _frame(volume)
    frame: Frame = volume.derived["frame"]
    key = f"frame on {device}"
    if key not in volume.derived:
        moved = (frame.grid_from_volume.to(device), frame.corners_mm.to(device))
        volume.derived[key] = Frame(*moved, frame.diagonal_mm)
    return volume.derived[key]


def _frame(volume: Volume) -> Frame:
    size = torch.tensor(volume.values.shape[::-1], dtype=torch.float64)
    grid_from_voxel = torch.diag(torch.cat([2 / size, torch.ones(1, dtype=torch.float64)]))
    grid_from_voxel[:3, 3] = 1 / size - 1
    filled = volume.values != 0
    bounds = []
    for axis in range(3):
        others = tuple(2 - other for other in range(3) if other != axis)
        found = filled.any(dim=max(others)).any(dim=min(others)).cpu().nonzero().flatten().double()
        # Interpolated values reach one voxel beyond the last one that is not zero.
        bounds.append(torch.stack([found[0] - 1, found[-1] + 1]) if len(found) else torch.zeros(2, dtype=torch.float64))
    volume_from_voxel = volume.volume_from_voxel.cpu().double()
    corners_mm = transform_points(volume_from_voxel, torch.cartesian_prod(*bounds))
    diagonal_mm = float((corners_mm[-1] - corners_mm[0]).norm())
    return Frame(grid_from_voxel @ torch.linalg.inv(volume_from_voxel), corners_mm, diagonal_mm)


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays and samples in the coordinates of the grid: sample k of ray n is `middle[n] + offset[k] * direction[n]`.

    Attributes:
        middle: point of the ray at the depth of the middle of the volume, from which offsets are small.
        direction: from the source to the detector.
        offset: ray parameter of the samples, relative to that of `middle`.
        weights: 1, and the ray parameter; 0 for samples that are not between source and detector.
    """

    middle: Float[Tensor, "B N 3"]
    direction: Float[Tensor, "B N 3"]
    offset: Float[Tensor, "B K"]
    weights: Float[Tensor, "B 2 K"]


def _centred_rays_mm(camera: Camera, device: torch.device) -> Float[Tensor, "3 3"]:
    """`Camera.rays_mm`, applied to pixels counted from the middle of the image, where numbers are small; cached."""
    key = f"centred rays on {device}"
    if key not in camera.derived:
        middle = torch.eye(3, dtype=torch.float64)
        middle[0, 2], middle[1, 2] = (camera.width - 1) / 2, (camera.height - 1) / 2
        camera.derived[key] = (camera.rays_mm().cpu().double() @ middle).to(device)
    return camera.derived[key]


def _rays(volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float, like: Tensor) -> Rays:
    """The rays of a camera in B poses. Products of poses are computed where the poses are, in float64.

    From poses on the CPU follows how many samples are needed; for others, which are not read, it is as many as the
    longest line through the volume has.
    """
    frame, dt = _frame_on(volume, pose.device), step_mm / camera.source_to_detector_mm
    depth_mm = transform_points(invert(pose), frame.corners_mm.expand(len(pose), -1, -1))[..., 2]
    nearest, farthest = (bound / step_mm for bound in (depth_mm.amin(dim=1), depth_mm.amax(dim=1)))
    first, last = (nearest - 0.5).floor().clamp_min(0), (farthest + 0.5).ceil().clamp_max(round(1 / dt))
    largest = math.ceil(frame.diagonal_mm / step_mm) + 2
    if pose.device.type == "cpu":
        largest = min(largest, max(int((last - first).max()), 1))
    k = first[:, None] + torch.arange(largest, dtype=torch.float64, device=pose.device)
    t, middle_t = (k + 0.5) * dt, (first + last)[:, None, None] / 2 * dt
    used = (k < last[:, None]) & (t < 1)
    grid_from_camera = frame.grid_from_volume @ pose
    direction = grid_from_camera[:, :3, :3] @ _centred_rays_mm(camera, pose.device)
    middle = middle_t * direction
    middle[:, :, 2] += grid_from_camera[:, :3, 3]
    small = torch.cat([middle, direction], dim=1).to(like)
    v, u = torch.meshgrid(
        torch.arange(camera.height, dtype=like.dtype, device=like.device) - (camera.height - 1) / 2,
        torch.arange(camera.width, dtype=like.dtype, device=like.device) - (camera.width - 1) / 2,
        indexing="ij",
    )
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
    both = pixels @ small.transpose(1, 2)
    offset = (t - middle_t[..., 0]).to(like)
    return Rays(both[..., :3], both[..., 3:], offset, torch.stack([used.double(), used * t], dim=1).to(like))


def _parts(rays: Rays) -> Iterator[tuple[Float[Tensor, "B J N 1 3"], Float[Tensor, "B 2 J"]]]:
    """The samples, some at a time, with their weights."""
    count, n_rays, _ = rays.middle.shape
    at_once = max(SAMPLES_AT_ONCE // (count * n_rays), 1)
    for offset, weights in zip(rays.offset.split(at_once, dim=1), rays.weights.split(at_once, dim=2), strict=True):
        points = torch.addcmul(rays.middle[:, None], offset[..., None, None], rays.direction[:, None])
        yield points[:, :, :, None], weights


def _interpolated(
    values: Float[Tensor, "D H W"], points: Float[Tensor, "B J N 1 3"], mode: str
) -> Float[Tensor, "B J N"]:
    """Values at points of the grid; 0 outside it."""
    field = values[None, None].expand(len(points), -1, -1, -1, -1)
    return grid_sample(field, points, mode=mode, padding_mode="zeros", align_corners=False)[:, 0, :, :, 0]


def _sums(values: Float[Tensor, "D H W"], rays: Rays) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B 2 N 3"]]:
    """Of every ray: the sum of the samples, and the sums of their gradients and of t times their gradients."""
    count, n_rays, _ = rays.middle.shape
    image, moments = values.new_zeros(count, 1, n_rays), values.new_zeros(count, 2, n_rays * 3)
    for points, weights in _parts(rays):
        with torch.enable_grad():
            points.requires_grad_()
            sampled = _interpolated(values, points, "bilinear")
        (gradient,) = torch.autograd.grad(sampled, points, torch.ones_like(sampled))
        image = torch.baddbmm(image, weights[:, :1], sampled.detach())
        moments = torch.baddbmm(moments, weights, gradient.flatten(2))
    return image[:, 0], moments.reshape(count, 2, n_rays, 3)


def render_with_jacobian(
    volume: Volume,
    camera: Camera,
    pose: Float[Tensor, "B 4 4"],
    center_mm: Float[Tensor, "3"],
    step_mm: float,
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W 6"]]:
    """See `roireg.drr.render_with_jacobian`, and `fused.render_with_jacobian` for the equations.

    Nothing is read from the device if the poses are on the CPU; what is copied to it does not grow with the image.
    """
    values = volume.values
    pose, center_mm = pose.detach().cpu().double(), center_mm.cpu().double()
    image, moments = _sums(values, _rays(volume, camera, pose, step_mm, values))
    grid_from_volume = _frame_on(volume, values.device).grid_from_volume[:3, :3].to(values)
    dt = step_mm / camera.source_to_detector_mm
    view = camera.to(values.device)
    scale = dt * view.ray_lengths_mm.to(values.dtype)
    size = (len(pose), camera.height, camera.width)
    g, h = (moments @ grid_from_volume).reshape(len(pose), 2, *size[1:], 3).unbind(1)
    g, h = g * scale[..., None], h * scale[..., None]
    source = (pose[:, :3, 3] - center_mm).to(values)[:, None, None]
    directions = view.detector_points_mm.to(values.dtype) @ pose[:, None, :3, :3].to(values).transpose(-1, -2)
    rotation = torch.linalg.cross(source.expand_as(g), g) + torch.linalg.cross(directions, h)
    return image.reshape(size) * scale, torch.cat([rotation, g], dim=-1)


def project_mask(mask: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float) -> Bool[Tensor, "B H W"]:
    """See `roireg.drr.project_mask`: a sample is in the mask if its nearest voxel is. The poses are not read."""
    part = _silhouette(mask, pose.device)
    hits = part.values.new_zeros(len(pose), 1, camera.height * camera.width)
    for points, weights in _parts(_rays(part, camera, pose.detach().double(), step_mm, part.values)):
        hits = torch.baddbmm(hits, weights[:, :1], _interpolated(part.values, points, "nearest"))
    return (hits > 0).reshape(len(pose), camera.height, camera.width)


def _silhouette(mask: Volume, device: torch.device) -> Volume:
    """The bounding box of a mask, 1 where the mask is not 0, on a device; cached."""
    key = f"silhouette on {device}"
    if key not in mask.derived:
        mask.derived[key] = cropped(mask.with_values((mask.values != 0).float())).to(device)
    return mask.derived[key]
