"""Writes poses as JSON, 4x4 text, ITK transform (also for 3D Slicer), Slicer landmarks; reads them from JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Float
from torch import Tensor

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
RIGID_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class StoredPose:
    """A pose (`volume_from_camera`, mm), its camera, and all entries of its file."""

    pose: Float[Tensor, "4 4"]
    camera: Camera
    entries: dict[str, Any]


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
        temporary.write_text(json.dumps(entries, indent=2, allow_nan=False) + "\n")


def read_pose(path: str | Path) -> StoredPose:
    """Read a pose file written by `roireg register`.

    Raises:
        InputError: the file does not exist or is not a pose file.
    """
    remedy = "Give a pose.json written by `roireg register`"
    try:
        entries = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(path, "there is no such file", remedy) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(path, f"it is not JSON ({error})", remedy) from None
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise InputError(path, f'it is not a pose file (no "format": "{FORMAT}")', remedy)
    try:
        camera = entries["camera"]
        spacing = tuple(float(x) for x in camera["pixel_spacing_mm"])
        k = torch.tensor(camera["intrinsics_px"], dtype=torch.float64).reshape(3, 3)
        pose = torch.tensor(entries["volume_from_camera"], dtype=torch.float64).reshape(4, 4)
        stored = StoredPose(pose, Camera(k, int(camera["height_px"]), int(camera["width_px"]), spacing), entries)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(path, f"an entry is missing or has a wrong shape ({error})", remedy) from None
    rotation = pose[:3, :3]
    if float((rotation.T @ rotation - torch.eye(3, dtype=torch.float64)).abs().max()) > RIGID_TOLERANCE:
        raise InputError(f"{path}: volume_from_camera", "it is not a rigid matrix", remedy)
    return stored


def write_matrix(path: str | Path, stored: StoredPose) -> None:
    """Write `volume_from_camera` (LPS, mm) as four lines of four numbers, after a comment line."""
    with atomic_path(path) as temporary:
        np.savetxt(temporary, stored.pose.numpy(), fmt="%.9f", header="volume_from_camera, LPS, mm")


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
    for index, point in enumerate(stored.entries.get("bone_points_mm", [])):
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


# Formats of `roireg export`: extension of the file, and the function that writes it.
EXPORTS: dict[str, tuple[str, Callable[[str | Path, StoredPose], None]]] = {
    "matrix": (".txt", write_matrix),
    "itk": (".tfm", write_itk),
    "slicer-points": (".mrk.json", write_slicer_points),
    "diffdrr": (".diffdrr.json", write_diffdrr),
}
