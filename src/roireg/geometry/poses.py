"""Poses: the PA pose, poses from a C-arm's angles, and perturbations. A pose is `volume_from_camera`, mm."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.se3 import se3_exp, translation

# Distance from a C-arm's source to its isocentre, as a fraction of that to its detector; a typical value of C-arms.
SOURCE_TO_ISOCENTER_FRACTION = 0.72


def perturb(
    pose: Float[Tensor, "*B 4 4"], twist: Float[Tensor, "*B 6"], center_mm: Float[Tensor, "3"]
) -> Float[Tensor, "*B 4 4"]:
    """`Exp([r, t]) @ pose`, where the exponential is taken in the volume frame shifted to `center_mm`.

    A rotation about a point inside the patient, instead of the CT's distant origin, keeps rotation and translation
    nearly independent. With `center_mm` at the isocentre this is the paper's $T = \\Delta T \\cdot T_{PA}$.

    Args:
        pose: `volume_from_camera`, mm.
        twist: r in rad, t in mm, along the volume's axes.
        center_mm: fixed point of the rotation, volume frame.
    """
    return translation(center_mm) @ se3_exp(twist) @ translation(-center_mm) @ pose


def pa_pose(isocenter_mm: Float[Tensor, "3"], source_to_isocenter_mm: float) -> Float[Tensor, "4 4"]:
    """`T_PA`, the posterior-anterior pose: the central ray meets the isocentre, the patient is upright in the image.

    Camera z points in the patient's anterior direction (-y of LPS), camera y inferior (-z), camera x to the patient's
    right (-x). The source is posterior of the isocentre by `source_to_isocenter_mm`.
    """
    pose = torch.eye(4, dtype=isocenter_mm.dtype, device=isocenter_mm.device)
    pose[:3, :3] = pose.new_tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])
    pose[:3, 3] = isocenter_mm + pose.new_tensor([0.0, source_to_isocenter_mm, 0.0])
    return pose


def carm_pose(
    isocenter_mm: Float[Tensor, "3"], source_to_isocenter_mm: float, primary_deg: float, secondary_deg: float
) -> Float[Tensor, "4 4"]:
    """The pose for a C-arm's angles as DICOM defines them (PS3.3, C.8.7.5), for a patient who lies along the table.

    At angles of 0 the detector is above the patient's chest (`pa_pose`). The primary angle rotates the detector about
    the patient's long axis: at +90 it is at the patient's left side (LAO), at -90 at the right (RAO). The secondary
    angle rotates it towards the patient's head (positive, cranial) or feet (negative, caudal).
    """
    turn = isocenter_mm.new_tensor([-math.radians(secondary_deg), 0, 0, 0, 0, 0], dtype=torch.float64)
    orbit = isocenter_mm.new_tensor([0, 0, math.radians(primary_deg), 0, 0, 0], dtype=torch.float64)
    at_zero = pa_pose(isocenter_mm, source_to_isocenter_mm)
    return perturb(perturb(at_zero, turn, isocenter_mm), orbit, isocenter_mm)


def camera_twist(twist: Float[Tensor, "*B 6"], pose: Float[Tensor, "4 4"]) -> Float[Tensor, "*B 6"]:
    """Convert twists from the camera's axes to the volume's axes, as `perturb` expects."""
    camera_from_volume = pose[:3, :3].T
    return torch.cat([twist[..., :3] @ camera_from_volume, twist[..., 3:] @ camera_from_volume], dim=-1)
