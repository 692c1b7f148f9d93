"""Reads an image with its geometry from NIfTI, NRRD, MHA or a DICOM series."""

import gzip
import io
import math
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from jaxtyping import Float

from roireg.errors import InputError

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
UNEVEN_FRACTION = 0.05


def read_image(path: str | Path) -> sitk.Image:
    """Read an image with its geometry from a file, or from a folder with a DICOM series.

    Raises:
        InputError: it does not exist, has an unknown format, is truncated, or is not three-dimensional.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(path, "there is no such file or folder", "Check the path")
    try:
        image = _read_series(path) if path.is_dir() else sitk.ReadImage(str(path))
    except RuntimeError as error:
        fault = str(error).strip().splitlines()[-1].removeprefix("sitk::ERROR: ")
        if "orthonormal" in str(error):
            raise InputError(path, "its axes are not at right angles", "Resample it to a rectangular grid") from None
        remedy = f"Give one of {', '.join(SUFFIXES)}, or a DICOM folder"
        raise InputError(path, f"it cannot be read ({fault})", remedy) from None
    if path.name.lower().endswith((".nii", ".nii.gz")):
        _check_length(path, image)
    if image.GetDimension() != 3 or min(image.GetSize()) < 2 or image.GetNumberOfComponentsPerPixel() != 1:
        size = " x ".join(map(str, image.GetSize()))
        raise InputError(path, f"it is not a volume ({size})", "Give a three-dimensional CT with one channel")
    return image


def _check_length(path: Path, image: sitk.Image) -> None:
    """Check that a NIfTI file contains all its voxels; ITK silently fills missing ones with zeros."""
    before = int(float(image.GetMetaData("vox_offset")))
    least = before + math.prod(image.GetSize()) * int(image.GetMetaData("bitpix")) // 8
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            whole = file.seek(0, io.SEEK_END) >= least
    except (EOFError, OSError, zlib.error):
        whole = False
    if not whole:
        raise InputError(path, "it is truncated: voxels are missing", "Copy or download it again")


def frame_of(image: sitk.Image) -> Float[np.ndarray, "4 4"]:
    """The matrix `volume_from_voxel`, which maps voxel indices `(x, y, z)` to mm (LPS, ITK's frame)."""
    frame = np.eye(4)
    frame[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    frame[:3, 3] = image.GetOrigin()
    return frame


def _read_series(folder: Path) -> sitk.Image:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise InputError(folder, "it contains no DICOM series", "Give the folder of the CT's slices, or a file")
    if len(series) > 1:
        raise InputError(folder, f"it contains {len(series)} DICOM series", "Put one series into a folder of its own")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    if len(files) > 1:
        _check_slices(folder, files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    return reader.Execute()


def _check_slices(folder: Path, files: Iterable[str]) -> None:
    """Check that no slice is missing and the gantry was not tilted; ITK reads such series with a wrong geometry."""
    headers = [pydicom.dcmread(name, stop_before_pixels=True) for name in files]
    if headers[0].get("Modality", "CT") != "CT":
        raise InputError(folder, f"its modality is {headers[0].Modality}", "Give a CT")
    positions = np.array([header.ImagePositionPatient for header in headers], dtype=float)
    row, column = np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    gaps = np.diff(positions @ normal)
    step = np.median(gaps)
    if np.abs(gaps - step).max() > UNEVEN_FRACTION * abs(step):
        worst = int(np.abs(gaps - step).argmax())
        fault = f"slices are {step:.3g} mm apart, but {gaps[worst]:.3g} mm after slice {worst + 1}"
        raise InputError(folder, fault, "Export the series again: slices are missing, or two series are mixed")
    sideways = np.abs(np.diff(positions, axis=0) - gaps[:, None] * normal).max()
    if sideways > UNEVEN_FRACTION * abs(step):
        raise InputError(folder, "the gantry was tilted", "Resample it to a rectangular grid (dcm2niix does)")
