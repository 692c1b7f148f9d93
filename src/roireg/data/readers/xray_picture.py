"""Reads an X-ray from a PNG or TIFF picture and a camera file, a YAML file with the geometry of the exposure."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from PIL import Image, UnidentifiedImageError
from pydicom.misc import is_dicom

from roireg.data.preprocess import SIZE_PX, GreyScale, cut_out, preprocess, size_within
from roireg.data.readers.xray_dicom import dicom_pixels
from roireg.data.xray import Fact, Xray
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose

EXAMPLE = """\
source_to_detector_mm: 1020
pixel_spacing_mm: 0.194          # on the detector; [along a row, along a column] if they differ
bone: dark                       # or bright
intensity: linear                # or log, or for display
"""
POSITIVE = {"type": "number", "exclusiveMinimum": 0}
PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["source_to_detector_mm", "pixel_spacing_mm", "bone", "intensity"],
    "properties": {
        "source_to_detector_mm": POSITIVE,
        "pixel_spacing_mm": {"anyOf": [POSITIVE, {**PAIR, "items": POSITIVE}]},
        # Column and row where the central ray meets the detector, pixel centres at integers.
        "principal_point_px": PAIR,
        "bone": {"enum": ["dark", "bright"]},
        "intensity": {"enum": ["linear", "log"]},
        # Side from which the picture is seen: from behind the detector, as C-arms show it, or from the source.
        "seen_from": {"enum": ["detector", "source"]},
        "primary_deg": {"type": "number", "minimum": -180, "maximum": 180},
        "secondary_deg": {"type": "number", "minimum": -90, "maximum": 90},
        "roll_deg": {"type": "number", "minimum": -180, "maximum": 180},
        "source_to_isocenter_mm": POSITIVE,
        # Instead of angles: pose of a calibrated camera in a frame common to all views.
        "rig_from_camera": {
            "type": "array",
            "minItems": 4,
            "maxItems": 4,
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
        },
    },
}
COLOUR_MODES = ("RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
GREY_FRACTION = 0.02


def read_camera_file(path: str | Path) -> dict[str, Any]:
    """Read and check a camera file.

    Raises:
        InputError: the file does not exist, or a key is missing, unknown or out of range.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(path, "there is no such file", f"Write one:\n{EXAMPLE}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(path, f"it is not YAML ({error})", f"Write lines such as:\n{EXAMPLE}") from None
    error = best_match(Draft202012Validator(SCHEMA).iter_errors(entries))
    if error is not None:
        where = ".".join(map(str, error.absolute_path))
        raise InputError(f"{path}{': ' if where else ''}{where}", error.message, "See docs/own-data.md, camera files")
    if "rig_from_camera" in entries:
        rotation = np.array(entries["rig_from_camera"])[:3, :3]
        if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise InputError(f"{path}: rig_from_camera", "its 3x3 part is not a rotation", "Give a rigid matrix in mm")
    return entries


def read_picture_xray(
    path: str | Path, camera: str | Path, frame: int = 0, crop_px: int = 0, size_px: int = SIZE_PX
) -> Xray:
    """Read an X-ray from a picture, or from a DICOM file whose tags are not sufficient.

    Args:
        path: PNG or TIFF with 8 or 16 bits or floats; or DICOM, from which only the pixels are read.
        camera: the camera file.
        frame: number of the frame of a sequence, from 0.
        crop_px: pixels cropped from each side.
        size_px: longer side of the image that is registered.

    Raises:
        InputError: one of the files cannot be used.
    """
    entries = read_camera_file(camera)
    stored = dicom_pixels(path, pydicom.dcmread(path), frame) if is_dicom(path) else _pixels(path)
    spacing = entries["pixel_spacing_mm"]
    along_row, along_column = spacing if isinstance(spacing, list) else (spacing, spacing)
    height, width = stored.shape
    focal_mm = entries["source_to_detector_mm"]
    center = entries.get("principal_point_px", [(width - 1) / 2, (height - 1) / 2])
    sign = 1.0 if entries.get("seen_from") == "source" else -1.0
    k = [[sign * focal_mm / along_row, 0.0, center[0]], [0.0, focal_mm / along_column, center[1]], [0.0, 0.0, 1.0]]
    full = Camera(torch.tensor(k, dtype=torch.float64), height, width, (along_row, along_column))
    if 2 * crop_px >= min(stored.shape) - 1:
        raise InputError(path, "the crop leaves nothing of the image", "Crop less")
    rows, columns = slice(crop_px, height - crop_px), slice(crop_px, width - crop_px)
    grey_scale = GreyScale(entries["bone"] == "bright", entries["intensity"] == "linear")
    part, window = cut_out(stored, rows, columns, full)
    image, small = preprocess(path, part, window, grey_scale, size_within(part.shape, size_px))
    rig_from_camera, warnings = _position(entries)
    facts = tuple(Fact(key.replace("_", " "), str(value), Path(camera).name) for key, value in entries.items())
    return Xray(Path(path).name, image, small, rig_from_camera, full, facts=facts, warnings=warnings)


def _position(entries: dict[str, Any]) -> tuple[torch.Tensor, tuple[str, ...]]:
    if "rig_from_camera" in entries:
        return torch.tensor(entries["rig_from_camera"], dtype=torch.float64), ()
    warnings = []
    if "primary_deg" not in entries:
        warnings.append("the camera file gives no primary_deg: posterior-anterior is assumed")
    distance_mm = entries.get("source_to_isocenter_mm")
    if distance_mm is None:
        distance_mm = SOURCE_TO_ISOCENTER_FRACTION * entries["source_to_detector_mm"]
        warnings.append(f"no source_to_isocenter_mm: the patient is assumed {distance_mm:.0f} mm from the source")
    zero = torch.zeros(3, dtype=torch.float64)
    pose = carm_pose(zero, distance_mm, entries.get("primary_deg", 0.0), entries.get("secondary_deg", 0.0))
    roll = np.deg2rad(entries.get("roll_deg", 0.0))
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return pose @ turn, tuple(warnings)


def _pixels(path: str | Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            picture.load()
            values = np.asarray(picture)
            colour = picture.mode in COLOUR_MODES
    except FileNotFoundError:
        raise InputError(path, "there is no such file", "Check the path") from None
    except (UnidentifiedImageError, OSError):
        raise InputError(path, "it is neither DICOM, PNG nor TIFF", "Export the X-ray as one of them") from None
    if colour:
        channels = values[..., :3].astype(float)
        if np.ptp(channels, axis=-1).mean() > GREY_FRACTION * 255:
            fault = "it is a colour picture, perhaps a photo or a screenshot"
            raise InputError(path, fault, "Export the X-ray itself as 16-bit PNG, TIFF or DICOM")
        return channels[..., 0]
    if values.ndim != 2:
        raise InputError(path, f"it has the shape {values.shape}", "Give a single grey image")
    return values
