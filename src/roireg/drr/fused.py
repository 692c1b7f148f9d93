"""CPU backend: the ray marcher of `_march` as a torch operation, differentiable in the pose, or with its Jacobian."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from roireg.data.volume import Volume
from roireg.drr import _march
from roireg.geometry.camera import Camera

FLAT_INDEX_LIMIT = 2**31


@dataclass(frozen=True, eq=False)
class Packed:
    """A volume in the form that `_march` reads: padded by one voxel of zeros, flattened, with a map of occupied blocks.

    Attributes:
        flat: float64 values, or pairs of 16-bit numbers in units of `scale` for a float32 volume (see `_march`).
        scale: attenuation of one unit of `flat`.
        shape: `(Z, Y, X)` after padding.
        occupancy: false for blocks that rays may skip.
    """

    flat: np.ndarray
    scale: np.floating
    shape: tuple[int, int, int]
    occupancy: np.ndarray


def pack(values: Float[Tensor, "D H W"]) -> Packed:
    """Pad and flatten a volume, and mark the blocks near non-zero voxels.

    From an unmarked block, a ray skips one block length ahead. Marks are therefore dilated by two blocks: one for the
    skip, one for the neighbours that interpolation reads.

    Raises:
        ValueError: too many voxels for 32-bit indices, or a negative float32 value.
    """
    padded = np.pad(values.detach().cpu().numpy(), 1)
    if padded.size >= FLAT_INDEX_LIMIT:
        raise ValueError(f"a volume of {tuple(values.shape)} voxels is too large for the fused renderer")
    size = _march.BLOCK_VOXELS
    grown = np.pad(padded != 0, [(0, -n % size) for n in padded.shape])
    blocks = grown.reshape(grown.shape[0] // size, size, grown.shape[1] // size, size, grown.shape[2] // size, size)
    occupancy = ndimage.maximum_filter(blocks.any(axis=(1, 3, 5)), size=5, mode="constant")
    if padded.dtype == np.float64:
        return Packed(padded.ravel(), np.float64(1), padded.shape, occupancy)
    if padded.min() < 0:
        raise ValueError("the fused renderer needs values that are not negative; use float64 for negative values")
    scale = np.float32(max(float(padded.max()), float(np.finfo(np.float32).tiny)) / _march.PAIR_LEVELS)
    # In place, as a CT has hundreds of megabytes, whose allocation takes longer than the arithmetic.
    rounded = padded.ravel() / scale
    np.rint(rounded, out=rounded)
    np.minimum(rounded, _march.PAIR_LEVELS, out=rounded)
    flat = rounded.astype(np.uint32)
    flat[:-1] |= flat[1:] << 16
    return Packed(flat, scale, padded.shape, occupancy)


def march_arguments(
    volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float
) -> tuple[np.ndarray, np.floating, tuple[int, int, int], np.ndarray, np.ndarray, np.ndarray, int, int, float]:
    """Arguments of the kernels of `_march`, for one volume and one camera in B poses."""
    if "fused" not in volume.derived:
        volume.derived["fused"] = pack(volume.values)
    packed = volume.derived["fused"]
    linear = volume.voxel_from_volume[:3, :3]
    matrix = pose.detach().to("cpu", torch.float64)
    source = matrix[:, :3, 3] @ linear.T + volume.voxel_from_volume[:3, 3] + 1
    ray_matrix = linear @ matrix[:, :3, :3] @ camera.rays_mm()
    dt = step_mm / camera.source_to_detector_mm
    return (
        packed.flat,
        packed.scale,
        packed.shape,
        packed.occupancy,
        source.contiguous().numpy(),
        ray_matrix.contiguous().numpy(),
        camera.height,
        camera.width,
        dt,
    )


class _FusedRender(torch.autograd.Function):
    """Line integrals along x = R (t q) + T (q: detector point), with dI/dT = sum grad V, dI/dR = (sum t grad V) q^T."""

    @staticmethod
    def forward(
        ctx: Any, pose: Float[Tensor, "B 4 4"], volume: Volume, camera: Camera, step_mm: float
    ) -> Float[Tensor, "B H W"]:
        arguments = march_arguments(volume, camera, pose, step_mm)
        lengths = camera.ray_lengths_mm
        if not ctx.needs_input_grad[0]:
            image = torch.from_numpy(_march.march(*arguments))
            return image * lengths.to(image.dtype)
        image, moments = (torch.from_numpy(x) for x in _march.march_with_moments(*arguments))
        ctx.save_for_backward(moments, pose)
        ctx.volume, ctx.camera = volume, camera
        return image * lengths.to(image.dtype)

    @staticmethod
    def backward(ctx: Any, grad_image: Float[Tensor, "B H W"]) -> tuple[Float[Tensor, "B 4 4"], None, None, None]:
        moments, pose = ctx.saved_tensors
        real = moments.dtype
        n_poses = moments.shape[0]
        points = ctx.camera.detector_points_mm.to(real).reshape(-1, 3)
        weighted = (grad_image * ctx.camera.ray_lengths_mm.to(real)).reshape(n_poses, -1, 1)
        moments = moments.reshape(n_poses, -1, 6)
        linear = ctx.volume.voxel_from_volume[:3, :3].to(real)
        grad_translation = (moments[..., :3].transpose(1, 2) @ weighted)[..., 0] @ linear
        grad_rotation = linear.T @ (moments[..., 3:].transpose(1, 2) @ (weighted * points))
        grad_pose = torch.zeros_like(pose)
        grad_pose[:, :3, :3] = grad_rotation.to(pose.dtype)
        grad_pose[:, :3, 3] = grad_translation.to(pose.dtype)
        return grad_pose, None, None, None


def render(volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float) -> Float[Tensor, "B H W"]:
    """See `roireg.drr.render`."""
    return _FusedRender.apply(pose, volume, camera, step_mm)


def render_with_jacobian(
    volume: Volume,
    camera: Camera,
    pose: Float[Tensor, "B 4 4"],
    center_mm: Float[Tensor, "3"],
    step_mm: float,
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W 6"]]:
    """See `roireg.drr.render_with_jacobian`.

    A twist (r, t) moves a point x of a ray by $r \\times (x - c) + t$. With G and H the sums of grad V and t grad V
    along the ray $x(t) = s + t e$, the derivatives are $dI/dt = G$ and $dI/dr = (s - c) \\times G + e \\times H$.
    """
    arguments = march_arguments(volume, camera, pose, step_mm)
    image, moments = (torch.from_numpy(x) for x in _march.march_with_moments(*arguments))
    lengths = camera.ray_lengths_mm.to(image.dtype)
    linear = volume.voxel_from_volume[:3, :3].to(image.dtype)
    scaled = moments * lengths[..., None]
    g, h = scaled[..., :3] @ linear, scaled[..., 3:] @ linear
    source = (pose[:, :3, 3] - center_mm).to(image.dtype)[:, None, None, :]
    directions = camera.detector_points_mm.to(image.dtype) @ pose[:, None, :3, :3].to(image.dtype).transpose(-1, -2)
    rotation = torch.linalg.cross(source.expand_as(g), g) + torch.linalg.cross(directions, h)
    return image * lengths, torch.cat([rotation, g], dim=-1)


def project_mask(volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float) -> Bool[Tensor, "B H W"]:
    """See `roireg.drr.project_mask`."""
    return torch.from_numpy(_march.march_hits(*march_arguments(volume, camera, pose, step_mm)))
