"""Errors of a pose file against a file with the true pose (command `roireg evaluate`)."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.readers.text import read_json
from roireg.data.writers.poses import StoredPose, points_of, read_pose
from roireg.errors import InputError
from roireg.metrics.pose_errors import registration_errors

RAS_NAMES, LPS_NAMES = ("RAS", "0"), ("LPS", "1")
MM_OF_UNIT = {"mm": 1.0, "m": 1000.0, "cm": 10.0, "um": 0.001, "µm": 0.001}
PLACED = "defined"
FAR_MM = 1e5
REMEDY = "Save landmarks as .mrk.json in 3D Slicer"


def pose_errors(estimate: str | Path, truth: str | Path, landmarks: str | Path | None) -> tuple[dict[str, float], str]:
    """Errors of an estimated pose as `registration_errors` defines them, and a description of the points used.

    Args:
        estimate, truth: pose files of the same X-ray.
        landmarks: 3D Slicer markups, at whose points errors are measured. None: the points of bone in `estimate`, which
            `roireg register` writes.

    Raises:
        InputError: a file cannot be read, has no points, or the two poses have different detectors.
    """
    found, true = read_pose(estimate), read_pose(truth)
    if not _same_detector(found, true):
        remedy = "Give the true pose of the same X-ray, with the camera of the same crop"
        raise InputError(truth, f"its detector differs from that of {estimate}", remedy)
    if landmarks is not None:
        points, notes = read_markups(landmarks)
        source = ", ".join((f"landmarks of {Path(landmarks).name}", *notes))
    elif len(found.bone_points_mm):
        points = found.bone_points_mm
        source = "points of bone that the X-ray shows"
    else:
        raise InputError(estimate, "it has no `bone_points_mm`, at which to measure errors", "Give --landmarks")
    center_mm = points.mean(0) if found.center_mm is None else found.center_mm
    return registration_errors(found.pose, true.pose, true.camera, points, center_mm), f"{source} ({len(points)})"


def _same_detector(one: StoredPose, other: StoredPose) -> bool:
    """True if both cameras have the same rays to the detector's corners; the numbers of pixels may differ."""
    corners = []
    for camera in (one.camera, other.camera):
        ends = [[-0.5, -0.5, 1.0], [camera.width - 0.5, camera.height - 0.5, 1.0]]
        corners.append(torch.tensor(ends, dtype=torch.float64) @ camera.rays_mm().T)
    return bool((corners[0] - corners[1]).abs().max() < max(one.camera.pixel_spacing_mm))


def read_markups(path: str | Path) -> tuple[Float[Tensor, "N 3"], tuple[str, ...]]:
    """Control points of a 3D Slicer markups file, LPS, mm, and what was left out or converted.

    Points that are not placed are left out; the file holds some position of them, often 0, 0, 0.

    Raises:
        InputError: the file is no markups file, or has no points.
    """
    entries = read_json(path, REMEDY)
    lists = entries.get("markups") if isinstance(entries, dict) else None
    if not isinstance(lists, list) or not lists or not isinstance(lists[0], dict):
        raise InputError(path, "not a markups file (no list `markups`)", REMEDY)
    markup, notes = lists[0], []
    if len(lists) > 1:
        notes.append(f"the first of {len(lists)} lists")
    system, unit = (
        str(markup.get(key) or usual) for key, usual in (("coordinateSystem", "LPS"), ("coordinateUnits", "mm"))
    )
    if system not in (*RAS_NAMES, *LPS_NAMES):
        raise InputError(f"{path}: coordinateSystem", f"it is {system!r}", "Save landmarks in LPS or RAS")
    if unit not in MM_OF_UNIT:
        raise InputError(f"{path}: coordinateUnits", f"it is {unit!r}", f"Use one of {', '.join(MM_OF_UNIT)}")
    points = markup.get("controlPoints")
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise InputError(path, "not a markups file (no list `controlPoints`)", REMEDY)
    placed = [point for point in points if point.get("positionStatus", PLACED) == PLACED and point.get("position")]
    if len(placed) < len(points):
        notes.append(f"{len(points) - len(placed)} of {len(points)} are not placed and left out")
    if not placed:
        raise InputError(path, "it has no points", "Place landmarks in 3D Slicer")
    scale = MM_OF_UNIT[unit]
    if scale != 1:
        notes.append(f"converted from {unit} to mm")
    found = scale * points_of(f"{path}: position", [point["position"] for point in placed], REMEDY)
    if float(found.abs().max()) > FAR_MM:
        raise InputError(f"{path}: position", f"one is {float(found.abs().max()):g} mm away", REMEDY)
    if system in RAS_NAMES:
        found = found * found.new_tensor([-1.0, -1.0, 1.0])
    return found, tuple(notes)
