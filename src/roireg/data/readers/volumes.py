"""A volume from whatever file or folder it is in, by its content."""

from pathlib import Path

from roireg.data.readers.gate import Content, content_of
from roireg.data.readers.grid import StoredVolume
from roireg.errors import InputError

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
VOLUMES = (Content.NIFTI, Content.NRRD, Content.META_IMAGE)


def read_volume(path: str | Path) -> StoredVolume:
    """An image with its geometry, from a file or from a folder with a DICOM series.

    Raises:
        InputError: it is not there, is of no known kind, is damaged or truncated, or is not three-dimensional.
    """
    path = Path(path)
    if path.is_dir():
        from roireg.data.readers.ct_dicom import read_dicom_ct

        return read_dicom_ct(path)
    kind = content_of(path)
    if kind is Content.NIFTI:
        from roireg.data.readers.nifti import read_nifti

        return read_nifti(path)
    if kind is Content.NRRD:
        from roireg.data.readers.nrrd import read_nrrd

        return read_nrrd(path)
    if kind is Content.META_IMAGE:
        from roireg.data.readers.metaimage import read_meta_image

        return read_meta_image(path)
    if kind is Content.DICOM:
        from roireg.data.readers.ct_dicom import read_dicom_ct

        return read_dicom_ct(path)
    what = "it cannot be read: it holds none of them by its content"
    if path.name.lower().endswith((".nii.gz", ".gz")):
        what = "it cannot be read: it is damaged, or no gzipped NIfTI file"
    raise InputError(path, what, f"Give one of {', '.join(SUFFIXES)}, or a DICOM folder")
