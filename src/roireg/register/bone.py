"""One bone of a CT as it is registered: what it adds to soft tissue, where it was sawn off, and the rays near it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.volume import MU_WATER_PER_MM, Volume
from roireg.drr import project_mask
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.geometry.se3 import invert, transform_points

# Of the bone's longest side: finer voxels are averaged to that, but to no more than the largest.
VOXELS_ALONG, LARGEST_VOXEL_MM = 100, 2.0
# An end is sawn off if its last slice is so large a share of those a little deeper: rounded ends are not.
FLAT_SHARE, DEEPER_MM = 0.6, (5.0, 10.0)
# Or if the bone goes on at the CT's border with such a share of its largest slice.
CUT_SHARE = 0.05
LEAST_VOXELS = 30
JOINED_BY = "+"
POINTS = 64
# Outside the margin weights fall to 0 over this share of it.
RIM_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone in its CT's frame.

    Attributes:
        name: of its label.
        volume: by how much it attenuates more than soft tissue, 1/mm.
        kept: 1 in its voxels, but for those near sawn ends.
        ends: 1 in those.
        center_mm: about which it turns, volume frame.
        points_mm: points within it, evenly spread, volume frame.
        size_mm: longest side of its box.
    """

    name: str
    volume: Volume
    kept: Volume
    ends: Volume
    center_mm: Float[Tensor, "3"]
    points_mm: Float[Tensor, "N 3"]
    size_mm: float


def labels_of(name: str) -> tuple[str, ...]:
    """The labels of a bone's name: `left hemipelvis+right hemipelvis` is both, as one rigid body."""
    return tuple(part.strip() for part in name.split(JOINED_BY))


def bone_of(patient: Patient, name: str, end_margin_mm: float, center_mm: Float[Tensor, "3"] | None = None) -> Bone:
    """A label of the CT; all that is not air of a CT without labels, which then must hold the bone alone.

    Args:
        patient: the CT, at the resolution at which it is stored.
        name: of the label, or of several that move together, joined by `+`.
        end_margin_mm: rays within so much of a sawn end do not count.
        center_mm: about which it turns, such as a joint, volume frame; the middle of its voxels if not given.

    Raises:
        InputError: there is no such label, or it has hardly any voxels.
    """
    mask = patient.volume.values > 0 if patient.labels is None else patient.label_mask(labels_of(name), "bone")
    if int(mask.sum()) < LEAST_VOXELS:
        raise InputError(f"bone {name}", f"it has {int(mask.sum())} voxels", "Name a label that the CT shows")
    spacing = patient.volume.spacing_mm
    near_ends = _near_ends(mask.numpy(), spacing.flip(0).tolist(), end_margin_mm)
    found = mask.nonzero()
    low, high = found.amin(0), found.amax(0) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    frame = patient.volume.volume_from_voxel.clone()
    frame[:3, 3] += frame[:3, :3] @ low.flip(0).to(frame)
    size_mm = float(((high - low).flip(0) * spacing).max())
    excess = (patient.volume.values[box] - MU_WATER_PER_MM).clamp_min(0) * mask[box]
    target = min(max(size_mm / VOXELS_ALONG, float(spacing.min())), LARGEST_VOXEL_MM)
    x, y, z = (max(int(target / one), 1) for one in spacing.tolist())
    factors = (x, y, z)
    parts = [Volume(one.float().contiguous(), frame) for one in (excess, mask[box] & ~near_ends[box], near_ends[box])]
    points = found[:: max(len(found) // POINTS, 1)].flip(-1).to(torch.float64)
    middle = found.double().mean(0).flip(0)
    to_mm = patient.volume.volume_from_voxel
    return Bone(
        name,
        parts[0].block_means(factors),
        _filled(parts[1].block_means(factors)),
        _filled(parts[2].block_means(factors)),
        to_mm[:3, :3] @ middle + to_mm[:3, 3] if center_mm is None else center_mm.to(to_mm),
        points @ to_mm[:3, :3].T + to_mm[:3, 3],
        size_mm,
    )


def _filled(means: Volume) -> Volume:
    return means.with_values((means.values >= 0.5).float())


def _near_ends(mask: np.ndarray, spacing_mm: list[float], margin_mm: float) -> Bool[Tensor, "D H W"]:
    """The mask's voxels within a margin of its sawn ends, along each axis of the grid."""
    near = np.zeros_like(mask)
    for axis in range(3):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        filled = np.flatnonzero(areas)
        depth = max(round(margin_mm / spacing_mm[axis]), 1)
        for last, step in ((filled[0], 1), (filled[-1], -1)):
            if _is_sawn(areas, int(last), step, spacing_mm[axis]):
                reach = range(int(last), int(last) + step * depth, step)
                slices = [index for index in reach if 0 <= index < mask.shape[axis]]
                where = [slice(None)] * 3
                where[axis] = slice(min(slices), max(slices) + 1)
                near[tuple(where)] |= mask[tuple(where)]
    return torch.from_numpy(near)


def _is_sawn(areas: np.ndarray, last: int, step: int, spacing_mm: float) -> bool:
    """Whether the bone ends at a slice as if it were cut there; `step` leads into the bone."""
    if last in (0, len(areas) - 1) and areas[last] >= CUT_SHARE * areas.max():
        return True
    deeper = [last + step * max(round(mm / spacing_mm), 1) for mm in DEEPER_MM]
    inner = areas[max(min(deeper), 0) : max(deeper) + 1]
    return len(inner) > 0 and areas[last] >= FLAT_SHARE * np.median(inner) > 0


def depth_mm(bone: Bone, pose: Float[Tensor, "4 4"]) -> float:
    """Of the bone's centre from the source, along the camera's axis, at a pose `volume_from_camera`."""
    return float(transform_points(invert(pose), bone.center_mm[None])[0, 2])


def rays_near(bone: Bone, camera: Camera, poses: Float[Tensor, "B 4 4"], margin_mm: float) -> Float[Tensor, "B H W"]:
    """1 for rays that meet the bone or pass it within a margin, falling to 0 over a rim; 0 where they are nearer to an
    end that was sawn off, beyond which the X-ray shows what the CT does not.

    Args:
        bone: the bone.
        camera: the detector.
        poses: `volume_from_camera`, mm.
        margin_mm: at the bone's depth.
    """
    shadows, ends = (project_mask(part, camera, poses).numpy() for part in (bone.kept, bone.ends))
    out = np.zeros(shadows.shape, np.float32)
    for index, (shadow, end) in enumerate(zip(shadows, ends, strict=True)):
        if not shadow.any():
            continue
        scale = depth_mm(bone, poses[index]) / camera.source_to_detector_mm
        pixel_mm = scale * float(np.mean(camera.pixel_spacing_mm))
        distance, nearest = ndimage.distance_transform_edt(~(shadow | end), return_indices=True)
        weight = np.clip((margin_mm - distance * pixel_mm) / (RIM_SHARE * margin_mm) + 1, 0, 1)
        out[index] = np.where(shadow[tuple(nearest)], weight, 0)
    return torch.from_numpy(out)
