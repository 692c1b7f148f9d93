"""What `roireg inspect` does with a file, by what it holds."""

from enum import StrEnum
from pathlib import Path

from roireg.data.readers.dicom_file import read_dicom
from roireg.data.readers.dicom_header import Header
from roireg.data.readers.gate import Content, content_of
from roireg.data.readers.volumes import SUFFIXES, VOLUMES
from roireg.errors import InputError

PICTURES = (".png", ".tif", ".tiff")


class FileType(StrEnum):
    """What `roireg inspect` tells apart."""

    CT = "CT"
    XRAY = "X-ray"
    HDF5 = "HDF5"


def file_type(path: str | Path) -> FileType:
    """The kind of a file or folder.

    Raises:
        InputError: it is not there, or is none of them.
    """
    path = Path(path)
    if path.is_dir():
        return FileType.CT
    content = content_of(path)
    if content in VOLUMES or (content is Content.UNKNOWN and path.name.lower().endswith(SUFFIXES)):
        return FileType.CT
    if content is Content.HDF5:
        return FileType.HDF5
    if content is Content.DICOM:
        header = Header(path, read_dicom(path, pixels=False))
        if header.word("Modality") != "CT":
            return FileType.XRAY
        if header.frames < 2:
            raise InputError(path, "it is one slice of a CT", "Give the folder of the whole series")
        return FileType.CT
    if content in (Content.PNG, Content.TIFF) or path.suffix.lower() in PICTURES:
        return FileType.XRAY
    known = ", ".join((*SUFFIXES, *PICTURES))
    raise InputError(path, "it is of no known kind", f"Give {known}, DICOM or HDF5")
