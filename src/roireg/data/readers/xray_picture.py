"""An X-ray from a PNG or TIFF, or from the pixels of a DICOM file, and the camera file that says how it was taken."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from roireg.data.preprocess import SIZE_PX, GreyScale
from roireg.data.readers.camera_file import read_camera_file
from roireg.data.readers.dicom_file import read_dicom
from roireg.data.readers.dicom_header import Header
from roireg.data.readers.gate import Content, content_of
from roireg.data.readers.picture import Picture
from roireg.data.readers.raster import read_raster
from roireg.data.readers.shutters import stated_invalid
from roireg.data.readers.xray_dicom import Tags, dicom_pixels
from roireg.data.xray import Fact, Xray
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose


def read_picture_xray(
    path: str | Path, camera: str | Path, frame: int = 0, crop_px: int = 0, size_px: int = SIZE_PX
) -> Xray:
    """An X-ray from a picture, or from a DICOM file whose tags do not say enough.

    Args:
        path: PNG or TIFF, of 8 or 16 bits, or of floats; or DICOM, of which pixels, padding and shutters are read.
        camera: the YAML file.
        frame: of a sequence, from 0.
        crop_px: taken off each side.
        size_px: longer side of the image that is registered.

    Raises:
        InputError: one of them cannot be used.
    """
    path, entries = Path(path), read_camera_file(camera)
    facts = [Fact(key.replace("_", " "), str(value), Path(camera).name) for key, value in entries.items()]
    if content_of(path) is Content.DICOM:
        header = Header(path, read_dicom(path), frame)
        tags = Tags(header, facts, [])
        stored = dicom_pixels(header)
        invalid, notes = stated_invalid(header, stored, tags), tags.warnings
    else:
        raster = read_raster(path, frame)
        stored, invalid, notes = raster.values, raster.invalid, list(raster.notes)
    rig_from_camera, warnings = _position(entries)
    picture = Picture(path, stored, _camera(entries, *stored.shape), invalid)
    grey_scale = GreyScale(entries["bone"] == "bright", entries["intensity"] == "linear")
    return picture.as_xray((grey_scale, None), rig_from_camera, crop_px, size_px, facts, [*notes, *warnings])


def _camera(entries: dict[str, Any], height: int, width: int) -> Camera:
    spacing = entries["pixel_spacing_mm"]
    along_row, along_column = spacing if isinstance(spacing, list) else (spacing, spacing)
    focal_mm = entries["source_to_detector_mm"]
    center = entries.get("principal_point_px", [(width - 1) / 2, (height - 1) / 2])
    sign = 1.0 if entries.get("seen_from") == "source" else -1.0
    k = [[sign * focal_mm / along_row, 0.0, center[0]], [0.0, focal_mm / along_column, center[1]], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, dtype=torch.float64), height, width, (along_row, along_column))


def _position(entries: dict[str, Any]) -> tuple[torch.Tensor, tuple[str, ...]]:
    if "rig_from_camera" in entries:
        return torch.tensor(entries["rig_from_camera"], dtype=torch.float64), ()
    warnings = []
    if "primary_deg" not in entries:
        warnings.append("the camera file gives no primary_deg: posterior-anterior is assumed")
    distance_mm = entries.get("source_to_isocenter_mm")
    if distance_mm is None:
        distance_mm = SOURCE_TO_ISOCENTER_FRACTION * entries["source_to_detector_mm"]
        warnings.append(f"no source_to_isocenter_mm: the patient is searched for {distance_mm:.0f} mm from the source")
    zero = torch.zeros(3, dtype=torch.float64)
    pose = carm_pose(zero, distance_mm, entries.get("primary_deg", 0.0), entries.get("secondary_deg", 0.0))
    roll = np.deg2rad(entries.get("roll_deg", 0.0))
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return pose @ turn, tuple(warnings)
