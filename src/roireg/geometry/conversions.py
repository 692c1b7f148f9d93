"""Converts cameras and poses from and to other programs' conventions, but RTK's, which `rtk` does."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.camera import Camera


def camera_from_deepfluoro(
    intrinsic: Float[Tensor, "3 3"], height: int, width: int, spacing_mm: tuple[float, float]
) -> Camera:
    """The camera of DeepFluoro's `intrinsic` matrix.

    DeepFluoro's camera looks along -z (z points from the detector to the source) and has negative focal entries. A
    rotation by 180 degrees about y, `diag(-1, 1, -1)`, makes it look along +z: it negates the first and third columns
    of `K`. `K` is defined up to scale and is normalised to `K[2, 2] = 1`.

    Raises:
        ValueError: the matrix is not upper triangular, or a focal entry is zero, infinite or of the wrong sign.
    """
    k = intrinsic.to(torch.float64) @ torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    k = k / k[2, 2]
    if not bool(torch.isfinite(k).all()) or min(abs(float(k[0, 0])), abs(float(k[1, 1]))) < 1e-6:
        raise ValueError("the focal entries must be finite and not zero")
    if bool((k[2, :2].abs() > 1e-9).any()) or abs(float(k[1, 0])) > 1e-9:
        raise ValueError("the matrix must be upper triangular")
    if float(k[1, 1]) <= 0:
        raise ValueError("the row focal entry must be negative, as DeepFluoro writes it")
    return Camera(k, height, width, spacing_mm)


def pose_from_deepfluoro(cam_to_volume: Float[Tensor, "4 4"], extrinsic: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """`volume_from_camera` from the stored `cam-to-pelvis-vol` and `extrinsic`.

    Args:
        cam_to_volume: maps the camera's WORLD frame to the volume, mm.
        extrinsic: maps the world frame to the camera frame, mm.
    """
    return cam_to_volume @ torch.linalg.inv(extrinsic) @ _deepfluoro_half_turn(cam_to_volume)


def pose_to_deepfluoro(
    volume_from_camera: Float[Tensor, "4 4"], extrinsic: Float[Tensor, "4 4"]
) -> Float[Tensor, "4 4"]:
    """Inverse of `pose_from_deepfluoro`: the matrix to store as `cam-to-*-vol`."""
    return volume_from_camera @ _deepfluoro_half_turn(volume_from_camera) @ extrinsic


def intrinsic_to_deepfluoro(camera: Camera) -> Float[Tensor, "3 3"]:
    """Inverse of `camera_from_deepfluoro`: the matrix to store as `intrinsic`."""
    return camera.intrinsics_px @ torch.diag(camera.intrinsics_px.new_tensor([1.0, -1.0, 1.0]))


def _deepfluoro_half_turn(like: Tensor) -> Float[Tensor, "4 4"]:
    return torch.diag(like.new_tensor([-1.0, 1.0, -1.0, 1.0]))


@dataclass(frozen=True)
class DiffDrrGeometry:
    """Arguments of `diffdrr.drr.DRR` (mm) and `diffdrr.pose.RigidTransform` (RAS, orientation None)."""

    sdd: float
    height: int
    width: int
    delx: float
    dely: float
    x0: float
    y0: float
    reverse_x_axis: bool
    pose: Float[Tensor, "B 4 4"]


RAS_FROM_LPS = (-1.0, -1.0, 1.0, 1.0)


def to_diffdrr(camera: Camera, pose: Float[Tensor, "B 4 4"]) -> DiffDrrGeometry:
    """Convert a camera and poses to DiffDRR 0.6.1.

    DiffDRR's world is RAS, its camera axes are rotated by 180 degrees about z, and offsets are from the image centre.
    Its detector has the pixel `(u, v)` at `(-+(u - (W-1)/2) delx + x0, -(v - (H-1)/2) dely + y0, sdd)`, where the first
    sign is negative for `reverse_x_axis=True`.
    """
    k = camera.intrinsics_px
    sdd = camera.source_to_detector_mm
    delx, dely = sdd / abs(float(k[0, 0])), sdd / abs(float(k[1, 1]))
    mirrored = float(k[0, 0]) < 0
    offset_x = delx * (float(k[0, 2]) - (camera.width - 1) / 2)
    offset_y = dely * (float(k[1, 2]) - (camera.height - 1) / 2)
    half_turn = torch.diag(pose.new_tensor([-1.0, -1.0, 1.0, 1.0]))
    return DiffDrrGeometry(
        sdd=sdd,
        height=camera.height,
        width=camera.width,
        delx=delx,
        dely=dely,
        x0=-offset_x if mirrored else offset_x,
        y0=offset_y,
        reverse_x_axis=not mirrored,
        pose=torch.diag(pose.new_tensor(RAS_FROM_LPS)) @ pose @ half_turn,
    )


def camera_from_diffdrr(geometry: DiffDrrGeometry) -> Camera:
    """Inverse of `to_diffdrr` for the camera."""
    mirrored = not geometry.reverse_x_axis
    sign = -1.0 if mirrored else 1.0
    column = (geometry.width - 1) / 2 + sign * geometry.x0 / geometry.delx
    row = (geometry.height - 1) / 2 + geometry.y0 / geometry.dely
    k = [[sign * geometry.sdd / geometry.delx, 0.0, column], [0.0, geometry.sdd / geometry.dely, row], [0.0, 0.0, 1.0]]
    matrix = torch.tensor(k, dtype=torch.float64)
    return Camera(matrix, geometry.height, geometry.width, (geometry.delx, geometry.dely))


def pose_from_diffdrr(rigid_transform: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """Inverse of `to_diffdrr` for the pose: `volume_from_camera` from DiffDRR's matrix (RAS, orientation None)."""
    half_turn = torch.diag(rigid_transform.new_tensor([-1.0, -1.0, 1.0, 1.0]))
    return turn_ras(rigid_transform) @ half_turn


def turn_ras(pose: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """A pose whose volume frame is turned from LPS to RAS, or back; the camera's axes stay as they are."""
    return torch.diag(pose.new_tensor(RAS_FROM_LPS)) @ pose


def in_ras(transform: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """A transform whose both frames are turned from LPS to RAS, or back, as 3D Slicer shows one."""
    turn = torch.diag(transform.new_tensor(RAS_FROM_LPS))
    return turn @ transform @ turn


def to_half_integers(intrinsics_px: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """An intrinsic matrix for pixel centres at half-integers, as nanodrr and DeepDRR have them."""
    return _shift(intrinsics_px, 0.5) @ intrinsics_px


def from_half_integers(intrinsics_px: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """Inverse of `to_half_integers`."""
    return _shift(intrinsics_px, -0.5) @ intrinsics_px


def _shift(like: Tensor, by: float) -> Float[Tensor, "3 3"]:
    shift = torch.eye(3, dtype=like.dtype, device=like.device)
    shift[:2, 2] = by
    return shift


def to_nanodrr_intrinsics(camera: Camera) -> Float[Tensor, "3 3"]:
    """nanodrr's argument `k_inv`, the inverse intrinsic matrix with pixel centres at half-integers."""
    return torch.linalg.inv(to_half_integers(camera.intrinsics_px))
