"""CTs and labels as programs really write them: read right, or refused by the name of the field that is wrong."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from own_patient import itk_image, write_ct_series, write_enhanced_ct, write_volume
from typer.testing import CliRunner

from reliability.subjects import FRAME, SHAPE, label_ids, phantom_hu
from roireg.cli.app import app
from roireg.data.readers.ct import read_patient
from roireg.data.readers.labels import read_labels
from roireg.data.readers.volumes import read_volume
from roireg.errors import InputError

HU = phantom_hu()
SHUFFLED = tuple(int(one) for one in np.random.default_rng(3).permutation(SHAPE[0]))


def fault(path, **more) -> str:
    with pytest.raises(InputError) as raised:
        read_patient(path, **more)
    return str(raised.value)


def notes(path) -> str:
    return "; ".join(read_volume(path).notes)


@pytest.mark.parametrize("order", [(), SHUFFLED], ids=["in order", "shuffled"])
@pytest.mark.parametrize("in_folder", [False, True], ids=["file", "alone in a folder"])
def test_an_enhanced_ct_is_the_same_as_a_series(tmp_path, order, in_folder):
    path = write_enhanced_ct(tmp_path / "ct.dcm", HU, FRAME, order)
    found, plain = read_volume(tmp_path if in_folder else path), write_ct_series(tmp_path / "series", HU, FRAME)
    np.testing.assert_array_equal(found.values, read_volume(plain).values)
    np.testing.assert_allclose(found.frame, FRAME, atol=1e-4)
    told = CliRunner().invoke(app, ["inspect", str(path)]).output
    assert "28 x 24 x 20" in told
    assert "3 x 3 x 4 mm" in told


def test_an_enhanced_ct_with_a_gap_or_two_frames_in_one_place_is_told(tmp_path):
    path = write_enhanced_ct(tmp_path / "gap.dcm", HU, FRAME, (*range(9), *range(10, SHAPE[0])))
    assert "4 mm apart, but 8 mm after slice 9" in fault(path)
    path = write_enhanced_ct(tmp_path / "twice.dcm", HU, FRAME, (*range(SHAPE[0]), 5))
    assert "1 slices lie where another one does" in fault(path)


def nifti(path, **fields):
    """The phantom with fields of its header changed afterwards."""
    write_volume(path, HU, FRAME)
    content = path.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


@pytest.mark.parametrize("size", [0.0, np.nan, -np.inf, 1e9])
def test_a_voxel_size_in_pixdim_that_is_none_is_named(tmp_path, size):
    path = nifti(tmp_path / "ct.nii", pixdim=[1, size, 3, 4, 0, 0, 0, 0])
    assert f"{path}: pixdim: it is" in fault(path)


def test_sform_and_qform_that_disagree_are_told_with_their_distance(tmp_path):
    path = tmp_path / "ct.nii"
    nifti(path, qoffset_x=60.0)
    assert "sform (code" in notes(path)
    assert "up to 30 mm apart: sform was taken" in notes(path)
    np.testing.assert_allclose(read_volume(path).frame, FRAME, atol=1e-4)


def test_sform_or_qform_alone_is_taken(tmp_path):
    for name in ("sform_code", "qform_code"):
        path = nifti(tmp_path / f"{name}.nii", **{name: 0})
        np.testing.assert_allclose(read_volume(path).frame, FRAME, atol=1e-4)


def test_a_file_that_places_nothing_says_what_was_taken(tmp_path):
    path = nifti(tmp_path / "ct.nii", sform_code=0, qform_code=0)
    assert "neither sform nor qform is set" in notes(path)
    np.testing.assert_allclose(read_volume(path).spacing_mm, [3, 3, 4])
    assert any("neither sform nor qform" in one for one in read_patient(path).warnings)


def without(path, *starts: bytes):
    """The file without the header's lines that start so."""
    head, mark, rest = path.read_bytes().partition(b"\n\n" if path.suffix == ".nrrd" else b"ElementDataFile")
    kept = [line for line in head.split(b"\n") if not line.startswith(starts)]
    path.write_bytes(b"\n".join(kept) + mark + rest)
    return path


def test_headers_without_geometry_name_what_is_missing(tmp_path):
    nrrd = without(write_volume(tmp_path / "ct.nrrd", HU, FRAME), b"space directions")
    assert f"{nrrd}: space directions" in fault(nrrd)
    mha = without(write_volume(tmp_path / "ct.mha", HU, FRAME), b"ElementSpacing")
    assert f"{mha}: ElementSpacing" in fault(mha)


def test_an_empty_name_of_the_data_file_is_one_line(tmp_path):
    path = write_volume(tmp_path / "ct.nrrd", HU, FRAME)
    path.write_bytes(path.read_bytes().replace(b"encoding:", b"data file:\nencoding:", 1))
    assert f"{path}" in fault(path)


def changed_series(folder, change):
    for number, path in enumerate(sorted(write_ct_series(folder, HU, FRAME).iterdir())):
        header = pydicom.dcmread(path)
        change(number, header)
        header.save_as(path)
    return folder


def test_a_series_without_spacing_or_in_one_place_is_told(tmp_path):
    bare = changed_series(tmp_path / "bare", lambda number, header: delattr(header, "PixelSpacing"))
    assert "(0028,0030) PixelSpacing is missing" in fault(bare)

    def here(number, header):
        header.ImagePositionPatient = ["0", "0", "0"]

    assert "all its slices lie in one place" in fault(changed_series(tmp_path / "place", here))


def test_a_scout_under_the_same_uid_is_left_out_and_said(tmp_path):
    series = write_ct_series(tmp_path / "series", HU, FRAME)
    plain = read_volume(series)
    scout = pydicom.dcmread(series / "0000.dcm")
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    scout.save_as(series / "scout.dcm")
    # Another one that does not call itself one.
    scout.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    scout.PixelSpacing = ["1.5", "1.5"]
    scout.save_as(series / "topogram.dcm")
    found = read_volume(series)
    np.testing.assert_array_equal(found.values, plain.values)
    np.testing.assert_allclose(found.frame, plain.frame)
    assert found.notes == ("2 images left out as no slice of the CT (scout.dcm, topogram.dcm)",)


STORED = (HU + 1024).clip(0, 4095).astype(np.int16)
PADDED = STORED.copy()
PADDED[:, :2] = -2000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (STORED, "--rescale 1 -1024"),
        (PADDED, "--rescale 1 -1024"),
        (HU.astype(np.uint16), "signed values"),
        ((HU.astype(np.int32) + 8192).astype(np.int16), "--rescale 1 -8192"),
        ((HU.astype(np.int32) + 1000).astype(np.int16), "--rescale 1 -1000"),
    ],
    ids=["as stored", "as stored, padded", "without their sign", "+8192", "+1000"],
)
def test_what_was_added_to_hounsfield_units_is_measured(tmp_path, values, said):
    assert said in fault(write_volume(tmp_path / "ct.nii.gz", values, FRAME))


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_padding_in_hounsfield_units_is_no_offset(tmp_path, padding):
    padded = HU.copy()
    padded[:, :2] = padding
    assert read_patient(write_volume(tmp_path / "ct.nii.gz", padded, FRAME)).warnings == ()


@pytest.mark.parametrize(("shear", "said"), [(1e-4, False), (2e-3, True), (5e-3, True)])
def test_axes_that_are_nearly_upright_are_made_so_and_said(tmp_path, shear, said):
    frame = FRAME.copy()
    frame[0, 2] += 4 * shear
    path = tmp_path / "ct.nii"
    nib.Nifti1Image(HU.T, np.diag([-1, -1, 1, 1]) @ frame).to_filename(path)
    found = read_volume(path)
    corner = np.array(SHAPE[::-1]) - 1
    np.testing.assert_allclose(found.frame[:3, :3] @ corner, frame[:3, :3] @ corner, atol=0.5)
    gram = found.frame[:3, :3].T @ found.frame[:3, :3]
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    assert any("made upright" in note for note in found.notes) == said


def test_axes_far_from_right_angles_are_refused(tmp_path):
    frame = FRAME.copy()
    frame[0, 2] += 1.0
    path = tmp_path / "ct.nii"
    nib.Nifti1Image(HU.T, np.diag([-1, -1, 1, 1]) @ frame).to_filename(path)
    assert "not at right angles" in fault(path)


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return read_volume(write_volume(tmp_path_factory.mktemp("ct") / "ct.nii.gz", HU, FRAME))


IDS = label_ids()


def test_labels_behind_a_scale_or_nearly_whole_are_whole(tmp_path, ct):
    path = tmp_path / "labels.nii"
    image = nib.Nifti1Image(IDS.T.astype(np.int16), np.diag([-1, -1, 1, 1]) @ FRAME)
    image.header.set_slope_inter(0.46, 0)
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(0.46).tobytes()
    content[352:] = IDS.astype(np.int16).tobytes()
    path.write_bytes(content)
    found = read_labels(path, ct)
    np.testing.assert_array_equal(found.ids, IDS)
    assert any("scales them to fractions" in note for note in found.notes)
    nearly = write_volume(tmp_path / "nearly.nrrd", IDS * np.float32(1.0000152), FRAME)
    np.testing.assert_array_equal(read_labels(nearly, ct).ids, IDS)


def test_ids_above_255_are_numbered_anew_and_keep_their_names(tmp_path, ct):
    large = IDS.astype(np.int32)
    large[IDS == 2] = 14175
    (tmp_path / "names.yaml").write_text("1: femur\n14175: hip\n")
    found = read_labels(write_volume(tmp_path / "l.nii.gz", large, FRAME), ct, tmp_path / "names.yaml")
    np.testing.assert_array_equal(found.ids, IDS)
    assert found.names == {1: "femur", 2: "hip"}
    assert any("ids go to 14175" in note for note in found.notes)


def test_slicers_segmentation_is_read_with_its_layers_and_names(tmp_path, ct):
    # Cropped in front, the second segment in a layer of its own.
    layers = np.stack([IDS[2:] == 1, IDS[2:] == 2], axis=-1).astype(np.uint8)
    frame = FRAME.copy()
    frame[:3, 3] += 2 * FRAME[:3, 2]
    image = itk_image(layers, frame)
    for number, name in enumerate(("femur", "hip")):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", "1")
        image.SetMetaData(f"Segment{number}_Layer", str(number))
    path = tmp_path / "labels.seg.nrrd"
    sitk.WriteImage(image, str(path), useCompression=True)
    found = read_labels(path, ct)
    np.testing.assert_array_equal(found.ids, IDS)
    assert found.names == {1: "femur", 2: "hip"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1: femur\n2: Femur\n", "are the same name"),
        ("03: femur\n3: hip\n", "3 stands twice"),
        ("08: femur\n8: hip\n", "label 8 stands twice"),
        ("3:\n", "label 3 has no name"),
        ("1: femur\n1: hip\n", "stands twice"),
        ("1.5: femur\n", "is no label"),
        ("-1: femur\n", "is no label"),
    ],
)
def test_names_of_labels_that_cannot_be_meant_are_told(tmp_path, ct, text, said):
    labels = write_volume(tmp_path / "labels.nii.gz", IDS, FRAME)
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_labels(labels, ct, tmp_path / "names.yaml")


def test_what_was_assumed_about_ct_and_labels_is_among_the_warnings_of_the_patient(tmp_path):
    path = nifti(tmp_path / "ct.nii", qoffset_x=60.0)
    labels = write_volume(tmp_path / "labels.nii.gz", IDS[2:], FRAME @ translated(2))
    patient = read_patient(path, labels)
    assert torch.equal(patient.known_labels, torch.from_numpy(IDS))
    told = " ".join(patient.warnings)
    assert "sform was taken" in told
    assert "labels: brought from another grid" in told


def translated(slices: int) -> np.ndarray:
    frame = np.eye(4)
    frame[2, 3] = slices
    return frame
