"""Poses: the reference view, a C-arm's angles, and perturbations. A pose is `volume_from_camera`, mm."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.se3 import se3_exp, translation

# Distance from a C-arm's source to its isocentre as a fraction of that to its detector: near to what C-arms have.
SOURCE_TO_ISOCENTER_FRACTION = 0.72


def perturb(
    pose: Float[Tensor, "*B 4 4"], twist: Float[Tensor, "*B 6"], center_mm: Float[Tensor, "3"]
) -> Float[Tensor, "*B 4 4"]:
    """`Exp([r, t]) @ pose`, with the exponential taken in the volume frame moved to `center_mm`.

    Rotating about a point inside the patient, not about the CT's far-away origin, keeps rotation and translation nearly
    independent; with `center_mm` at the isocentre this is the paper's $T = \\Delta T \\cdot T_{PA}$.

    Args:
        pose: `volume_from_camera`, mm.
        twist: r in rad, t in mm.
        center_mm: fixed point of the rotation, volume frame.
    """
    return translation(center_mm) @ se3_exp(twist) @ translation(-center_mm) @ pose


def pa_pose(isocenter_mm: Float[Tensor, "3"], source_to_isocenter_mm: float) -> Float[Tensor, "4 4"]:
    """`T_PA`: the posterior-anterior view, its central ray through the isocentre, the patient upright in the image.

    Camera z is the patient's anterior (-y of LPS), camera y inferior (-z), camera x the patient's right (-x); the
    source lies `source_to_isocenter_mm` behind the patient.
    """
    pose = torch.eye(4, dtype=isocenter_mm.dtype, device=isocenter_mm.device)
    pose[:3, :3] = pose.new_tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])
    pose[:3, 3] = isocenter_mm + pose.new_tensor([0.0, source_to_isocenter_mm, 0.0])
    return pose


def carm_pose(
    isocenter_mm: Float[Tensor, "3"], source_to_isocenter_mm: float, primary_deg: float, secondary_deg: float
) -> Float[Tensor, "4 4"]:
    """The pose at a C-arm's angles as DICOM defines them (PS3.3, C.8.7.5), for a patient who lies along the table.

    At 0 and 0 the detector is above the patient's chest: `pa_pose`. The primary angle turns it about his long axis, +90
    at his left side (LAO), -90 at his right (RAO); the secondary one towards his head (+, cranial) or feet (-, caudal).
    """
    turn = isocenter_mm.new_tensor([-math.radians(secondary_deg), 0, 0, 0, 0, 0], dtype=torch.float64)
    orbit = isocenter_mm.new_tensor([0, 0, math.radians(primary_deg), 0, 0, 0], dtype=torch.float64)
    at_zero = pa_pose(isocenter_mm, source_to_isocenter_mm)
    return perturb(perturb(at_zero, turn, isocenter_mm), orbit, isocenter_mm)


def camera_twist(twist: Float[Tensor, "*B 6"], pose: Float[Tensor, "4 4"]) -> Float[Tensor, "*B 6"]:
    """Twists given along the camera's axes, along the volume's axes as `perturb` takes them."""
    camera_from_volume = pose[:3, :3].T
    return torch.cat([twist[..., :3] @ camera_from_volume, twist[..., 3:] @ camera_from_volume], dim=-1)
