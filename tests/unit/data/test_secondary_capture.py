"""A DRR as DICOM: what another program reads are the pixels, the distances and the pose."""

import json

import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from own_patient import carm_camera
from pydicom.uid import SecondaryCaptureImageStorage

from roireg.data.writers.poses import StoredPose, read_pose
from roireg.data.writers.secondary_capture import write_secondary_capture
from roireg.geometry.poses import carm_pose

POSE = carm_pose(torch.tensor([12.0, -40.0, 300.0], dtype=torch.float64), 720.0, 10.0, -5.0)
CAMERA = carm_camera(40).resized(30, 40)
GREY = np.random.default_rng(0).integers(0, 65536, (30, 40)).astype(np.uint16)


def written(folder) -> str:
    path = folder / "drr.dcm"
    write_secondary_capture(path, GREY, StoredPose(POSE, CAMERA, torch.zeros(0, 3)))
    return str(path)


def test_it_is_a_secondary_capture_with_the_pixels_and_distances(tmp_path):
    found = pydicom.dcmread(written(tmp_path))
    assert found.SOPClassUID == found.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert (found.Modality, list(found.ImageType)) == ("OT", ["DERIVED", "SECONDARY"])
    np.testing.assert_array_equal(found.pixel_array, GREY)
    assert float(found.DistanceSourceToDetector) == CAMERA.source_to_detector_mm
    # DICOM: between rows first.
    across, down = CAMERA.pixel_spacing_mm
    np.testing.assert_allclose([float(x) for x in found.ImagerPixelSpacing], [down, across])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(written(tmp_path)))[0], GREY)


def test_the_pose_is_read_from_the_private_tag_as_a_pose_file(tmp_path):
    found = pydicom.dcmread(written(tmp_path))
    text = found.private_block(0x0071, "ROIREG")[0x01].value
    (tmp_path / "pose.json").write_text(text)
    stored = read_pose(tmp_path / "pose.json")
    assert torch.equal(stored.pose, POSE)
    assert torch.equal(stored.camera.intrinsics_px, CAMERA.intrinsics_px)
    assert json.loads(text)["units"] == "mm"


def test_nothing_names_the_patient_and_each_file_is_another(tmp_path):
    one, other = (pydicom.dcmread(written(tmp_path)) for _ in range(2))
    assert not str(one.PatientName)
    assert not one.PatientID
    assert one.SOPInstanceUID != other.SOPInstanceUID
