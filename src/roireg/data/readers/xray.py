"""Reads an X-ray from a DICOM file, or from a picture with a camera file."""

from pathlib import Path

from pydicom.misc import is_dicom

from roireg.data.preprocess import SIZE_PX
from roireg.data.readers.xray_dicom import read_dicom_xray
from roireg.data.readers.xray_picture import EXAMPLE, read_picture_xray
from roireg.data.xray import Xray
from roireg.errors import InputError


def read_xray(
    path: str | Path, camera: str | Path | None = None, frame: int = 0, crop_px: int = 0, size_px: int = SIZE_PX
) -> Xray:
    """Read an X-ray from a DICOM file, or from a picture and its camera file.

    Args:
        path: the X-ray.
        camera: a camera file (docs/own-data.md); for a DICOM file it replaces the tags.
        frame: number of the frame of a sequence, from 0.
        crop_px: pixels cropped from each side.
        size_px: longer side of the image that is registered.

    Raises:
        InputError: the file cannot be read or is not an X-ray, or the geometry of the exposure is not given.
    """
    if not Path(path).is_file():
        raise InputError(path, "there is no such file", "Check the path")
    if camera is not None:
        return read_picture_xray(path, camera, frame, crop_px, size_px)
    if is_dicom(path):
        return read_dicom_xray(path, frame, crop_px, size_px)
    remedy = f"Write a camera file and give it with --camera; it has lines such as\n{EXAMPLE}"
    raise InputError(path, "a picture does not contain the geometry of the exposure", remedy)
