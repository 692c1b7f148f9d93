"""How a hand's movement changes a pose. A pose is `volume_from_camera`, mm; the patient moves, the camera stays.

In the camera's frame a point of the patient is $x = T^{-1} p$, so a rigid motion $M$ of the patient in that frame makes
of the pose $T$ the pose $T M^{-1}$.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.camera import Camera
from roireg.geometry.se3 import invert, se3_exp, transform_points, translation

# The pivot stays between the source and a little behind the detector, as fractions of their distance.
NEAREST, FARTHEST = 0.05, 1.5


def in_camera(pose: Float[Tensor, "4 4"], point_mm: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """A point of the volume in the camera's frame, mm."""
    return transform_points(invert(pose), point_mm[None])[0]


def shifted(
    pose: Float[Tensor, "4 4"], camera: Camera, pivot_mm: Float[Tensor, "3"], across_px: float, down_px: float
) -> Float[Tensor, "4 4"]:
    """The patient moved parallel to the detector, so that the pivot's projection moves by so many pixels."""
    depth = in_camera(pose, pivot_mm)[2]
    ray = torch.linalg.inv(camera.intrinsics_px) @ pose.new_tensor([across_px, down_px, 0.0])
    return pose @ translation(-depth * ray)


def turned(
    pose: Float[Tensor, "4 4"], camera: Camera, pivot_mm: Float[Tensor, "3"], degrees: tuple[float, float, float]
) -> Float[Tensor, "4 4"]:
    """The patient turned about the pivot, as a person sees it who looks at the picture.

    Args:
        pose: `volume_from_camera`, mm.
        camera: camera of the picture; one seen from behind the detector is looked at from there.
        pivot_mm: stays where it is, volume frame.
        degrees: what is near the viewer goes to the right; what is near goes down; clockwise in the picture.
    """
    right, down, clockwise = (math.radians(angle) for angle in degrees)
    side = math.copysign(1.0, float(camera.intrinsics_px[0, 0]))
    pivot = in_camera(pose, pivot_mm)
    rotation = se3_exp(pose.new_tensor([side * down, -right, side * clockwise, 0.0, 0.0, 0.0]))
    return pose @ translation(pivot) @ invert(rotation) @ translation(-pivot)


def deeper(
    pose: Float[Tensor, "4 4"], camera: Camera, pivot_mm: Float[Tensor, "3"], towards_detector_mm: float
) -> Float[Tensor, "4 4"]:
    """The patient moved along the ray through the pivot, whose projection stays; the depth changes by so many mm."""
    pivot = in_camera(pose, pivot_mm)
    if float(pivot[2]) <= 0:
        return pose @ translation(-pose.new_tensor([0.0, 0.0, towards_detector_mm]))
    lowest, highest = (camera.source_to_detector_mm * fraction for fraction in (NEAREST, FARTHEST))
    change = min(max(float(pivot[2]) + towards_detector_mm, lowest), highest) - float(pivot[2])
    return pose @ translation(-change * pivot / pivot[2])


def point_under(
    pose: Float[Tensor, "4 4"], camera: Camera, pixel: tuple[float, float], depth_mm: float
) -> Float[Tensor, "3"]:
    """The point of the volume (mm) that is seen at a pixel `(column, row)`, at a depth from the source."""
    ray = torch.linalg.inv(camera.intrinsics_px) @ pose.new_tensor([*pixel, 1.0])
    return transform_points(pose, (depth_mm * ray)[None])[0]
