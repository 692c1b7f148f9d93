"""xReg's file of a camera model (HDF5): its `extrinsic` is from the CT's frame (LPS, mm) to its camera's."""

from pathlib import Path

import numpy as np
import torch

from roireg.data.pose_formats.fields import REMEDY, rigid, stored_pose
from roireg.data.readers.hdf5_file import array_at, item_at, open_dataset, positive_at, reading
from roireg.data.writers.poses import StoredPose
from roireg.errors import InputError
from roireg.files import atomic_hdf5
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import (
    camera_from_deepfluoro,
    intrinsic_to_deepfluoro,
    pose_from_deepfluoro,
    pose_to_deepfluoro,
)
from roireg.geometry.se3 import invert

FRAME, TOWARDS, AWAY = "cam-coord-frame-type", "origin-at-focal-pt-det-pos-z", "origin-at-focal-pt-det-neg-z"


def write_xreg(path: str | Path, stored: StoredPose) -> None:
    """Write a camera model whose z axis points from the detector to the source, as DeepFluoro's does."""
    camera = stored.camera
    eye = torch.eye(4, dtype=torch.float64)
    with atomic_hdf5(path) as file:
        file.attrs["xreg-type"] = "cam-model"
        file["num-rows"], file["num-cols"] = np.uint64(camera.height), np.uint64(camera.width)
        file["row-spacing"], file["col-spacing"] = camera.pixel_spacing_mm[1], camera.pixel_spacing_mm[0]
        file[FRAME] = AWAY
        file["intrinsic"] = intrinsic_to_deepfluoro(camera).numpy()
        file["extrinsic"] = invert(pose_to_deepfluoro(stored.pose, eye)).numpy()


def read_xreg(path: str | Path) -> StoredPose:
    """A camera model of xReg.

    Raises:
        InputError: it is none, or its origin is on the detector.
    """
    with open_dataset(path) as file:
        with reading(file, FRAME):
            frame = item_at(file, FRAME)[()]
        k = torch.from_numpy(array_at(file, "intrinsic", (3, 3)))
        extrinsic = rigid(f"{path}: extrinsic", torch.from_numpy(array_at(file, "extrinsic", (4, 4))))
        height, width = (int(positive_at(file, key, ())) for key in ("num-rows", "num-cols"))
        spacing = (float(positive_at(file, "col-spacing", ())), float(positive_at(file, "row-spacing", ())))
    kind = frame.decode("utf-8", "replace") if isinstance(frame, bytes) else str(frame)
    if kind == TOWARDS:
        return stored_pose(path, invert(extrinsic), Camera(k, height, width, spacing))
    if kind != AWAY:
        raise InputError(f"{path}: {FRAME}", f"it is {kind}", f"Give a file with {TOWARDS} or {AWAY}")
    try:
        camera = camera_from_deepfluoro(k, height, width, spacing)
    except ValueError as error:
        raise InputError(f"{path}: intrinsic", str(error), REMEDY) from None
    return stored_pose(path, pose_from_deepfluoro(torch.eye(4, dtype=torch.float64), extrinsic), camera)
