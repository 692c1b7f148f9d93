"""Writes poses as JSON, 4x4 text, ITK transform (also for 3D Slicer), Slicer landmarks; reads them from JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.readers.camera_file import check_rigid
from roireg.data.readers.numbers import numbers_of
from roireg.data.readers.text import read_json
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import to_diffdrr
from roireg.geometry.se3 import invert

FORMAT, VERSION = "roireg pose", 1
CONVENTION = (
    "volume_from_camera maps points of the camera to points of the CT. CT frame: LPS (x to the patient's left, y to "
    "the back, z to the head), mm. Camera frame: origin at the X-ray source, x along the image's rows if "
    "intrinsics_px[0][0] is positive and against them if it is negative (image seen from behind the detector), y down "
    "its columns, z from the source to the detector, mm. Pixel (column, row), centres at integers: "
    "depth * (column, row, 1) = intrinsics_px * camera point."
)
REMEDY = "Give a pose.json written by `roireg register`"
FAR_MM, PIXELS, SIDE_PX, PIXEL_MM, DISTANCE_MM = (-1e5, 1e5), (-1e7, 1e7), (1, 65535), (1e-4, 1e3), (10, 1e5)


@dataclass(frozen=True, eq=False)
class StoredPose:
    """What a pose file holds.

    Attributes:
        pose: `volume_from_camera`, mm.
        camera: of the registered image.
        bone_points_mm: points of bone that the X-ray shows, volume frame; none in files of other programs.
        center_mm: about which rotations are measured, volume frame; None where the file does not say.
        entries: all that the file holds, as it stands there.
    """

    pose: Float[Tensor, "4 4"]
    camera: Camera
    bone_points_mm: Float[Tensor, "N 3"]
    center_mm: Float[Tensor, "3"] | None = None
    entries: dict[str, Any] = field(default_factory=dict)

    def of_flipped_picture(self) -> "StoredPose":
        """The same pose with the camera of the picture flipped left to right."""
        return replace(self, camera=self.camera.mirrored())


def pose_entries(pose: Float[Tensor, "4 4"], camera: Camera) -> dict[str, Any]:
    """Entries of every pose file: the matrix, the camera of the image, and the conventions in words."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "convention": CONVENTION,
        "units": "mm",
        "volume_from_camera": pose.tolist(),
        "camera": camera_entries(camera),
    }


def camera_entries(camera: Camera) -> dict[str, Any]:
    """A camera as JSON entries."""
    return {
        "intrinsics_px": camera.intrinsics_px.tolist(),
        "height_px": camera.height,
        "width_px": camera.width,
        "pixel_spacing_mm": list(camera.pixel_spacing_mm),
        "source_to_detector_mm": camera.source_to_detector_mm,
    }


def write_json(path: str | Path, entries: Mapping[str, Any]) -> None:
    """Write entries as JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_pose(path: str | Path, pose: Float[Tensor, "4 4"], camera: Camera) -> None:
    """Write a pose, `volume_from_camera` in mm, as pose.json: `read_pose` and the commands of `roireg` read it."""
    write_json(path, pose_entries(pose, camera))


def read_pose(path: str | Path) -> StoredPose:
    """Read a pose file written by `roireg register`.

    Raises:
        InputError: the file does not exist or is not a pose file.
    """
    entries = read_json(path, REMEDY)
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise InputError(path, f'it is not a pose file (no "format": "{FORMAT}")', REMEDY)
    matrix = np.array(_rows(path, entries, "volume_from_camera", 4, 4))
    check_rigid(f"{path}: volume_from_camera", matrix)
    camera = camera_of_entries(f"{path}: camera", entries.get("camera"))
    points = points_of(f"{path}: bone_points_mm", entries.get("bone_points_mm") or [])
    center = None
    covariance = entries.get("covariance")
    if isinstance(covariance, dict) and covariance.get("center_mm") is not None:
        numbers = numbers_of(f"{path}: covariance.center_mm", covariance["center_mm"], 3, FAR_MM, "mm", REMEDY)
        center = torch.tensor(numbers, dtype=torch.float64)
    return StoredPose(torch.from_numpy(matrix), camera, points, center, entries)


def camera_of_entries(where: str, entries: Any) -> Camera:
    """The camera that `camera_entries` described.

    Raises:
        InputError: an entry is missing, or can be none of a camera.
    """
    if not isinstance(entries, dict):
        raise InputError(where, "an entry is missing: it describes no camera", REMEDY)
    spacing = _row(where, entries, "pixel_spacing_mm", 2, PIXEL_MM)
    k = np.array(_rows(where, entries, "intrinsics_px", 3, 3, PIXELS))
    keys = ("height_px", "width_px") if "height_px" in entries else ("height", "width")
    height, width = (_row(where, {key: [entries.get(key)]}, key, 1, SIDE_PX)[0] for key in keys)
    if height != int(height) or width != int(width):
        raise InputError(where, f"it has {height:g} x {width:g} pixels", REMEDY)
    if k[0, 0] == 0 or k[1, 1] <= 0 or np.abs(k[[1, 2, 2], [0, 0, 1]]).max() > 0 or k[2, 2] != 1:
        raise InputError(f"{where}.intrinsics_px", "it is no matrix of a camera", REMEDY)
    camera = Camera(torch.from_numpy(k), int(height), int(width), (spacing[0], spacing[1]))
    if not DISTANCE_MM[0] <= camera.source_to_detector_mm <= DISTANCE_MM[1]:
        what = f"its source is {camera.source_to_detector_mm:g} mm from the detector"
        raise InputError(f"{where}.intrinsics_px", what, REMEDY)
    return camera


def points_of(where: str, value: Any, remedy: str = REMEDY) -> Float[Tensor, "N 3"]:
    """A list of points in mm.

    Raises:
        InputError: it is none, or a number is not finite or far away.
    """
    if not isinstance(value, list):
        raise InputError(where, "it is no list of points", remedy)
    rows = [
        numbers_of(f"{where} {index + 1}", one if isinstance(one, list) else [one], 3, FAR_MM, "mm", remedy)
        for index, one in enumerate(value)
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)


def _row(
    where: str, entries: dict[str, Any], key: str, count: int, bounds: tuple[float, float] = FAR_MM
) -> tuple[float, ...]:
    value = entries.get(key)
    if not isinstance(value, list | tuple) or None in value:
        raise InputError(f"{where}: {key}", "an entry is missing or has a wrong shape", REMEDY)
    return numbers_of(f"{where}: {key}", value, count, bounds, "", REMEDY)


def _rows(
    where: str | Path,
    entries: dict[str, Any],
    key: str,
    rows: int,
    columns: int,
    bounds: tuple[float, float] = FAR_MM,
) -> list[tuple[float, ...]]:
    value = entries.get(key)
    if not isinstance(value, list) or len(value) != rows:
        raise InputError(f"{where}: {key}", "an entry is missing or has a wrong shape", REMEDY)
    return [_row(str(where), {key: row}, key, columns, bounds) for row in value]


def write_matrix(path: str | Path, stored: StoredPose) -> None:
    """Write `volume_from_camera` (LPS, mm) as four lines of four numbers, after a comment line."""
    with atomic_path(path) as temporary:
        np.savetxt(temporary, stored.pose.numpy(), fmt="%.17g", header="volume_from_camera, LPS, mm")


def write_itk(path: str | Path, stored: StoredPose) -> None:
    """Write an ITK transform file that maps points of the volume (LPS) to the camera.

    3D Slicer inverts such a file when it makes a transform node of it. So a model of the C-arm in camera coordinates
    that is placed under the node appears where the C-arm was.
    """
    camera_from_volume = invert(stored.pose)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(camera_from_volume[:3, :3].flatten().tolist())
    transform.SetTranslation(camera_from_volume[:3, 3].tolist())
    with atomic_path(path) as temporary:
        sitk.WriteTransform(transform, str(temporary))


def write_slicer_points(path: str | Path, stored: StoredPose) -> None:
    """Write 3D Slicer markups (LPS, mm): the source, corners and centre of the detector, and the points of bone."""
    camera = stored.camera
    right, down = camera.width - 0.5, camera.height - 0.5
    pixels = {
        "detector top left": (-0.5, -0.5),
        "detector top right": (right, -0.5),
        "detector bottom right": (right, down),
        "detector bottom left": (-0.5, down),
        "detector middle": ((camera.width - 1) / 2, (camera.height - 1) / 2),
    }
    points = {"X-ray source": stored.pose[:3, 3].tolist()}
    for name, (column, row) in pixels.items():
        at = camera.rays_mm() @ camera.intrinsics_px.new_tensor([column, row, 1.0])
        points[name] = (stored.pose[:3, :3] @ at + stored.pose[:3, 3]).tolist()
    for index, point in enumerate(stored.bone_points_mm.tolist()):
        points[f"reference {index + 1}"] = point
    markups = {
        "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
        "markups-schema-v1.0.3.json#",
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "controlPoints": [
                    {"id": str(number), "label": name, "position": position}
                    for number, (name, position) in enumerate(points.items(), start=1)
                ],
            }
        ],
    }
    write_json(path, markups)


def write_diffdrr(path: str | Path, stored: StoredPose) -> None:
    """Write arguments of DiffDRR 0.6.1 as JSON: of `DRR`, and of `RigidTransform` (RAS, orientation None)."""
    geometry = to_diffdrr(stored.camera, stored.pose[None])
    arguments = {key: value for key, value in vars(geometry).items() if key != "pose"}
    write_json(path, {"DRR": arguments, "RigidTransform": geometry.pose[0].tolist()})
