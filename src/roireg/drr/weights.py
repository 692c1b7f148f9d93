"""Weight maps that select the pixels which a rigid CT of finite extent can explain; computed from geometry alone."""

import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from roireg.data.volume import UNBOUNDED_VOXELS, Volume
from roireg.drr.bounds import clip_to_box, voxel_rays
from roireg.drr.render import project_mask
from roireg.geometry.camera import Camera


def coverage(volume: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B H W"]:
    """1 for rays that pass only through the scanned part of the patient, 0 for rays that cross an end of the CT.

    A CT covers only part of the patient. The X-ray shows tissue beyond the truncated ends of the CT
    (`Volume.truncated_faces`) that no DRR can show. The patient's bounding box is continued beyond those ends to a
    column; a ray is covered if it is between the truncated faces both where it enters and where it leaves that column.
    Rays that miss the column pass through air in both images and are covered.

    Args:
        volume: attenuation, 0 in air.
        camera: the detector.
        pose: `volume_from_camera`, mm; no gradient flows to it, since the weights are piecewise constant.

    Returns:
        Weights, 0 or 1, with the dtype of the volume.
    """
    lower, upper, limit_lower, limit_upper = _column(volume, pose.device)
    source, direction = voxel_rays(volume, camera, pose.detach())
    near, far = clip_to_box(source, direction, lower.to(direction), upper.to(direction))
    covered = torch.ones_like(near, dtype=torch.bool)
    for t in (near, far):
        point = source + t[..., None] * direction
        covered &= ((point >= limit_lower.to(point)) & (point <= limit_upper.to(point))).all(-1)
    return (covered | (near >= far)).to(volume.values.dtype)


def _column(volume: Volume, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bounds of the patient's column, and of what was scanned of it, voxels `(x, y, z)`; on a device, once."""
    key = f"column on {device}"
    if key not in volume.derived:
        lower, upper = volume.column_box
        limit_lower, limit_upper = torch.full_like(lower, -UNBOUNDED_VOXELS), torch.full_like(upper, UNBOUNDED_VOXELS)
        for axis, side in volume.truncated_faces:
            if side == 0:
                limit_lower[axis] = 0
            else:
                limit_upper[axis] = volume.values.shape[2 - axis] - 1
        volume.derived[key] = tuple(bound.to(device) for bound in (lower, upper, limit_lower, limit_upper))
    return volume.derived[key]


def exclusion(
    mask: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float | None = None
) -> Float[Tensor, "B H W"]:
    """0 for rays that cross `mask`, such as bones which move against the registered one; 1 elsewhere."""
    return 1 - project_mask(mask, camera, pose, step_mm).to(torch.float32)


def dilated_labels(labels: Bool[Tensor, "D H W"], margin_mm: float, volume: Volume) -> Volume:
    """Mask, on the volume's grid, of the voxels within `margin_mm` (Euclidean distance) of a labelled voxel."""
    sampling = volume.spacing_mm.flip(0).tolist()
    distance = ndimage.distance_transform_edt(~labels.numpy(), sampling=sampling)
    return volume.with_values(torch.from_numpy(distance <= margin_mm).to(torch.float32))
