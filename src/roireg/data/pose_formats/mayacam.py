"""MayaCam 2.0, as XMALab writes it and Autoscoper reads it: a camera of OpenCV as text.

`x_camera = rotation @ x_world + translation`, `depth * (column, row, 1) = K @ x_camera`, pixel centres at integers; the
world is the CT's frame (LPS, mm). The size of a pixel is not in it.
"""

from dataclasses import replace
from pathlib import Path

import torch

from roireg.data.pose_formats.fields import REMEDY, matrix_of, rigid, stored_pose
from roireg.data.readers.numbers import numbers_of
from roireg.data.readers.text import read_text
from roireg.data.writers.poses import SIDE_PX, StoredPose
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.geometry.camera import Camera
from roireg.geometry.se3 import invert

PARTS = ("image size", "camera matrix", "rotation", "translation")


def write_mayacam(path: str | Path, stored: StoredPose) -> None:
    """Write the camera and its pose."""
    camera_from_volume = invert(stored.pose)
    rows = {
        "image size": [[stored.camera.width, stored.camera.height]],
        "camera matrix": stored.camera.intrinsics_px.tolist(),
        "rotation": camera_from_volume[:3, :3].tolist(),
        "translation": camera_from_volume[:3, 3:].tolist(),
    }
    blocks = [f"{name}\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows[name]) for name in PARTS]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(blocks), encoding="utf-8")


def read_mayacam(path: str | Path, camera: Camera) -> StoredPose:
    """The camera and its pose.

    Args:
        path: the file.
        camera: one with the distance of the detector in mm, which the file does not say.

    Raises:
        InputError: a part is missing or damaged.
    """
    parts: dict[str, list[list[str]]] = {}
    name = ""
    for line in read_text(path).splitlines():
        if line.strip().lower() in PARTS:
            name = line.strip().lower()
        elif line.strip() and name:
            parts.setdefault(name, []).append([word.strip() for word in line.split(",")])
    for name in PARTS:
        if name not in parts:
            raise InputError(f"{path}: {name}", "it is missing", REMEDY)
    width, height = numbers_of(f"{path}: image size", parts["image size"][0], 2, SIDE_PX, "px", REMEDY)
    k = matrix_of(f"{path}: camera matrix", parts["camera matrix"][:3], 3, 3)
    camera_from_volume = torch.eye(4, dtype=torch.float64)
    camera_from_volume[:3, :3] = matrix_of(f"{path}: rotation", parts["rotation"][:3], 3, 3)
    camera_from_volume[:3, 3:] = matrix_of(f"{path}: translation", parts["translation"][:3], 3, 1)
    across, down = (max(abs(float(k[axis, axis])), 1e-12) for axis in (0, 1))
    sdd = camera.source_to_detector_mm
    own = replace(camera, intrinsics_px=k, height=int(height), width=int(width))
    own = replace(own, pixel_spacing_mm=(sdd / across, sdd / down))
    return stored_pose(path, invert(rigid(f"{path}: rotation", camera_from_volume)), own)
