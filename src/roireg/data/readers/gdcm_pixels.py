"""Run in a process of its own: GDCM, within SimpleITK, decodes what pydicom alone does not."""

import numpy as np
import SimpleITK as sitk


def decode(source: str, result: str) -> None:
    """Write the stored values of a DICOM file as `.npy`: `(frames, rows, columns)`."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(source)
    values = sitk.GetArrayFromImage(reader.Execute())
    np.save(result, values if values.ndim == 3 else values[None], allow_pickle=False)
