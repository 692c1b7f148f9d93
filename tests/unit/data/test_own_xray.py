"""A user's X-ray: what DICOM tags and camera files say of it, and what is told where they say too little."""

import numpy as np
import pytest
import torch
import yaml
from own_patient import carm_angles_deg, carm_camera, carm_zero, write_carm_dicom
from PIL import Image

from roireg.data.readers.xray import read_xray
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.geometry.camera import project

DOUBLE = {"dtype": torch.float64}
SIZE = 96
CAMERA = carm_camera(SIZE, 240.0, 1000.0)
RNG = np.random.default_rng(0)
# Dark bone at the left, bright air.
INTENSITY = np.full((SIZE, SIZE), 40000, np.uint16)
INTENSITY[20:60, 10:30] = 4000
INTENSITY += RNG.integers(0, 200, INTENSITY.shape).astype(np.uint16)
ENTRIES = {"source_to_detector_mm": 1000.0, "pixel_spacing_mm": 2.5, "bone": "dark", "intensity": "linear"}


@pytest.fixture
def dicom(tmp_path):
    def write(angles=(0.0, 0.0), pixels=INTENSITY, **changes):
        return write_carm_dicom(tmp_path / "x.dcm", pixels, CAMERA, angles, **changes)

    return write


@pytest.fixture
def picture(tmp_path):
    def write(pixels=INTENSITY, name="x.png", **changes):
        Image.fromarray(pixels).save(tmp_path / name)
        entries = {key: value for key, value in {**ENTRIES, **changes}.items() if value is not None}
        (tmp_path / "camera.yaml").write_text(yaml.safe_dump(entries))
        return tmp_path / name, tmp_path / "camera.yaml"

    return write


def sides(xray: Xray) -> tuple[str, str]:
    """Directions of the patient along rows and columns of the image."""
    names = {"L": (1.0, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
    ends = project(20 * torch.tensor(list(names.values()), **DOUBLE), xray.camera, xray.rig_from_camera)
    middle = project(torch.zeros(1, 3, **DOUBLE), xray.camera, xray.rig_from_camera)
    along = (ends - middle).tolist()
    return tuple(max(zip(names, along, strict=True), key=lambda pair: pair[1][axis])[0] for axis in (0, 1))


@pytest.mark.parametrize(("angles", "seen"), [((0, 0), "LF"), ((90, 0), "PF"), ((-90, 0), "AF"), ((0, 30), "LF")])
def test_angles_are_dicoms(dicom, angles, seen):
    xray = read_xray(dicom(angles))
    # At 90 the detector is at the patient's left, seen from there: his back is to the right.
    assert "".join(sides(xray)) == seen
    assert carm_angles_deg(xray.rig_from_camera) == pytest.approx(angles, abs=1e-6)
    # The source lies so far from the isocentre, on the other side than the detector.
    assert float(xray.rig_from_camera[:3, 3].norm()) == pytest.approx(720.0, abs=1e-3)
    assert float(xray.rig_from_camera[:3, 2] @ xray.rig_from_camera[:3, 3]) < 0


def test_the_camera_is_that_of_the_tags(dicom):
    xray = read_xray(dicom(ImagerPixelSpacing=["2.0", "2.5"]))
    assert xray.camera.pixel_spacing_mm == pytest.approx((2.5, 2.0))
    assert xray.camera.source_to_detector_mm == pytest.approx(1000.0)
    assert float(xray.camera.intrinsics_px[0, 0]) == pytest.approx(-400.0)
    assert float(xray.camera.intrinsics_px[1, 1]) == pytest.approx(500.0)
    told = {fact.name: (fact.value, fact.source) for fact in xray.facts}
    assert told["source to detector"] == ("1000 mm", "(0018,1110) DistanceSourceToDetector")
    assert told["pixel on the detector"] == ("2.5 x 2 mm", "(0018,1164) ImagerPixelSpacing")


@pytest.mark.parametrize("stated", ["L\\F", "R\\F", "R\\H", "L\\H", "F\\L", "H\\R"])
def test_rows_and_columns_run_as_the_patient_orientation_says(dicom, stated):
    xray = read_xray(dicom(PatientOrientation=stated.split("\\")))
    assert "\\".join(sides(xray)) == stated


@pytest.mark.parametrize(
    ("changes", "pixels"),
    [
        ({}, INTENSITY),
        ({"PixelIntensityRelationshipSign": -1}, (60000 - INTENSITY).astype(np.uint16)),
        ({"PixelIntensityRelationship": "LOG"}, (4000 * np.log(INTENSITY)).astype(np.uint16)),
        (
            {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1},
            (60000 - 4000 * np.log(INTENSITY)).astype(np.uint16),
        ),
    ],
)
def test_bone_is_bright_whatever_values_mean(dicom, changes, pixels):
    image = read_xray(dicom(pixels=pixels, **changes)).image
    assert float(image.min()) == 0
    assert float(image.max()) == 1
    assert float(image[25:55, 15:25].min()) > 0.9
    assert float(image[70:, 40:].max()) < 0.1


def test_collimator_and_crop_leave_the_camera_where_it_was(dicom):
    whole = read_xray(dicom())
    edges = {
        "CollimatorShape": "RECTANGULAR",
        "CollimatorUpperHorizontalEdge": 11,
        "CollimatorLowerHorizontalEdge": 90,
        "CollimatorLeftVerticalEdge": 6,
        "CollimatorRightVerticalEdge": 81,
    }
    part = read_xray(dicom(**edges), crop_px=2)
    assert part.image.shape == (76, 72)
    point = torch.tensor([[12.0, -30.0, 25.0]], **DOUBLE)
    apart = project(point, whole.camera, whole.rig_from_camera) - project(point, part.camera, part.rig_from_camera)
    assert apart[0].tolist() == pytest.approx([7.0, 12.0])
    stored = project(point, part.stored_camera, part.rig_from_camera)
    assert torch.allclose(stored, project(point, whole.camera, whole.rig_from_camera))


def test_a_large_image_shrinks_and_its_camera_with_it(dicom):
    xray = read_xray(dicom(), size_px=64)
    assert xray.image.shape == (64, 64)
    assert xray.camera.pixel_spacing_mm == pytest.approx((3.75, 3.75))


def test_frames_of_a_sequence(dicom):
    frames = np.stack([INTENSITY, INTENSITY[::-1]])
    path = dicom(pixels=frames, NumberOfFrames=2)
    assert torch.equal(read_xray(path, frame=1).image, read_xray(path, frame=0).image.flip(0))
    assert "2 frames" in fault_of(path, frame=2).what


def fault_of(*args, **kwargs) -> InputError:
    with pytest.raises(InputError) as raised:
        read_xray(*args, **kwargs)
    return raised.value


@pytest.mark.parametrize(
    ("changes", "tag"),
    [
        ({"DistanceSourceToDetector": None}, "(0018,1110) DistanceSourceToDetector is missing"),
        ({"DistanceSourceToDetector": "0"}, "(0018,1110) DistanceSourceToDetector is missing"),
        ({"ImagerPixelSpacing": None}, "(0018,1164) ImagerPixelSpacing is missing"),
        ({"ImagerPixelSpacing": None, "PixelSpacing": ["1", "1"]}, "PixelSpacing may be that in the patient"),
        ({"DistanceSourceToPatient": "2000"}, "not less than the distance to the detector"),
        ({"Modality": "MR"}, "its modality is MR"),
    ],
)
def test_an_x_ray_without_geometry_is_told(dicom, changes, tag):
    error = fault_of(dicom(**changes))
    assert tag in error.what
    assert error.remedy.endswith("(docs/own-data.md)") or "modality" in error.remedy


def test_what_is_assumed_is_said(dicom):
    missing = ("DistanceSourceToPatient", "PositionerPrimaryAngle", "PixelIntensityRelationshipSign")
    xray = read_xray(dicom(**dict.fromkeys(missing)))
    assert len(xray.warnings) == 5
    assert {fact.name for fact in xray.facts if fact.source == "assumed"} >= {"source to isocentre", "C-arm's angles"}


def test_a_detectors_view_position_is_a_first_pose(dicom):
    path = dicom(PositionerPrimaryAngle=None, PositionerSecondaryAngle=None, ViewPosition="AP", Modality="DX")
    assert carm_angles_deg(read_xray(path).rig_from_camera)[0] == pytest.approx(180.0)


def test_a_picture_with_a_camera_file_is_the_dicom(dicom, picture):
    by_tags = read_xray(dicom())
    by_file = read_xray(*picture(primary_deg=0, secondary_deg=0, source_to_isocenter_mm=720))
    assert torch.equal(by_tags.image, by_file.image)
    assert torch.allclose(by_tags.camera.intrinsics_px, by_file.camera.intrinsics_px)
    assert torch.allclose(by_tags.rig_from_camera, by_file.rig_from_camera)


def test_a_camera_file_stands_in_place_of_tags(dicom, picture):
    _, camera = picture(source_to_detector_mm=1100, principal_point_px=[40.0, 50.0])
    xray = read_xray(dicom(DistanceSourceToDetector=None), camera)
    assert xray.camera.source_to_detector_mm == pytest.approx(1100)
    assert xray.camera.intrinsics_px[:2, 2].tolist() == [40.0, 50.0]


def test_sides_roll_and_rig_of_a_camera_file(picture):
    assert "".join(sides(read_xray(*picture(primary_deg=0, seen_from="source")))) == "RF"
    assert "".join(sides(read_xray(*picture(primary_deg=0, roll_deg=180)))) == "RH"
    rig = carm_zero((15.0, 5.0)).tolist()
    assert torch.allclose(read_xray(*picture(rig_from_camera=rig)).rig_from_camera, carm_zero((15.0, 5.0)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source_to_detector_mm": None}, "'source_to_detector_mm' is a required property"),
        ({"bone": "grey"}, "'grey' is not one of"),
        ({"pixel_spacing_mm": -1}, "less than or equal to the minimum"),
        ({"focal": 3}, "'focal' was unexpected"),
        ({"rig_from_camera": (2 * np.eye(4)).tolist()}, "not a rotation"),
    ],
)
def test_a_wrong_camera_file_is_told(picture, changes, said):
    error = fault_of(*picture(**changes))
    assert said in error.what
    assert "camera.yaml" in error.where


def test_a_picture_without_a_camera_and_a_photo_are_told(picture, tmp_path):
    path, camera = picture()
    error = fault_of(path)
    assert "source_to_detector_mm: 1020" in error.remedy
    photo = np.stack([INTENSITY // 256, INTENSITY // 512, np.full_like(INTENSITY, 200)], axis=-1).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    assert "photo" in fault_of(tmp_path / "photo.png", camera).what
    # Grey in three channels is no photo.
    Image.fromarray(np.repeat((INTENSITY // 256).astype(np.uint8)[..., None], 3, axis=2)).save(tmp_path / "grey.png")
    assert read_xray(tmp_path / "grey.png", camera).image.shape == (SIZE, SIZE)
    Image.fromarray(np.full((SIZE, SIZE), 7, np.uint8)).save(tmp_path / "blank.png")
    assert "blank" in fault_of(tmp_path / "blank.png", camera).what
    (tmp_path / "text.png").write_text("no picture")
    assert "neither" in fault_of(tmp_path / "text.png", camera).what
