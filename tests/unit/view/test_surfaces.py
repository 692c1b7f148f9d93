"""Surfaces and geometry of the 3D scene: where the bones are, and where the X-ray's picture lies."""

import struct

import numpy as np
import pytest
import torch
from workbench import running

from roireg.data.patient import BONE_HU, Patient, no_points
from roireg.data.volume import MU_BONE_PER_MM, MU_WATER_PER_MM, Volume, attenuation_from_hu
from roireg.geometry.camera import project
from roireg.view.surfaces import bone_surface, packed
from roireg.view.told import pose_entries

CENTER_MM, RADIUS_MM = np.array([12.0, -7.0, 30.0]), 20.0
# Left-handed and rectangular, as scanners write it.
FRAME = np.array([[2.0, 0, 0, -40], [0, -1.5, 0, 50], [0, 0, 3.0, -20], [0, 0, 0, 1]])


def ball(labelled: bool) -> Patient:
    """A ball of bone in water."""
    z, y, x = np.mgrid[:34, :70, :52]
    at = np.stack([x, y, z], axis=-1) @ FRAME[:3, :3].T + FRAME[:3, 3]
    # A ramp at the surface, as partial volumes make it.
    distance = np.linalg.norm(at - CENTER_MM, axis=-1)
    hu = torch.from_numpy(np.clip(BONE_HU + 100 * (RADIUS_MM - distance), 0, 800)).float()
    volume = Volume(attenuation_from_hu(hu, MU_WATER_PER_MM, MU_BONE_PER_MM), torch.from_numpy(FRAME))
    labels = torch.from_numpy((distance < RADIUS_MM).astype(np.uint8) * 5) if labelled else None
    names = {3: "not there", 5: "ball"} if labelled else {}
    return Patient("ball", volume, labels, names, volume.center_mm, no_points())


@pytest.mark.parametrize(("labelled", "color", "off_mm"), [(False, 0, 0.4), (True, 2, 1.5)])
def test_the_surface_of_a_ball_is_a_sphere_seen_from_outside(labelled, color, off_mm):
    surface = bone_surface(ball(labelled))
    arms = surface.vertices_mm - CENTER_MM
    np.testing.assert_allclose(np.linalg.norm(arms, axis=1), RADIUS_MM, atol=off_mm)
    assert len(surface.faces) > 500
    assert set(surface.colors.tolist()) == {color}
    aligned = np.abs((surface.normals * arms).sum(axis=1)) / np.linalg.norm(arms, axis=1)
    assert float(np.median(aligned)) > 0.97


def test_it_is_closed_where_the_ct_ends():
    surface = bone_surface(ball(False))
    edges = np.sort(surface.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()


def test_a_ct_without_bone_has_no_surface():
    soft = ball(False)
    empty = bone_surface(
        Patient("soft", soft.volume.with_values(soft.volume.values * 0), None, {}, soft.center_mm, no_points())
    )
    assert packed(empty) == struct.pack("<II", 0, 0)


def test_the_page_gets_the_surface_and_the_corners_of_the_detector(files, tmp_path):
    with running(files.opened(xrays=2), tmp_path) as client:
        state = client.workbench.state
        data = client.get("/api/surface").content
        vertices, faces = struct.unpack_from("<II", data)
        assert len(data) == 8 + 24 * vertices + 12 * faces + vertices
        triangles = np.frombuffer(data, "<u4", 3 * faces, 8 + 24 * vertices)
        assert int(triangles.max()) == vertices - 1
        for number, told in enumerate(pose_entries(state)["views"]):
            camera = state.views[number].shown.camera
            corners = torch.tensor(told["corners_mm"], dtype=torch.float64)
            right, bottom = camera.width - 0.5, camera.height - 0.5
            expected = torch.tensor([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]], dtype=torch.float64)
            torch.testing.assert_close(project(corners, camera, state.pose(number)), expected)
            away = torch.linalg.norm(corners.mean(0) - torch.tensor(told["source_mm"], dtype=torch.float64))
            assert float(away) == pytest.approx(camera.source_to_detector_mm, rel=0.05)
