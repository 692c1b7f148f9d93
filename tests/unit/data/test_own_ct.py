"""A user's CT and labels: every format gives the same patient, and what is no CT is told in a line."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from own_patient import itk_image, write_ct_series, write_volume

from roireg.data.readers.ct import read_patient
from roireg.data.readers.image import frame_of, read_image
from roireg.data.volume import attenuation_from_hu
from roireg.errors import InputError

RNG = np.random.default_rng(4)
SHAPE = (24, 30, 36)


def oblique_frame() -> np.ndarray:
    """A turned grid of unlike spacings, off the origin."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    frame = np.eye(4)
    frame[:3, :3] = turn * np.array([3.0, 3.5, 4.0])
    frame[:3, 3] = [-40.0, 25.0, 310.0]
    return frame


def body_hu() -> np.ndarray:
    """Air, tissue, and a bone that shows which end of each axis is which."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[2:-2, 4:-4, 4:-4] = 40
    hu[3:9, 6:12, 6:20] = 900
    return hu + RNG.integers(-5, 5, SHAPE).astype(np.int16)


HU, FRAME = body_hu(), oblique_frame()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ct")


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.nrrd", "ct.mha", "series"])
def test_every_format_gives_the_same_patient(folder, name):
    path = folder / name
    if name == "series":
        write_ct_series(path, HU, FRAME)
    else:
        write_volume(path, HU, FRAME)
    patient = read_patient(path, voxel_mm=1.0)
    np.testing.assert_allclose(patient.volume.volume_from_voxel.numpy(), FRAME, atol=1e-4)
    expected = attenuation_from_hu(torch.from_numpy(HU.astype(np.float32)))
    assert torch.allclose(patient.volume.values, expected, atol=1e-6)
    assert patient.facts["voxels"] == "36 x 30 x 24"
    assert patient.facts["axes"].startswith("LPS")


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii"])
def test_a_nifti_file_that_is_cut_off_is_refused(tmp_path, name):
    path = write_volume(tmp_path / name, HU, FRAME)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


def test_fine_voxels_are_averaged_where_they_are(folder):
    path = write_volume(folder / "fine.nii.gz", HU, FRAME)
    fine, coarse = read_patient(path, voxel_mm=1.0), read_patient(path, voxel_mm=7.0)
    np.testing.assert_allclose(coarse.volume.spacing_mm.numpy(), [6.0, 7.0, 4.0], rtol=1e-5)
    # The grids share their corner, and 36, 30, 24 voxels make whole blocks of 2, 2, 1.
    assert torch.allclose(fine.volume.center_mm, coarse.volume.center_mm, atol=1e-3)


def test_labels_stay_on_the_anatomy_when_voxels_are_averaged(folder):
    ids = np.zeros(SHAPE, np.uint8)
    ids[3:9, 6:12, 6:20] = 2
    ct, labels = write_volume(folder / "l.nii.gz", HU, FRAME), write_volume(folder / "ids.nii.gz", ids, FRAME)
    names = folder / "names.yaml"
    names.write_text("2: block\n9: absent\n")
    patients = [read_patient(ct, labels, names, ["Block"], voxel_mm=size) for size in (1.0, 8.0)]
    assert all(patient.label_names == {2: "block"} for patient in patients)
    for patient in patients:
        assert patient.labels.shape == patient.volume.values.shape
        # The middle of voxels 6 to 19, 6 to 11, 3 to 8.
        expected = FRAME[:3, :3] @ [12.5, 8.5, 5.5] + FRAME[:3, 3]
        np.testing.assert_allclose(patient.center_mm.numpy(), expected, atol=float(patient.volume.spacing_mm.max()) / 2)
    np.testing.assert_allclose(patients[0].center_mm.numpy(), expected, atol=1e-3)


def test_reference_points_lie_in_bone(folder):
    patient = read_patient(write_volume(folder / "r.nii.gz", HU, FRAME), voxel_mm=1.0)
    voxels = (
        (
            torch.linalg.inv(patient.volume.volume_from_voxel)[:3]
            @ torch.cat(
                [patient.bone_points_mm, torch.ones(len(patient.bone_points_mm), 1, dtype=torch.float64)], dim=1
            ).T
        )
        .T.round()
        .long()
    )
    assert len(voxels) == 16
    assert all(HU[z, y, x] > 800 for x, y, z in voxels.tolist())


def fault_of(*args, **kwargs) -> InputError:
    with pytest.raises(InputError) as raised:
        read_patient(*args, **kwargs)
    return raised.value


def test_labels_on_another_grid_are_told(folder):
    ct = write_volume(folder / "g.nii.gz", HU, FRAME)
    smaller = write_volume(folder / "small.nii.gz", (HU[:-1] > 800).astype(np.uint8), FRAME)
    error = fault_of(ct, smaller)
    assert "36 x 30 x 23 voxels instead of 36 x 30 x 24" in error.what
    assert "Resample" in error.remedy
    shifted = FRAME.copy()
    shifted[2, 3] += 4.0
    error = fault_of(ct, write_volume(folder / "shifted.nii.gz", (HU > 800).astype(np.uint8), shifted))
    assert "4 mm apart" in error.what
    flipped = FRAME @ np.diag([-1.0, 1, 1, 1])
    assert "mm apart" in fault_of(ct, write_volume(folder / "flip.nii.gz", (HU > 800).astype(np.uint8), flipped)).what


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (HU.astype(np.float32) + 1024, "--rescale 1 -1024"),
        ((HU.astype(np.float32) + 1024) / 3000, "--rescale"),
        (np.clip(HU, 0, 255).astype(np.uint8), "--rescale"),
    ],
)
def test_a_ct_in_other_units_is_told(folder, values, remedy):
    error = fault_of(write_volume(folder / "units.nii.gz", values, FRAME))
    assert "Hounsfield" in error.what
    assert remedy in error.remedy


def test_a_stated_rescale_makes_hounsfield_units(folder):
    path = write_volume(folder / "offset.nii.gz", (HU + 1024).astype(np.int16), FRAME)
    patient = read_patient(path, rescale=(1.0, -1024.0), voxel_mm=1.0)
    assert torch.allclose(patient.volume.values, attenuation_from_hu(torch.from_numpy(HU.astype(np.float32))))


def test_a_spacing_in_metres_is_told(folder):
    metres = FRAME.copy()
    metres[:3] /= 1000
    error = fault_of(write_volume(folder / "metres.mha", HU, metres))
    assert "millimetres" in error.remedy


def test_nan_and_blank_labels_and_other_numbers_are_told(folder):
    broken = HU.astype(np.float32)
    broken[0, 0, 0] = np.nan
    assert "NaN" in fault_of(write_volume(folder / "nan.mha", broken, FRAME)).what
    ct = write_volume(folder / "ok.nii.gz", HU, FRAME)
    assert "no voxel" in fault_of(ct, write_volume(folder / "none.nii.gz", np.zeros(SHAPE, np.uint8), FRAME)).what
    assert "integers" in fault_of(ct, write_volume(folder / "hu.nii.gz", HU, FRAME)).remedy


def test_missing_slices_and_a_tilted_gantry_are_told(folder):
    series = write_ct_series(folder / "gap", HU, FRAME)
    (series / "0010.dcm").unlink()
    error = fault_of(series)
    assert "4 mm apart, but 8 mm after slice 10" in error.what
    tilted = write_ct_series(folder / "tilt", HU, FRAME)
    for index, path in enumerate(sorted(tilted.iterdir())):
        header = pydicom.dcmread(path)
        x, y, z = (float(value) for value in header.ImagePositionPatient)
        header.ImagePositionPatient = [f"{x:.6f}", f"{y + index:.6f}", f"{z:.6f}"]
        header.save_as(path)
    assert "tilted" in fault_of(tilted).what


def test_two_series_an_empty_folder_and_no_volume_are_told(folder):
    both = write_ct_series(folder / "both", HU, FRAME)
    for path in write_ct_series(folder / "second", HU, FRAME).iterdir():
        path.rename(both / f"b{path.name}")
    assert "2 DICOM series" in fault_of(both).what
    (folder / "empty").mkdir()
    assert "no DICOM series" in fault_of(folder / "empty").what
    assert "no such file" in fault_of(folder / "absent.nii.gz").what
    (folder / "text.nii").write_text("no image")
    assert "cannot be read" in fault_of(folder / "text.nii").what
    sitk.WriteImage(itk_image(HU, FRAME)[:, :, 3], str(folder / "slice.mha"))
    assert "not a volume" in fault_of(folder / "slice.mha").what


def test_the_frame_is_itks(folder):
    image = read_image(write_volume(folder / "frame.nrrd", HU, FRAME))
    for index in ((0, 0, 0), (5, 7, 11), (35, 29, 23)):
        point = frame_of(image) @ [*index, 1]
        np.testing.assert_allclose(point[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-4)
