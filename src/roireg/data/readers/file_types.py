"""Determines the type of a file (CT, X-ray, HDF5) from its extension and its first bytes."""

from enum import StrEnum
from pathlib import Path

import pydicom
from pydicom.misc import is_dicom

from roireg.data.readers.image import SUFFIXES
from roireg.errors import InputError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
PICTURES = (".png", ".tif", ".tiff")


class FileType(StrEnum):
    """Types of files that `roireg inspect` distinguishes."""

    CT = "CT"
    XRAY = "X-ray"
    HDF5 = "HDF5"


def file_type(path: str | Path) -> FileType:
    """The type of a file or folder.

    Raises:
        InputError: it does not exist, or its type is not known.
    """
    path = Path(path)
    if path.is_dir() or path.name.lower().endswith(SUFFIXES):
        return FileType.CT
    if not path.is_file():
        raise InputError(path, "there is no such file or folder", "Check the path")
    with path.open("rb") as file:
        if file.read(len(HDF5_MAGIC)) == HDF5_MAGIC:
            return FileType.HDF5
    if is_dicom(path):
        if pydicom.dcmread(path, stop_before_pixels=True).get("Modality") == "CT":
            raise InputError(path, "it is a single slice of a CT", "Give the folder of the whole series")
        return FileType.XRAY
    if path.suffix.lower() in PICTURES:
        return FileType.XRAY
    known = ", ".join((*SUFFIXES, *PICTURES))
    raise InputError(path, "its type is not known", f"Give {known}, DICOM or HDF5")
