"""The scene for 3D Slicer, read as Slicer reads it: the CT, the detector and the source are where they were."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from own_patient import carm_camera, frame_of

from roireg.data.xray import Xray
from roireg.geometry.camera import Camera
from roireg.geometry.poses import pa_pose, perturb
from roireg.report.slicer_scene import detector_image, write_scene

CENTER = torch.tensor([12.0, -40.0, 300.0], dtype=torch.float64)
TWIST = torch.tensor([0.1, -0.2, 0.05, 5.0, -8.0, 12.0], dtype=torch.float64)
POSE = perturb(pa_pose(CENTER, 720.0), TWIST, CENTER)
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def off_centre(sign: float) -> Camera:
    """Unlike sides and pixels, and a central ray away from the middle."""
    k = [[sign * 1000.0, 0.0, 70.0], [0.0, 500.0, 22.0], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, dtype=torch.float64), 50, 120, (1.0, 2.0))


def matrix(text: str) -> np.ndarray:
    return np.array(text.split(), float).reshape(4, 4)


def vector(text: str) -> np.ndarray:
    return np.array(text.split(), float)


def world(point: torch.Tensor) -> np.ndarray:
    """A point of the camera, in RAS."""
    return (RAS @ POSE.numpy() @ [*point.tolist(), 1.0])[:3]


@pytest.fixture(params=[-1.0, 1.0], ids=["from-behind", "from-the-source"])
def scene(request, tmp_path) -> tuple[Path, Camera, dict[str, ET.Element]]:
    """The folder of a scene, the camera, and the scene's nodes by id."""
    camera = off_centre(request.param)
    image = torch.rand(camera.height, camera.width, generator=torch.Generator().manual_seed(0))
    folder, ct = tmp_path / "result", tmp_path / "a patient's 100% CT.nii.gz"
    ct.touch()
    written = write_scene(folder, ct, Xray("x.dcm", image, camera, torch.eye(4, dtype=torch.float64)), POSE)
    assert [path.name for path in written] == ["scene.mrml", "xray.nrrd"]
    root = ET.parse(written[0]).getroot()
    assert root.tag == "MRML"
    return folder, camera, {node.attrib["id"]: node for node in root}


def referred(nodes: dict[str, ET.Element], node: ET.Element, role: str) -> ET.Element:
    """The node to which another refers, in both ways in which Slicer's versions read it."""
    by_role = dict(one.split(":") for one in node.attrib["references"].split(";") if one)
    assert node.attrib[f"{role}NodeRef"] == by_role[role]
    return nodes[by_role[role]]


def stored(folder: Path, nodes: dict[str, ET.Element], volume: ET.Element) -> Path:
    name = referred(nodes, volume, "storage").attrib["fileName"]
    for code, letter in (("%20", " "), ("%27", "'"), ("%25", "%")):
        name = name.replace(code, letter)
    return folder / name


def test_slicer_finds_the_ct_and_places_the_x_rays_pixels_where_the_detectors_are(scene):
    folder, camera, nodes = scene
    ct, xray = (nodes[f"vtkMRMLScalarVolumeNode{number}"] for number in (1, 2))
    assert stored(folder, nodes, ct).resolve().is_file()
    assert "transformNodeRef" not in ct.attrib
    image = sitk.ReadImage(str(stored(folder, nodes, xray)))
    assert image.GetSize() == (camera.width, camera.height, 1)
    placed = matrix(referred(nodes, xray, "transform").attrib["matrixTransformToParent"])
    # Slicer turns what it reads from LPS to RAS, and applies the transform.
    ras_from_pixel = placed @ RAS @ frame_of(image)
    for row, column in ((0, 0), (0, camera.width - 1), (camera.height - 1, 0), (30, 70)):
        seen = (ras_from_pixel @ [column, row, 0, 1])[:3]
        np.testing.assert_allclose(seen, world(camera.detector_points_mm[row, column]), atol=1e-9)
    assert np.linalg.det(ras_from_pixel[:3, :3]) > 0


def test_the_camera_is_at_the_source_and_sees_the_height_of_the_detector(scene):
    _, camera, nodes = scene
    view = nodes["vtkMRMLCameraNode1"].attrib
    source, target, up = (vector(view[name]) for name in ("position", "focalPoint", "viewUp"))
    np.testing.assert_allclose(source, world(torch.zeros(3)), atol=1e-9)
    np.testing.assert_allclose(target, world(camera.detector_points_mm.mean((0, 1))), atol=1e-9)
    top, bottom = (world(camera.detector_points_mm[row].mean(0)) for row in (0, -1))
    assert up @ (top - bottom) == pytest.approx(np.linalg.norm(top - bottom))
    # From the middle of the first row of pixels to that of the last, and a pixel more.
    height = np.linalg.norm(top - bottom) * camera.height / (camera.height - 1)
    half = np.arctan(height / 2 / np.linalg.norm(target - source))
    assert float(view["viewAngle"]) == pytest.approx(np.rad2deg(2 * half))


def test_a_slice_lies_on_the_detector_and_shows_the_picture_as_it_is_stored(scene):
    _, camera, nodes = scene
    plane = nodes["vtkMRMLSliceNodeGreen"].attrib
    to_ras = matrix(plane["sliceToRAS"])
    assert np.linalg.det(to_ras[:3, :3]) == pytest.approx(1)
    points = camera.detector_points_mm
    for row, column in ((0, 0), (camera.height - 1, camera.width - 1)):
        x, y, z, _ = np.linalg.inv(to_ras) @ [*world(points[row, column]), 1.0]
        assert z == pytest.approx(0, abs=1e-9)
        # The first pixel is above and left of the middle, the last one below and right.
        assert (x < 0, y > 0) == (row == 0, row == 0)
    across = float((points[0, 1] - points[0, 0]).norm()) * camera.width
    assert vector(plane["fieldOfView"])[0] == pytest.approx(across)
    assert nodes["vtkMRMLSliceCompositeNodeGreen"].attrib["backgroundVolumeID"] == "vtkMRMLScalarVolumeNode2"


def test_grey_values_are_those_of_the_x_ray():
    image = torch.arange(100.0).reshape(10, 10) / 100
    camera = carm_camera(10)
    found = sitk.GetArrayFromImage(detector_image(image, camera))
    np.testing.assert_array_equal(found[0], image.numpy())


def test_a_series_is_named_by_its_first_file(tmp_path):
    (tmp_path / "series").mkdir()
    for name in ("b.dcm", "a.dcm"):
        (tmp_path / "series" / name).touch()
    camera = carm_camera(4)
    xray = Xray("x", torch.zeros(4, 4), camera, torch.eye(4, dtype=torch.float64))
    scene, _ = write_scene(tmp_path / "out", tmp_path / "series", xray, POSE)
    assert ET.parse(scene).find("VolumeArchetypeStorage").attrib["fileName"] == "../series/a.dcm"


def test_a_skewed_detector_is_refused():
    camera = carm_camera(4)
    skewed = camera.intrinsics_px.clone()
    skewed[0, 1] = 100.0
    with pytest.raises(ValueError, match="right angles"):
        detector_image(torch.zeros(4, 4), replace(camera, intrinsics_px=skewed))
