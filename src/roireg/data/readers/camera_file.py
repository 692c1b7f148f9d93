"""The small YAML file that says how a picture was taken."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from roireg.data.readers.text import read_yaml
from roireg.errors import InputError

EXAMPLE = "'source_to_detector_mm: 1020', 'pixel_spacing_mm: 0.194', 'bone: dark' and 'intensity: linear'"
LINES = f"Write lines such as {EXAMPLE} (docs/own-data.md)"
DISTANCE = {"type": "number", "minimum": 100, "maximum": 5000}
PIXEL = {"type": "number", "minimum": 0.005, "maximum": 10}
COORDINATE = {"type": "number", "minimum": -1e5, "maximum": 1e5}
PAIR = {"type": "array", "minItems": 2, "maxItems": 2}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["source_to_detector_mm", "pixel_spacing_mm", "bone", "intensity"],
    "properties": {
        "source_to_detector_mm": DISTANCE,
        "pixel_spacing_mm": {"anyOf": [PIXEL, {**PAIR, "items": PIXEL}]},
        # Column and row of the pixel that the central ray meets, pixel centres at integers.
        "principal_point_px": {**PAIR, "items": COORDINATE},
        "bone": {"enum": ["dark", "bright"]},
        "intensity": {"enum": ["linear", "log"]},
        # Whether the picture is seen from behind the detector, as C-arms show it, or from the source.
        "seen_from": {"enum": ["detector", "source"]},
        "primary_deg": {"type": "number", "minimum": -180, "maximum": 180},
        "secondary_deg": {"type": "number", "minimum": -90, "maximum": 90},
        "roll_deg": {"type": "number", "minimum": -180, "maximum": 180},
        "source_to_isocenter_mm": {"type": "number", "minimum": 50, "maximum": 5000},
        # Instead of angles: where a calibrated camera is in a frame that all views share.
        "rig_from_camera": {
            "type": "array",
            "minItems": 4,
            "maxItems": 4,
            "items": {"type": "array", "items": COORDINATE, "minItems": 4, "maxItems": 4},
        },
    },
}
RIGID_TOLERANCE = 1e-3


def read_camera_file(path: str | Path) -> dict[str, Any]:
    """A camera file; numbers may have a decimal comma.

    Raises:
        InputError: it is not there, or a key is missing, unknown, or holds what cannot be meant.
    """
    # Another second of imports, which DICOM files need not wait for.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    entries = read_yaml(path, LINES)
    if not isinstance(entries, dict):
        raise InputError(path, "it has no keys and values", LINES)
    entries = {str(key): _with_points(value) for key, value in entries.items()}
    for key, value in entries.items():
        if not _finite(value):
            raise InputError(
                f"{path}: {key}", f"it holds a number that is not finite ({value})", "Give a finite number"
            )
    error = best_match(Draft202012Validator(SCHEMA).iter_errors(entries))
    if error is not None:
        where = ".".join(map(str, error.absolute_path))
        raise InputError(f"{path}{': ' if where else ''}{where}", error.message, "See docs/own-data.md, camera files")
    isocenter_mm, detector_mm = entries.get("source_to_isocenter_mm"), entries["source_to_detector_mm"]
    if isocenter_mm is not None and isocenter_mm >= detector_mm:
        what = f"it is {isocenter_mm:g}, and the detector is {detector_mm:g} mm from the source"
        raise InputError(f"{path}: source_to_isocenter_mm", what, "Give a distance that is less")
    if "rig_from_camera" in entries:
        check_rigid(f"{path}: rig_from_camera", np.array(entries["rig_from_camera"], dtype=float))
    return entries


def check_rigid(where: str, matrix: np.ndarray) -> None:
    """Refuse a `(4, 4)` matrix that is no rigid motion.

    Raises:
        InputError: its 3x3 part is not a rotation, or its last row is not 0, 0, 0, 1.
    """
    rotation = matrix[:3, :3]
    if not np.isfinite(matrix).all():
        raise InputError(where, "it holds a number that is not finite", "Give a rigid matrix in mm")
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > RIGID_TOLERANCE:
        raise InputError(where, "its 3x3 part is not a rotation", "Give a rigid matrix in mm")
    if np.linalg.det(rotation) < 0:
        raise InputError(where, "its 3x3 part is a reflection and no rotation", "Give a rigid matrix in mm")
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > RIGID_TOLERANCE:
        told = ", ".join(f"{x:g}" for x in matrix[3])
        raise InputError(where, f"its last row is {told}, not 0, 0, 0, 1", "Give a rigid matrix in mm")


def _with_points(value: Any) -> Any:
    """Text such as `0,194` as a number; anything else as it is."""
    if isinstance(value, list):
        return [_with_points(one) for one in value]
    if isinstance(value, str) and value.count(",") == 1:
        try:
            return float(value.replace(",", "."))
        except ValueError:
            return value
    return value


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(_finite(one) for one in value)
    return not isinstance(value, float) or math.isfinite(value)
