"""Cameras and poses as RTK's nine parameters of a projection, and back.

RTK's `ThreeDCircularProjectionGeometry` (RTK's documentation, "3D Circular Projection Geometry") places source and
detector in a frame that is turned from the fixed one, here that of the CT, by
`rotated_from_fixed = Rz(-in_plane) Rx(-out_of_plane) Ry(-gantry)`. There the detector's axes are x and y, and z points
from the detector to the source. Seen with our axes, z is reversed, and so is x where y is kept: the picture of RTK's
detector is one from behind it, with `K[0, 0] < 0`.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.camera import Camera

# Half a turn about y: from our camera's axes to RTK's rotated ones.
HALF_TURN = (-1.0, 1.0, -1.0)
GIMBAL = 1e-9


@dataclass(frozen=True)
class RtkProjection:
    """One projection of RTK's geometry; angles in degrees, the rest in mm."""

    source_to_isocenter: float
    source_to_detector: float
    gantry_deg: float
    out_of_plane_deg: float
    in_plane_deg: float
    source_offset_x: float
    source_offset_y: float
    projection_offset_x: float
    projection_offset_y: float

    def rotated_from_fixed(self) -> Float[Tensor, "3 3"]:
        """The rotation from the fixed frame's axes to those of the detector."""
        gantry, out, within = (math.radians(x) for x in (self.gantry_deg, self.out_of_plane_deg, self.in_plane_deg))
        return _about_z(-within) @ _about_x(-out) @ _about_y(-gantry)

    def matrix(self) -> Float[Tensor, "3 4"]:
        """RTK's projection matrix, from mm in the fixed frame to mm on the detector, as its file repeats it."""
        shift = _matrix(
            [
                [1, 0, self.source_offset_x - self.projection_offset_x],
                [0, 1, self.source_offset_y - self.projection_offset_y],
                [0, 0, 1],
            ]
        )
        distance = self.source_to_detector
        central = _matrix([[-distance, 0, 0, 0], [0, -distance, 0, 0], [0, 0, 1, -self.source_to_isocenter]])
        source = torch.eye(4, dtype=torch.float64)
        source[:2, 3] = -torch.tensor([self.source_offset_x, self.source_offset_y], dtype=torch.float64)
        turn = torch.eye(4, dtype=torch.float64)
        turn[:3, :3] = self.rotated_from_fixed()
        return shift @ central @ source @ turn


def rtk_pixel_mm(camera: Camera) -> tuple[float, float]:
    """Size of a pixel along a row and along a column at which the camera's focal lengths are its detector's distance.

    It is `pixel_spacing_mm` where that fits the intrinsic matrix, and RTK has one distance for both axes.
    """
    k, distance = camera.intrinsics_px, camera.source_to_detector_mm
    return distance / abs(float(k[0, 0])), distance / float(k[1, 1])


def rtk_origin_mm(camera: Camera) -> tuple[float, float]:
    """Where the first pixel is on RTK's detector: the middle of the picture is its (0, 0)."""
    (across, down), along = rtk_pixel_mm(camera), _along_rows(camera)
    return -along * across * (camera.width - 1) / 2, -down * (camera.height - 1) / 2


def to_rtk(camera: Camera, pose: Float[Tensor, "4 4"]) -> RtkProjection:
    """RTK's parameters of a camera without skew at a pose, `volume_from_camera` in mm.

    Raises:
        ValueError: the camera's axes are skewed, for which RTK has no parameter.
    """
    k = camera.intrinsics_px
    if abs(float(k[0, 1])) > 1e-9 * abs(float(k[0, 0])):
        raise ValueError("the camera's axes are skewed")
    rotated_from_fixed = torch.diag(pose.new_tensor(HALF_TURN)) @ pose[:3, :3].T
    source = (rotated_from_fixed @ pose[:3, 3]).tolist()
    across, down = rtk_pixel_mm(camera)
    origin_x, origin_y = rtk_origin_mm(camera)
    # Where the central ray meets the picture, from its first pixel.
    foot_x = origin_x + _along_rows(camera) * across * float(k[0, 2])
    foot_y = origin_y + down * float(k[1, 2])
    gantry, out, within = _angles(rotated_from_fixed)
    return RtkProjection(
        source_to_isocenter=source[2],
        source_to_detector=camera.source_to_detector_mm,
        gantry_deg=gantry,
        out_of_plane_deg=out,
        in_plane_deg=within,
        source_offset_x=source[0],
        source_offset_y=source[1],
        projection_offset_x=source[0] - foot_x,
        projection_offset_y=source[1] - foot_y,
    )


def from_rtk(projection: RtkProjection, picture: Camera) -> tuple[Camera, Float[Tensor, "4 4"]]:
    """Camera and pose (`volume_from_camera`, mm) of RTK's parameters.

    Args:
        projection: the parameters.
        picture: a camera with the size of the picture and of its pixels, seen from the same side; its origin is the
            one of `rtk_origin_mm`.
    """
    rotated_from_fixed = projection.rotated_from_fixed()
    across, down = rtk_pixel_mm(picture)
    origin_x, origin_y = rtk_origin_mm(picture)
    along, distance = _along_rows(picture), projection.source_to_detector
    foot_x = projection.source_offset_x - projection.projection_offset_x
    foot_y = projection.source_offset_y - projection.projection_offset_y
    k = _matrix(
        [
            [-along * distance / across, 0, along * (foot_x - origin_x) / across],
            [0, distance / down, (foot_y - origin_y) / down],
            [0, 0, 1],
        ]
    )
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotated_from_fixed.T @ torch.diag(torch.tensor(HALF_TURN, dtype=torch.float64))
    source = [projection.source_offset_x, projection.source_offset_y, projection.source_to_isocenter]
    pose[:3, 3] = rotated_from_fixed.T @ torch.tensor(source, dtype=torch.float64)
    return replace(picture, intrinsics_px=k, pixel_spacing_mm=(across, down)), pose


def _along_rows(camera: Camera) -> int:
    """1 if the columns of the picture are counted along RTK's x, -1 if against it."""
    return 1 if float(camera.intrinsics_px[0, 0]) < 0 else -1


def _angles(rotation: Float[Tensor, "3 3"]) -> tuple[float, float, float]:
    """Gantry, out-of-plane and in-plane angle (degrees) of `rotated_from_fixed`."""
    r = rotation.tolist()
    # With a, b, c the negated angles about z, x, y: r = Rz(a) Rx(b) Ry(c).
    b = math.atan2(r[2][1], math.hypot(r[0][1], r[1][1]))
    if math.hypot(r[0][1], r[1][1]) > GIMBAL:
        a, c = math.atan2(-r[0][1], r[1][1]), math.atan2(-r[2][0], r[2][2])
    else:
        a, c = 0.0, math.atan2(r[0][2], r[0][0])
    return -math.degrees(c), -math.degrees(b), -math.degrees(a)


def _about_x(angle: float) -> Float[Tensor, "3 3"]:
    c, s = math.cos(angle), math.sin(angle)
    return _matrix([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(angle: float) -> Float[Tensor, "3 3"]:
    c, s = math.cos(angle), math.sin(angle)
    return _matrix([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _about_z(angle: float) -> Float[Tensor, "3 3"]:
    c, s = math.cos(angle), math.sin(angle)
    return _matrix([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _matrix(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)
