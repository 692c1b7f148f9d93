"""An X-ray from whatever file it is in."""

from pathlib import Path

from roireg.data.preprocess import SIZE_PX
from roireg.data.readers.camera_file import EXAMPLE
from roireg.data.readers.gate import Content, content_of
from roireg.data.readers.xray_dicom import read_dicom_xray
from roireg.data.readers.xray_picture import read_picture_xray
from roireg.data.xray import Xray
from roireg.errors import InputError


def read_xray(
    path: str | Path, camera: str | Path | None = None, frame: int = 0, crop_px: int = 0, size_px: int = SIZE_PX
) -> Xray:
    """An X-ray from DICOM, or from a picture and its camera file.

    Args:
        path: the X-ray.
        camera: a camera file (docs/own-data.md); with a DICOM file it stands in place of the tags.
        frame: of a sequence, from 0.
        crop_px: taken off each side.
        size_px: longer side of the image that is registered.

    Raises:
        InputError: it cannot be read, is no X-ray, or nothing says how it was taken.
    """
    if camera is not None:
        return read_picture_xray(path, camera, frame, crop_px, size_px)
    if content_of(path) is Content.DICOM:
        return read_dicom_xray(path, frame, crop_px, size_px)
    remedy = f"Write a camera file with lines such as {EXAMPLE}, and give it with --camera"
    raise InputError(path, "a picture does not say how it was taken", remedy)
