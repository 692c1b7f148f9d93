"""Poses and cameras in other programs' files: there and back, and the same picture in their renderers."""

import json
import re
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_patient import write_volume
from typer.testing import CliRunner
from volumes import chest_volume, general_pose, relative_error

from roireg.cli.app import POSE_FORMATS, app
from roireg.data.pose_formats.formats import FORMATS, read_as
from roireg.data.writers.poses import StoredPose, read_pose, write_pose
from roireg.drr import render
from roireg.errors import InputError
from roireg.geometry.camera import Camera, project
from roireg.geometry.rtk import rtk_origin_mm, rtk_pixel_mm, to_rtk
from roireg.geometry.se3 import invert, is_rigid, se3_exp, transform_points

DOUBLE = {"dtype": torch.float64}
BOTH_WAYS = sorted(name for name, one in FORMATS.items() if one.read or one.read_with)
POINTS = torch.tensor([[10.0, -20.0, 30.0], [-40.0, 15.0, -25.0], [0.0, 0.0, 60.0], [30.0, 35.0, 5.0]], **DOUBLE)


def camera_of(sign: float, focal: float, offset: tuple[float, float], spacing: tuple[float, float]) -> Camera:
    """A rectangular picture whose principal point is not in its middle and whose pixels are no squares."""
    height, width = 60, 76
    k = [
        [sign * focal / spacing[0], 0.0, (width - 1) / 2 + offset[0]],
        [0.0, focal / spacing[1], (height - 1) / 2 + offset[1]],
        [0.0, 0.0, 1.0],
    ]
    return Camera(torch.tensor(k, **DOUBLE), height, width, spacing)


@st.composite
def geometries(draw) -> StoredPose:
    """Any rotation, also those at which angles are not unique, and a source some way off."""
    turn = st.one_of(st.floats(-3.1, 3.1), st.sampled_from([0.0, np.pi / 2, -np.pi / 2, 3.1]))
    twist = torch.tensor([draw(turn) for _ in range(3)] + [draw(st.floats(-900, 900)) for _ in range(3)], **DOUBLE)
    offset = (draw(st.floats(-50, 50)), draw(st.floats(-50, 50)))
    spacing = (draw(st.floats(0.1, 3)), draw(st.floats(0.1, 3)))
    camera = camera_of(draw(st.sampled_from([1.0, -1.0])), draw(st.floats(300, 2000)), offset, spacing)
    return StoredPose(se3_exp(twist), camera, torch.zeros(0, 3))


@pytest.mark.parametrize("name", BOTH_WAYS)
@settings(max_examples=25, deadline=None)
@given(stored=geometries())
def test_there_and_back_is_the_same_pose_and_camera(name, stored):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"pose{FORMATS[name].ending}"
        FORMATS[name].write(path, stored)
        again = read_as(path, name, stored.camera)
    assert torch.allclose(again.pose, stored.pose, atol=1e-6, rtol=0)
    ours, theirs = stored.camera, again.camera
    assert torch.allclose(theirs.intrinsics_px, ours.intrinsics_px, atol=1e-6, rtol=0)
    assert (theirs.height, theirs.width) == (ours.height, ours.width)
    assert theirs.pixel_spacing_mm == pytest.approx(ours.pixel_spacing_mm, abs=1e-6)


def view(sign: float) -> StoredPose:
    """The chest CT from an odd direction."""
    volume = chest_volume()
    return StoredPose(general_pose(volume)[0], camera_of(sign, 1000.0, (3.3, -2.2), (5.0, 4.5)), torch.zeros(0, 3))


def written(name: str, stored: StoredPose, folder: Path) -> Path:
    path = folder / f"pose{FORMATS[name].ending}"
    FORMATS[name].write(path, stored)
    return path


def homogeneous(points: torch.Tensor) -> torch.Tensor:
    return torch.cat([points, torch.ones(len(points), 1, **DOUBLE)], dim=1)


def points_and_pixels(stored: StoredPose) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the patient (LPS, mm), and where they are seen."""
    points = chest_volume().center_mm + POINTS
    return points, project(points, stored.camera, stored.pose)


def seen(projection: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Where a 3x4 matrix maps points."""
    found = homogeneous(points) @ projection.T
    return found[:, :2] / found[:, 2:]


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_deepdrrs_own_camera_sees_points_in_ras_half_a_pixel_further_on(tmp_path, sign):
    from killeengeo import CameraIntrinsicTransform, CameraProjection, FrameTransform, point

    stored = view(sign)
    entries = json.loads(written("deepdrr", stored, tmp_path).read_text())
    k, outer = (np.array(entries[key]) for key in ("index_from_camera2d", "camera3d_from_world"))
    inner = CameraIntrinsicTransform(k, entries["sensor_height"], entries["sensor_width"])
    camera = CameraProjection(inner, FrameTransform(outer))
    points, pixels = points_and_pixels(stored)
    ras = (points * torch.tensor([-1.0, -1.0, 1.0], **DOUBLE)).numpy()
    found = np.array([np.array(camera.index_from_world @ point(one))[:2] for one in ras])
    # It calculates in single precision.
    np.testing.assert_allclose(found, pixels.numpy() + 0.5, atol=1e-4)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_xregs_camera_sees_points_in_front_of_it_along_minus_z(tmp_path, sign):
    stored = view(sign)
    with h5py.File(written("xreg", stored, tmp_path)) as file:
        assert file.attrs["xreg-type"] == "cam-model"
        assert file["cam-coord-frame-type"].asstr()[()] == "origin-at-focal-pt-det-neg-z"
        assert file["num-rows"].shape == ()
        k, extrinsic = (torch.from_numpy(file[key][()]) for key in ("intrinsic", "extrinsic"))
    points, pixels = points_and_pixels(stored)
    assert (transform_points(extrinsic, points)[:, 2] < 0).all()
    assert torch.allclose(seen(k @ extrinsic[:3], points), pixels, atol=1e-8)


def test_xregs_other_frame_is_ours(tmp_path):
    stored = view(1.0)
    path = tmp_path / "other.h5"
    with h5py.File(written("xreg", stored, tmp_path)) as old, h5py.File(path, "w") as new:
        for key in ("num-rows", "num-cols", "row-spacing", "col-spacing"):
            new[key] = old[key][()]
        new["cam-coord-frame-type"] = "origin-at-focal-pt-det-pos-z"
        new["intrinsic"], new["extrinsic"] = stored.camera.intrinsics_px.numpy(), invert(stored.pose).numpy()
    again = read_as(path, "xreg", None)
    assert torch.allclose(again.pose, stored.pose)
    assert torch.allclose(again.camera.intrinsics_px, stored.camera.intrinsics_px)


def test_a_mayacam_is_a_camera_of_opencv(tmp_path):
    stored = view(1.0)
    size, k, rotation, translation = (
        [[float(x) for x in line.split(",")] for line in block.splitlines()[1:]]
        for block in written("mayacam", stored, tmp_path).read_text().split("\n\n")
    )
    assert size == [[stored.camera.width, stored.camera.height]]
    points, pixels = points_and_pixels(stored)
    outer = torch.cat([torch.tensor(rotation, **DOUBLE), torch.tensor(translation, **DOUBLE)], dim=1)
    assert torch.allclose(seen(torch.tensor(k, **DOUBLE) @ outer, points), pixels, atol=1e-8)


def test_slicers_matrix_is_the_inverse_of_itks_with_both_frames_in_ras(tmp_path):
    stored = view(-1.0)
    shown = torch.from_numpy(np.loadtxt(written("slicer", stored, tmp_path)))
    transform = sitk.ReadTransform(str(written("itk", stored, tmp_path)))
    turn = torch.tensor([-1.0, -1.0, 1.0], **DOUBLE)
    for point in POINTS:
        in_camera = torch.tensor(transform.TransformPoint(point.tolist()), **DOUBLE)
        assert torch.allclose(transform_points(shown, (in_camera * turn)[None])[0], point * turn, atol=1e-8)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_rtks_matrix_maps_points_to_the_millimetres_of_their_pixels(tmp_path, sign):
    stored = view(sign)
    root = ET.fromstring(written("rtk", stored, tmp_path).read_text())
    matrix = torch.tensor([float(x) for x in root.find("Projection/Matrix").text.split()], **DOUBLE).reshape(3, 4)
    points, pixels = points_and_pixels(stored)
    spacing, origin = (
        torch.tensor(pair, **DOUBLE) for pair in (rtk_pixel_mm(stored.camera), rtk_origin_mm(stored.camera))
    )
    along = torch.tensor([-sign, 1.0], **DOUBLE)
    assert torch.allclose(seen(matrix, points), origin + along * spacing * pixels, atol=1e-7)


def write_ct(volume, path: Path) -> Path:
    """A volume as a CT that holds its attenuation itself."""
    return write_volume(path, volume.values.numpy(), volume.volume_from_voxel.numpy())


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_nanodrr_renders_the_same_picture_of_the_same_file(tmp_path, sign):
    from nanodrr.data import Subject
    from nanodrr.drr import render as nanodrr_render

    stored, volume = view(sign), chest_volume()
    subject = Subject.from_filepath(write_ct(volume, tmp_path / "ct.nii.gz"), convert_to_mu=False)
    entries = json.loads(written("nanodrr", stored, tmp_path).read_text())
    k_inv, rt_inv = (torch.tensor(entries[key])[None] for key in ("k_inv", "rt_inv"))
    sdd = torch.tensor([entries["sdd"]])
    theirs = nanodrr_render(subject, k_inv, rt_inv, sdd, entries["height"], entries["width"], n_samples=1200)[0]
    ours = render(volume, stored.camera, stored.pose[None], 0.25)
    assert relative_error(ours, theirs) < 1e-3


@pytest.mark.skipif(find_spec("itk") is None, reason="itk-rtk is an extra of the benchmarks")
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_rtk_renders_the_same_picture_of_the_same_file(tmp_path, sign):
    import itk
    from itk import RTK as rtk

    stored, volume = view(sign), chest_volume()
    reader = rtk.ThreeDCircularProjectionGeometryXMLFileReader.New()
    reader.SetFilename(str(written("rtk", stored, tmp_path)))
    reader.GenerateOutputInformation()
    image = itk.imread(str(write_ct(volume, tmp_path / "ct.nii.gz")), itk.F)
    camera, image_type = stored.camera, itk.Image[itk.F, 3]
    picture = itk.image_from_array(np.zeros((1, camera.height, camera.width), np.float32))
    picture.SetSpacing([*rtk_pixel_mm(camera), 1.0])
    picture.SetOrigin([*rtk_origin_mm(camera), 0.0])
    picture.SetDirection(np.diag([-sign, 1.0, 1.0]))
    projector = rtk.JosephForwardProjectionImageFilter[image_type, image_type].New()
    projector.SetGeometry(reader.GetOutputObject())
    projector.SetInput(0, picture)
    projector.SetInput(1, image)
    projector.Update()
    theirs = torch.from_numpy(itk.array_from_image(projector.GetOutput())).clone()
    assert relative_error(render(volume, camera, stored.pose[None], 0.25), theirs) < 1e-3


def test_rtk_finds_its_own_geometry_again_in_a_file_of_shared_values(tmp_path):
    text = """<?xml version="1.0"?>
<!DOCTYPE RTKGEOMETRY>
<RTKThreeDCircularGeometry version="3">
  <SourceToIsocenterDistance>1000</SourceToIsocenterDistance>
  <SourceToDetectorDistance>1536</SourceToDetectorDistance>
  <Projection>
    <GantryAngle>90</GantryAngle>
    <ProjectionOffsetX>-117</ProjectionOffsetX>
  </Projection>
</RTKThreeDCircularGeometry>
"""
    (tmp_path / "g.xml").write_text(text)
    found = read_as(tmp_path / "g.xml", "rtk", view(-1.0).camera)
    # At 90 degrees the source is on the fixed frame's x.
    assert torch.allclose(found.pose[:3, 3], torch.tensor([1000.0, 0.0, 0.0], **DOUBLE), atol=1e-9)
    assert found.camera.source_to_detector_mm == pytest.approx(1536)
    assert to_rtk(found.camera, found.pose).projection_offset_x == pytest.approx(-117)


def test_the_command_converts_there_and_back(tmp_path):
    stored = view(-1.0)
    write_pose(tmp_path / "pose.json", stored.pose, stored.camera)
    for arguments in (
        ("pose.json", "--to", "rtk"),
        ("pose.rtk.xml", "--from", "rtk", "--camera", "pose.json", "--to", "roireg", "-o", "again.json"),
        ("pose.json", "--to", "mayacam", "--flip"),
    ):
        result = converted(tmp_path, *arguments)
        assert result.exit_code == 0, result.output
    assert torch.allclose(read_pose(tmp_path / "again.json").pose, stored.pose, atol=1e-9)
    matrix = (tmp_path / "pose.mayacam.txt").read_text().split("camera matrix\n")[1]
    assert float(matrix.split(",")[0]) == pytest.approx(-float(stored.camera.intrinsics_px[0, 0]))


def converted(folder: Path, *arguments: str):
    files = {"pose.json", "pose.rtk.xml", "again.json", "broken"}
    given = [str(folder / one) if one in files else one for one in arguments]
    return CliRunner().invoke(app, ["convert", *given])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pose.json", "--to", "word"), "there is no such format"),
        (("pose.json", "--from", "slicer-points", "--to", "roireg"), "such files are written only"),
        (("pose.json", "--from", "matrix", "--to", "roireg"), "with --camera"),
        (("broken", "--from", "matrix", "--camera", "pose.json", "--to", "roireg"), "no matrix of 4 rows"),
        (("broken", "--from", "diffdrr", "--to", "roireg"), "not JSON"),
        (("broken", "--from", "xreg", "--to", "roireg"), "not a readable HDF5 file"),
        (("broken", "--from", "rtk", "--camera", "pose.json", "--to", "roireg"), "not XML"),
        (("broken", "--from", "mayacam", "--camera", "pose.json", "--to", "roireg"), "image size: it is missing"),
        (("broken", "--from", "itk", "--camera", "pose.json", "--to", "roireg"), "ITK cannot read it"),
        (("pose.json", "--from", "nanodrr", "--to", "roireg"), "k_inv: it is missing"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tmp_path, arguments, said):
    stored = view(-1.0)
    write_pose(tmp_path / "pose.json", stored.pose, stored.camera)
    (tmp_path / "broken").write_text("1 2 3\n")
    result = converted(tmp_path, *arguments)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


TEXTS = sorted(set(BOTH_WAYS) - {"xreg"})
ODD = st.one_of(
    st.text(max_size=8), st.sampled_from(["nan", "1e999", "-1", "0", '"', "<", "[", "]", "\n", ",", "\x00", "null"])
)


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1), length=st.integers(0, 60), odd=ODD)
def test_a_damaged_file_gives_a_pose_or_an_error_of_one_line(name, at, length, odd):
    stored = view(-1.0)
    with TemporaryDirectory() as folder:
        path = written(name, stored, Path(folder))
        text = path.read_text()
        start = int(at * len(text))
        path.write_text(text[:start] + odd + text[start + length :], encoding="utf-8", errors="surrogatepass")
        try:
            found = read_as(path, name, stored.camera)
        except InputError as error:
            # Its text is one line by itself; any other exception fails.
            told = str(error)
        else:
            told = "" if is_rigid(found.pose) and bool(found.camera.intrinsics_px.isfinite().all()) else "\n"
    assert "\n" not in told


def test_a_skewed_camera_has_no_parameters_in_rtk(tmp_path):
    stored = view(1.0)
    stored.camera.intrinsics_px[0, 1] = 5.0
    with pytest.raises(InputError, match="skewed"):
        written("rtk", stored, tmp_path)


def test_the_help_names_every_format():
    assert set(re.findall(r"[a-z-]+", re.sub(r"\(.*?\)", "", POSE_FORMATS))) == set(FORMATS)
