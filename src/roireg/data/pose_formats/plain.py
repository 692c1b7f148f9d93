"""Poses without a camera: a 4x4 matrix as text, 3D Slicer's matrix, ITK's transform."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.pose_formats.fields import REMEDY, matrix_of, rigid, stored_pose
from roireg.data.readers.gate import brief, check_regular
from roireg.data.readers.text import read_text
from roireg.data.writers.poses import StoredPose
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import in_ras
from roireg.geometry.se3 import invert


def read_matrix(path: str | Path, camera: Camera) -> StoredPose:
    """Four lines of four numbers, `volume_from_camera` (LPS, mm); lines that begin with # are skipped."""
    return stored_pose(path, _matrix_in(path), camera)


def read_slicer(path: str | Path, camera: Camera) -> StoredPose:
    """The matrix that 3D Slicer shows of a camera's transform "to parent": in RAS, mm."""
    return stored_pose(path, in_ras(_matrix_in(path)), camera)


def write_slicer(path: str | Path, stored: StoredPose) -> None:
    """Write the matrix that 3D Slicer shows for `pose.tfm`, its transform "to parent": in RAS, mm."""
    with atomic_path(path) as temporary:
        np.savetxt(temporary, in_ras(stored.pose).numpy(), fmt="%.17g", header="camera to parent, RAS, mm (3D Slicer)")


def _matrix_in(path: str | Path) -> Float[Tensor, "4 4"]:
    lines = [line.split("#")[0].strip() for line in read_text(path).splitlines()]
    rows: list[list[str]] = [line.replace(",", " ").split() for line in lines if line]
    return rigid(str(path), matrix_of(str(path), rows, 4, 4))


def read_itk(path: str | Path, camera: Camera) -> StoredPose:
    """A linear transform of ITK that maps points of the volume (LPS, mm) to the camera.

    Raises:
        InputError: it is none.
    """
    try:
        transform = sitk.ReadTransform(str(check_regular(path)))
    except RuntimeError as error:
        raise InputError(path, f"ITK cannot read it ({brief(error)})", "Give a transform file of ITK") from None
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise InputError(path, "it is no linear transform of points in space", REMEDY)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    camera_from_volume = torch.eye(4, dtype=torch.float64)
    for axis, unit in enumerate(np.eye(3).tolist()):
        camera_from_volume[:3, axis] = torch.from_numpy(np.array(transform.TransformPoint(unit)) - origin)
    camera_from_volume[:3, 3] = torch.from_numpy(origin)
    return stored_pose(path, invert(rigid(str(path), camera_from_volume)), camera)
