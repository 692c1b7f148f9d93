"""What a file in the DeepFluoro layout holds, as it is stored (`roireg.data.deepfluoro` describes the layout)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from roireg.geometry.camera import Camera

PELVIS_POSE = "cam-to-pelvis-vol"
POSES = (PELVIS_POSE, "cam-to-left-femur-vol", "cam-to-right-femur-vol")
# Bones that moved relative to the pelvis since the CT: name of the label, in its normalised form, by key of the pose.
BONE_POSES = {"cam-to-left-femur-vol": "left femur", "cam-to-right-femur-vol": "right femur"}


@dataclass(frozen=True, eq=False)
class ProjectionParameters:
    """Parameters of the C-arm, common to all X-rays of a file.

    Attributes:
        extrinsic: `(4, 4)`, maps the world frame to the camera frame, mm.
        intrinsic: `(3, 3)`, px, with negative focal entries.
        rows, columns: size of the detector in px.
        row_spacing_mm, column_spacing_mm: distance between rows, and between columns.
    """

    extrinsic: np.ndarray
    intrinsic: np.ndarray
    rows: int
    columns: int
    row_spacing_mm: float
    column_spacing_mm: float

    def camera(self) -> "Camera":
        """The camera in this library's convention."""
        # Imported here because torch takes seconds, and the workflow also opens files just to list their specimens.
        import torch

        from roireg.geometry.conversions import camera_from_deepfluoro

        spacing = (self.column_spacing_mm, self.row_spacing_mm)
        return camera_from_deepfluoro(torch.from_numpy(self.intrinsic), self.rows, self.columns, spacing)


@dataclass(frozen=True, eq=False)
class Projection:
    """One X-ray as stored.

    Attributes:
        name: key of the projection, such as `000`.
        intensity: `(rows, columns)` raw detector values.
        segmentation: `(rows, columns)` label ids; None if the file has none.
        landmarks_px: `(column, row)` by landmark name; empty if the file has none.
        poses: stored 4x4 matrices by key of `POSES`; the pelvis's is always present.
        rotate_180_for_up: whether the stored image is upside down.
        good_fov: flag of the dataset's authors about the field of view; None if missing.
    """

    name: str
    intensity: np.ndarray
    segmentation: np.ndarray | None
    landmarks_px: dict[str, np.ndarray]
    poses: dict[str, np.ndarray]
    rotate_180_for_up: bool
    good_fov: bool | None = None


@dataclass(frozen=True, eq=False)
class Ct:
    """CT, labels and landmarks of a specimen as stored: HU and label ids as `(z, y, x)`, geometry in mm, LPS."""

    hu: np.ndarray
    labels: np.ndarray
    spacing_mm: np.ndarray
    origin_mm: np.ndarray
    direction: np.ndarray
    label_names: dict[int, str]
    landmarks_mm: dict[str, np.ndarray]

    def volume_from_voxel(self) -> np.ndarray:
        """Matrix `(4, 4)` that maps voxel indices `(x, y, z)` to mm."""
        return Grid(self.hu, self.spacing_mm, self.origin_mm, self.direction).volume_from_voxel()


@dataclass(frozen=True, eq=False)
class Grid:
    """Values as `(z, y, x)` with the geometry of their grid: mm, LPS."""

    pixels: np.ndarray
    spacing_mm: np.ndarray
    origin_mm: np.ndarray
    direction: np.ndarray

    def volume_from_voxel(self) -> np.ndarray:
        """Matrix `(4, 4)` that maps voxel indices `(x, y, z)` to mm."""
        out = np.eye(4)
        out[:3, :3] = self.direction * self.spacing_mm
        out[:3, 3] = self.origin_mm
        return out
