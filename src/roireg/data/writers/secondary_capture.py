"""Writes a DRR as DICOM, for archives and viewers: a secondary capture, with the pose and the camera in its header."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import UInt16
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from roireg import __version__
from roireg.data.writers.poses import StoredPose, pose_entries
from roireg.files import atomic_path

# The private block that holds what pose.json does: (0071,0010) names its creator, (0071,1001) is the text.
GROUP, CREATOR, ELEMENT = 0x0071, "ROIREG", 0x01
WHAT = "DRR computed from a CT; not an X-ray"


def write_secondary_capture(path: str | Path, grey: UInt16[np.ndarray, "H W"], stored: StoredPose) -> None:
    """Write a DRR as a secondary capture of 16 bits, with nothing that names the patient.

    Distance of the detector and size of a pixel are in their standard tags; no standard tag holds a pose, so it is in
    a private one, as the text of a pose.json (`volume_from_camera`, LPS, mm).

    Args:
        path: the file.
        grey: grey values, bone bright.
        stored: pose and camera of this image.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = pydicom.Dataset()
    out.file_meta = meta
    out.SpecificCharacterSet = "ISO_IR 192"
    out.SOPClassUID, out.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    out.StudyInstanceUID, out.SeriesInstanceUID = generate_uid(), generate_uid()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(out, keyword, "")
    out.ReferringPhysicianName, out.StudyDate, out.StudyTime = "", "", ""
    out.SeriesNumber, out.InstanceNumber, out.PatientOrientation = 1, 1, ""
    now = datetime.now()
    out.ContentDate, out.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    out.Modality, out.ConversionType, out.ImageType = "OT", "WSD", ["DERIVED", "SECONDARY"]
    out.Manufacturer, out.SoftwareVersions = "roireg", __version__
    out.SeriesDescription = out.DerivationDescription = WHAT
    out.BurnedInAnnotation = "NO"
    camera = stored.camera
    out.DistanceSourceToDetector = f"{camera.source_to_detector_mm:.9g}"
    across, down = camera.pixel_spacing_mm
    out.ImagerPixelSpacing = [f"{down:.9g}", f"{across:.9g}"]
    out.Rows, out.Columns = grey.shape
    out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"
    out.BitsAllocated = out.BitsStored = 16
    out.HighBit, out.PixelRepresentation = 15, 0
    out.PixelData = grey.astype("<u2").tobytes()
    text = json.dumps(pose_entries(stored.pose, camera), allow_nan=False)
    out.private_block(GROUP, CREATOR, create=True).add_new(ELEMENT, "UT", text)
    with atomic_path(path) as temporary:
        out.save_as(temporary, enforce_file_format=True)
