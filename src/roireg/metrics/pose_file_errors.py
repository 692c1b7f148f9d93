"""Errors of a pose file against a file with the true pose (command `roireg evaluate`)."""

import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.writers.poses import StoredPose, read_pose
from roireg.errors import InputError
from roireg.metrics.pose_errors import registration_errors

RAS_NAMES = ("RAS", "0")


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
        points, source = read_markups(landmarks), f"landmarks of {Path(landmarks).name}"
    elif found.entries.get("bone_points_mm"):
        points = torch.tensor(found.entries["bone_points_mm"], dtype=torch.float64)
        source = "points of bone that the X-ray shows"
    else:
        raise InputError(estimate, "it has no `bone_points_mm`, at which to measure errors", "Give --landmarks")
    center = found.entries.get("covariance", {}).get("center_mm", points.mean(0).tolist())
    center_mm = torch.tensor(center, dtype=torch.float64)
    return registration_errors(found.pose, true.pose, true.camera, points, center_mm), f"{source} ({len(points)})"


def _same_detector(one: StoredPose, other: StoredPose) -> bool:
    """True if both cameras have the same rays to the detector's corners; the numbers of pixels may differ."""
    corners = []
    for camera in (one.camera, other.camera):
        ends = [[-0.5, -0.5, 1.0], [camera.width - 0.5, camera.height - 0.5, 1.0]]
        corners.append(torch.tensor(ends, dtype=torch.float64) @ camera.rays_mm().T)
    return bool((corners[0] - corners[1]).abs().max() < max(one.camera.pixel_spacing_mm))


def read_markups(path: str | Path) -> Float[Tensor, "N 3"]:
    """Control points of a 3D Slicer markups file, LPS, mm.

    Raises:
        InputError: the file is no markups file, or has no points.
    """
    try:
        markup = json.loads(Path(path).read_text())["markups"][0]
        points = torch.tensor([point["position"] for point in markup["controlPoints"]], dtype=torch.float64)
        points = points.reshape(-1, 3)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(path, f"not a markups file ({error})", "Save landmarks as .mrk.json in 3D Slicer") from None
    if len(points) == 0:
        raise InputError(path, "it has no points", "Place landmarks in 3D Slicer")
    in_ras = markup.get("coordinateSystem", "LPS") in RAS_NAMES
    return points * points.new_tensor([-1.0, -1.0, 1.0]) if in_ras else points
