"""The geometry of an X-ray as the entries of a camera file, whatever said it before: tags, or such a file."""

from typing import Any

import numpy as np

from roireg.data.readers.camera_file import read_camera_file
from roireg.data.xray import Fact, Xray
from roireg.view.pose_numbers import angles_deg, oriented
from roireg.view.sources import XraySource

# Largest difference between a matrix and the C-arm's angles that stand for it.
ANGLE_TOLERANCE = 1e-9
POSITION = ("primary_deg", "secondary_deg", "roll_deg", "source_to_isocenter_mm", "rig_from_camera")


def camera_entries(source: XraySource, xray: Xray) -> dict[str, Any]:
    """The entries with which `read_xray` reads the same X-ray again.

    Args:
        source: its files.
        xray: what was read from them, at any size.
    """
    if source.entries is not None:
        return dict(source.entries)
    camera = xray.camera if xray.stored_camera is None else xray.stored_camera
    k = camera.intrinsics_px
    entries: dict[str, Any] = {
        "source_to_detector_mm": camera.source_to_detector_mm,
        "pixel_spacing_mm": list(camera.pixel_spacing_mm),
        "principal_point_px": [float(k[0, 2]), float(k[1, 2])],
        "seen_from": "detector" if float(k[0, 0]) < 0 else "source",
    }
    return {**entries, **_grey_scale(source, xray.facts), **_position(xray)}


def at_position_of(entries: dict[str, Any], xray: Xray) -> dict[str, Any]:
    """The entries with the position of an X-ray that was turned since."""
    kept = {key: value for key, value in entries.items() if key not in POSITION}
    return {**kept, **_position(xray)}


def _grey_scale(source: XraySource, facts: tuple[Fact, ...]) -> dict[str, str]:
    if source.camera is not None:
        file = read_camera_file(source.camera)
        return {key: file[key] for key in ("bone", "intensity")}
    stated = {fact.name: fact.value for fact in facts}
    return {
        "bone": "bright" if stated.get("bone has") == "large values" else "dark",
        "intensity": "linear" if stated.get("values are") == "intensities" else "log",
    }


def _position(xray: Xray) -> dict[str, Any]:
    """A C-arm's angles and distance where they say all, otherwise the matrix."""
    pose = xray.rig_from_camera
    primary, secondary, roll = angles_deg(pose)
    distance_mm = float(pose[:3, 3].norm())
    rebuilt = oriented(primary, secondary, roll)
    rebuilt[:3, 3] = -distance_mm * rebuilt[:3, 2]
    close = float((rebuilt - pose).abs().max()) < ANGLE_TOLERANCE * max(distance_mm, 1.0)
    if close and 0 < distance_mm < xray.camera.source_to_detector_mm:
        angles = {"primary_deg": primary, "secondary_deg": secondary, "roll_deg": roll}
        return {**{name: _tidy(angle) for name, angle in angles.items()}, "source_to_isocenter_mm": _tidy(distance_mm)}
    return {"rig_from_camera": pose.tolist()}


def _tidy(value: float) -> float:
    """Without the last digits, which rounding left there."""
    return float(np.round(value, 9)) + 0.0
