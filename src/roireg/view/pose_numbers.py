"""A pose as six numbers that can be read and typed: a C-arm's angles, and where the patient's centre is."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.poses import carm_pose
from roireg.geometry.se3 import invert, transform_points

# Beyond it, the primary angle and the roll turn about the same axis.
STEEPEST = 1 - 1e-12


@dataclass(frozen=True)
class PoseNumbers:
    """A pose `volume_from_camera` in numbers; `carm_pose` defines the first two angles.

    Attributes:
        primary_deg: of the detector about the patient's long axis; + is LAO.
        secondary_deg: of the detector towards the head (+, cranial) or the feet.
        roll_deg: of the camera about its central ray.
        across_mm, down_mm, depth_mm: the patient's centre along the camera's axes, from the source.
    """

    primary_deg: float
    secondary_deg: float
    roll_deg: float
    across_mm: float
    down_mm: float
    depth_mm: float


def roll(angle_deg: float) -> Float[Tensor, "4 4"]:
    """The rotation of a camera about its central ray."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
    return turn


def oriented(primary_deg: float, secondary_deg: float, roll_deg: float) -> Float[Tensor, "4 4"]:
    """The rotation `volume_from_camera` of a C-arm at these angles, without a translation."""
    pose = carm_pose(torch.zeros(3, dtype=torch.float64), 0.0, primary_deg, secondary_deg)
    return pose @ roll(roll_deg)


def angles_deg(pose: Float[Tensor, "4 4"]) -> tuple[float, float, float]:
    """Primary angle, secondary angle and roll of a pose `volume_from_camera`."""
    left, posterior, superior = pose[:3, 2].tolist()
    secondary = math.degrees(math.asin(max(-1.0, min(1.0, superior))))
    primary = math.degrees(math.atan2(left, -posterior)) if abs(superior) < STEEPEST else 0.0
    rest = oriented(primary, secondary, 0.0)[:3, :3].T @ pose[:3, :3]
    return primary, secondary, math.degrees(math.atan2(float(rest[1, 0]), float(rest[0, 0])))


def numbers_of(pose: Float[Tensor, "4 4"], center_mm: Float[Tensor, "3"]) -> PoseNumbers:
    """The numbers of a pose `volume_from_camera` (mm), for a patient with this centre (volume frame)."""
    across, down, depth = transform_points(invert(pose), center_mm[None])[0].tolist()
    return PoseNumbers(*angles_deg(pose), across, down, depth)


def pose_of(numbers: PoseNumbers, center_mm: Float[Tensor, "3"]) -> Float[Tensor, "4 4"]:
    """The inverse of `numbers_of`."""
    pose = oriented(numbers.primary_deg, numbers.secondary_deg, numbers.roll_deg)
    offset = pose.new_tensor([numbers.across_mm, numbers.down_mm, numbers.depth_mm])
    pose[:3, 3] = center_mm - pose[:3, :3] @ offset
    return pose
