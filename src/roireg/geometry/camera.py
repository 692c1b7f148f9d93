"""The pinhole camera, and the frames and conventions of the whole library.

Frames (all right-handed, millimetres):

- `volume`: the CT's own patient frame, LPS (x to the patient's left, y posterior, z superior).
- `camera`: Hartley-Zisserman pinhole, origin at the X-ray source, z from the source to the detector.
- pixels: `(column, row)`, pixel centres at integers; `depth * (column, row, 1) = intrinsics @ x_camera`.

A pose is the 4x4 matrix `volume_from_camera`. The sign of `fx` in `intrinsics_px` tells from which side the image is
seen: `fx < 0` from behind the detector, looking towards the source, as C-arms show it; `fx > 0` from the source.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.se3 import invert, transform_points
from roireg.placement import is_on


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera and its detector.

    Attributes:
        intrinsics_px: `K`, 3x3; `K[0, 0]` may be negative (image seen from behind the detector), `K[1, 1]` is positive.
        height, width: detector size in pixels.
        pixel_spacing_mm: size of a pixel on the detector, along a row and along a column.
    """

    intrinsics_px: Float[Tensor, "3 3"]
    height: int
    width: int
    pixel_spacing_mm: tuple[float, float]

    @cached_property
    def derived(self) -> dict[str, Any]:
        """What others have made of the camera, such as its copies on devices, so that they make it once."""
        return {}

    @cached_property
    def source_to_detector_mm(self) -> float:
        """Focal length in mm: the mean of its values along rows and along columns."""
        fx = abs(float(self.intrinsics_px[0, 0])) * self.pixel_spacing_mm[0]
        fy = abs(float(self.intrinsics_px[1, 1])) * self.pixel_spacing_mm[1]
        return (fx + fy) / 2

    def rays_mm(self) -> Float[Tensor, "3 3"]:
        """Matrix `Q` such that `Q @ (column, row, 1)` is the pixel's point on the detector; camera frame, mm."""
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
        """Distance from the source to every pixel centre, mm."""
        return self.detector_points_mm.norm(dim=-1)

    def window(self, rows: slice, columns: slice) -> "Camera":
        """The camera of a rectangular part of the image."""
        k = self.intrinsics_px.clone()
        k[:2, 2] -= k.new_tensor([columns.start, rows.start])
        return replace(self, intrinsics_px=k, height=rows.stop - rows.start, width=columns.stop - columns.start)

    def cropped(self, margin_px: int) -> "Camera":
        """The camera of the image without `margin_px` pixels on each side."""
        return self.window(slice(margin_px, self.height - margin_px), slice(margin_px, self.width - margin_px))

    def mirrored(self) -> "Camera":
        """The camera of the image flipped left to right, that is seen from the other side of the detector."""
        k = self.intrinsics_px.clone()
        k[0, 0], k[0, 2] = -k[0, 0], self.width - 1 - k[0, 2]
        return replace(self, intrinsics_px=k)

    def resized(self, height: int, width: int) -> "Camera":
        """The camera of the image resampled to `height x width`; the outer edges of the image stay in place."""
        sx, sy = width / self.width, height / self.height
        scale = self.intrinsics_px.new_tensor([[sx, 0.0, sx / 2 - 0.5], [0.0, sy, sy / 2 - 0.5], [0.0, 0.0, 1.0]])
        spacing = (self.pixel_spacing_mm[0] / sx, self.pixel_spacing_mm[1] / sy)
        return Camera(scale @ self.intrinsics_px, height, width, spacing)

    def to(self, device: torch.device | str) -> "Camera":
        """The same camera with its matrix on `device`, made once; this one if it is there already."""
        if is_on(self.intrinsics_px, device):
            return self
        key = f"on {device}"
        if key not in self.derived:
            moved = replace(self, intrinsics_px=self.intrinsics_px.to(device))
            # Read from the matrix here, not on the device.
            moved.__dict__["source_to_detector_mm"] = self.source_to_detector_mm
            self.derived[key] = moved
        return self.derived[key]


def project(points_mm: Float[Tensor, "N 3"], camera: Camera, pose: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B N 2"]:
    """Pixel positions `(column, row)` of points of the volume under `pose` (`volume_from_camera`)."""
    in_camera = transform_points(invert(pose), points_mm.expand(*pose.shape[:-2], *points_mm.shape))
    homogeneous = in_camera @ camera.intrinsics_px.to(in_camera).T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def rotate_image_180(camera: Camera, pose: Float[Tensor, "4 4"]) -> tuple[Camera, Float[Tensor, "4 4"]]:
    """Camera and pose of the image rotated by 180 degrees; the function is its own inverse."""
    k = camera.intrinsics_px.clone()
    k[0, 2] = camera.width - 1 - k[0, 2]
    k[1, 2] = camera.height - 1 - k[1, 2]
    half_turn = torch.diag(pose.new_tensor([-1.0, -1.0, 1.0, 1.0]))
    return replace(camera, intrinsics_px=k), pose @ half_turn
