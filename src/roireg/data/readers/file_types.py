"""What is in a file, by its ending and its first bytes."""

from enum import StrEnum
from pathlib import Path

import pydicom
from pydicom.misc import is_dicom

from roireg.data.readers.image import SUFFIXES
from roireg.errors import InputError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
PICTURES = (".png", ".tif", ".tiff")


class Kind(StrEnum):
    """What `roireg inspect` tells apart."""

    CT = "CT"
    XRAY = "X-ray"
    HDF5 = "HDF5"


def kind_of(path: str | Path) -> Kind:
    """The kind of a file or folder.

    Raises:
        InputError: it is not there, or is none of them.
    """
    path = Path(path)
    if path.is_dir() or path.name.lower().endswith(SUFFIXES):
        return Kind.CT
    if not path.is_file():
        raise InputError(path, "there is no such file or folder", "Check the path")
    with path.open("rb") as file:
        if file.read(len(HDF5_MAGIC)) == HDF5_MAGIC:
            return Kind.HDF5
    if is_dicom(path):
        if pydicom.dcmread(path, stop_before_pixels=True).get("Modality") == "CT":
            raise InputError(path, "it is one slice of a CT", "Give the folder of the whole series")
        return Kind.XRAY
    if path.suffix.lower() in PICTURES:
        return Kind.XRAY
    known = ", ".join((*SUFFIXES, *PICTURES))
    raise InputError(path, "it is of no known kind", f"Give {known}, DICOM or HDF5")
