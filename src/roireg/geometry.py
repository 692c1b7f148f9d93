"""The pinhole camera and its pose; the only place where conventions of other systems are converted.

Frames (all right-handed, millimetres):

- `volume`: the CT's own patient frame, LPS (x to the patient's left, y posterior, z superior).
- `camera`: Hartley-Zisserman pinhole, origin at the X-ray source, z from the source to the detector.
- pixels: `(column, row)`, pixel centres at integers; `depth * (column, row, 1) = intrinsics @ x_camera`.

A pose is the 4x4 matrix `volume_from_camera`. The focal entries of `intrinsics_px` carry a sign: `fx < 0` says that the
stored image is seen from behind the detector, looking at the source, as C-arms show it.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.se3 import invert, se3_exp, transform_points, translation


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


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera and its detector.

    Attributes:
        intrinsics_px: `K`, 3x3; `K[0, 0]` may be negative (image seen from behind the detector), `K[1, 1]` is positive.
        height, width: detector size in pixels.
        pixel_spacing_mm: size of a pixel along a row and along a column.
    """

    intrinsics_px: Float[Tensor, "3 3"]
    height: int
    width: int
    pixel_spacing_mm: tuple[float, float]

    @property
    def source_to_detector_mm(self) -> float:
        """Focal length in mm, the mean of both directions."""
        fx = abs(float(self.intrinsics_px[0, 0])) * self.pixel_spacing_mm[0]
        fy = abs(float(self.intrinsics_px[1, 1])) * self.pixel_spacing_mm[1]
        return (fx + fy) / 2

    def rays_mm(self) -> Float[Tensor, "3 3"]:
        """`Q` with `Q @ (column, row, 1)` the point of the pixel on the detector, camera frame, mm."""
        return self.source_to_detector_mm * torch.linalg.inv(self.intrinsics_px)

    @cached_property
    def detector_points_mm(self) -> Float[Tensor, "H W 3"]:
        """Pixel centres on the detector, camera frame, mm."""
        k = self.intrinsics_px
        rows, columns = torch.meshgrid(
            torch.arange(self.height, dtype=k.dtype, device=k.device),
            torch.arange(self.width, dtype=k.dtype, device=k.device),
            indexing="ij",
        )
        return torch.stack([columns, rows, torch.ones_like(rows)], dim=-1) @ self.rays_mm().T

    @cached_property
    def ray_lengths_mm(self) -> Float[Tensor, "H W"]:
        """Distance from the source to every pixel centre."""
        return self.detector_points_mm.norm(dim=-1)

    def window(self, rows: slice, columns: slice) -> "Camera":
        """The camera of a part of the image."""
        k = self.intrinsics_px.clone()
        k[:2, 2] -= k.new_tensor([columns.start, rows.start])
        return replace(self, intrinsics_px=k, height=rows.stop - rows.start, width=columns.stop - columns.start)

    def cropped(self, margin_px: int) -> "Camera":
        """The camera of the image without `margin_px` pixels on each side."""
        return self.window(slice(margin_px, self.height - margin_px), slice(margin_px, self.width - margin_px))

    def mirrored(self) -> "Camera":
        """The camera of the image flipped left to right: it is seen from the other side of the detector."""
        k = self.intrinsics_px.clone()
        k[0, 0], k[0, 2] = -k[0, 0], self.width - 1 - k[0, 2]
        return replace(self, intrinsics_px=k)

    def resized(self, height: int, width: int) -> "Camera":
        """The camera of the image resampled to `height x width`, the outer pixel edges staying where they are."""
        sx, sy = width / self.width, height / self.height
        scale = self.intrinsics_px.new_tensor([[sx, 0.0, sx / 2 - 0.5], [0.0, sy, sy / 2 - 0.5], [0.0, 0.0, 1.0]])
        spacing = (self.pixel_spacing_mm[0] / sx, self.pixel_spacing_mm[1] / sy)
        return Camera(scale @ self.intrinsics_px, height, width, spacing)

    def to(self, device: torch.device | str) -> "Camera":
        """The same camera with its matrix on `device`."""
        return replace(self, intrinsics_px=self.intrinsics_px.to(device))


def project(points_mm: Float[Tensor, "N 3"], camera: Camera, pose: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B N 2"]:
    """Pixel positions `(column, row)` of points of the volume under `pose` (`volume_from_camera`)."""
    in_camera = transform_points(invert(pose), points_mm.expand(*pose.shape[:-2], *points_mm.shape))
    homogeneous = in_camera @ camera.intrinsics_px.to(in_camera).T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def rotate_image_180(camera: Camera, pose: Float[Tensor, "4 4"]) -> tuple[Camera, Float[Tensor, "4 4"]]:
    """Camera and pose of the image turned by 180 degrees; turning it twice gives the first ones back."""
    k = camera.intrinsics_px.clone()
    k[0, 2] = camera.width - 1 - k[0, 2]
    k[1, 2] = camera.height - 1 - k[1, 2]
    half_turn = torch.diag(pose.new_tensor([-1.0, -1.0, 1.0, 1.0]))
    return replace(camera, intrinsics_px=k), pose @ half_turn


def camera_from_deepfluoro(
    intrinsic: Float[Tensor, "3 3"], height: int, width: int, spacing_mm: tuple[float, float]
) -> Camera:
    """Our camera for DeepFluoro's `intrinsic`.

    DeepFluoro's camera looks along -z (z from the detector to the source) with negative focal entries; a half turn
    about y, `diag(-1, 1, -1)`, makes it look along +z. It negates the first and third columns of `K`, and as `K` is
    defined up to scale, the result is written with `K[2, 2] = 1`.

    Raises:
        ValueError: the matrix is not an upper triangular one with a non-zero focal length.
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
    """`volume_from_camera` for `cam-to-pelvis-vol` (camera WORLD to volume) and `extrinsic` (world to camera)."""
    return cam_to_volume @ torch.linalg.inv(extrinsic) @ _deepfluoro_half_turn(cam_to_volume)


def pose_to_deepfluoro(
    volume_from_camera: Float[Tensor, "4 4"], extrinsic: Float[Tensor, "4 4"]
) -> Float[Tensor, "4 4"]:
    """Inverse of `pose_from_deepfluoro`: the matrix to store as `cam-to-*-vol`."""
    return volume_from_camera @ _deepfluoro_half_turn(volume_from_camera) @ extrinsic


def _deepfluoro_half_turn(like: Tensor) -> Float[Tensor, "4 4"]:
    return torch.diag(like.new_tensor([-1.0, 1.0, -1.0, 1.0]))


@dataclass(frozen=True)
class DiffDrrGeometry:
    """Arguments of `diffdrr.drr.DRR` (mm) and `diffdrr.pose.RigidTransform` (RAS, orientation None) for one view."""

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
    """The same view for DiffDRR 0.6.1: world RAS, camera turned by 180 degrees about z, offsets from the image centre.

    DiffDRR's detector puts the pixel `(u, v)` at `(-+(u - (W-1)/2) delx + x0, -(v - (H-1)/2) dely + y0, sdd)`, the
    first sign negative with `reverse_x_axis=True`.
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


def to_nanodrr_intrinsics(camera: Camera) -> Float[Tensor, "3 3"]:
    """nanodrr's `k_inv`: its pixel centres lie at half-integers."""
    shift = torch.eye(3, dtype=camera.intrinsics_px.dtype, device=camera.intrinsics_px.device)
    shift[:2, 2] = 0.5
    return torch.linalg.inv(shift @ camera.intrinsics_px)
