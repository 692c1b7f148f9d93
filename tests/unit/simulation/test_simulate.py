"""X-ray formation: rays against closed forms and the registration's renderer, beam, noise, instruments."""

import numpy as np
import pytest
import torch

from roireg.data.volume import Volume
from roireg.drr import render
from roireg.geometry.camera import Camera
from roireg.geometry.poses import pa_pose, perturb
from roireg.simulation.xray_formation import (
    BIN_KEV,
    BIN_WEIGHTS,
    FULL_SCALE,
    MATERIALS,
    MM_PER_CM,
    Aperture,
    Body,
    Cylinder,
    Detector,
    aperture_mask,
    areal_densities,
    cylinder_chord,
    densities_from_hu,
    detect,
    mass_attenuation,
    scatter,
    siddon,
    split_bodies,
    transmission,
)

SDD_MM = 1000.0
OPEN = Aperture((31.5, 31.5), (1e3, 1e3), 8.0)


def make_camera(size: int = 65, pixel_mm: float = 1.0) -> Camera:
    focal = SDD_MM / pixel_mm
    middle = (size - 1) / 2
    k = torch.tensor([[-focal, 0, middle], [0, focal, middle], [0, 0, 1]], dtype=torch.float64)
    return Camera(k, size, size, (pixel_mm, pixel_mm))


def turned_pose(twist: list[float] | None = None) -> np.ndarray:
    center = torch.zeros(3, dtype=torch.float64)
    pose = pa_pose(center, 700.0)
    return perturb(pose, torch.tensor(twist or [0.0] * 6, dtype=torch.float64), center).numpy()


def box_chords(lower: np.ndarray, upper: np.ndarray, camera: Camera, pose: np.ndarray) -> np.ndarray:
    """Length of every ray in an axis-aligned box, by slabs, in float64."""
    source = pose[:3, 3]
    ray = camera.detector_points_mm.numpy() @ pose[:3, :3].T
    ray = np.where(np.abs(ray) < 1e-12, 1e-12, ray)
    a, b = (lower - source) / ray, (upper - source) / ray
    near, far = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return np.maximum(far - near, 0) * camera.ray_lengths_mm.numpy()


def grid(shape: tuple[int, int, int], spacing_mm: float) -> np.ndarray:
    """`volume_from_voxel` of a grid centred on the origin."""
    frame = np.diag([spacing_mm] * 3 + [1.0])
    frame[:3, 3] = -spacing_mm * (np.array(shape[::-1]) - 1) / 2
    return frame


def test_siddon_through_a_unit_cube_gives_its_edge():
    camera = make_camera()
    image = siddon(np.ones((1, 1, 1), np.float32), np.eye(4), camera, turned_pose())
    assert image[32, 32] == pytest.approx(1.0, abs=1e-6)
    assert image[0, 0] == 0


@pytest.mark.parametrize("twist", [[0.0] * 6, [0.4, -0.3, 0.7, 5.0, 8.0, -6.0], [1.2, 0.9, -2.0, 0.0, 0.0, 0.0]])
def test_siddon_through_a_solid_box_gives_the_chords(twist):
    camera, pose = make_camera(), turned_pose(twist)
    shape = (9, 7, 11)
    frame = grid(shape, 2.0)
    half = np.array(shape[::-1]) * 2.0 / 2
    image = siddon(np.full(shape, 3.0, np.float32), frame, camera, pose)
    np.testing.assert_allclose(image, 3 * box_chords(-half, half, camera, pose), atol=2e-3)


def test_siddon_weighs_every_voxel_by_its_chord():
    rng = np.random.default_rng(0)
    camera, pose = make_camera(17, 3.0), turned_pose([0.5, 0.2, -0.4, 1.0, 2.0, 3.0])
    shape = (3, 4, 5)
    density, frame = rng.random(shape, dtype=np.float32), grid(shape, 6.0)
    expected = np.zeros((17, 17))
    for z, y, x in np.ndindex(*shape):
        center = frame[:3, :3] @ [x, y, z] + frame[:3, 3]
        expected += density[z, y, x] * box_chords(center - 3, center + 3, camera, pose)
    np.testing.assert_allclose(siddon(density, frame, camera, pose), expected, atol=2e-4)


def test_siddon_integrates_materials_as_it_does_one_by_one():
    rng = np.random.default_rng(1)
    density = rng.random((6, 5, 7, 2), dtype=np.float32)
    camera, pose, frame = make_camera(), turned_pose([0.3, 0.1, 0.2, 0.0, 0.0, 0.0]), grid((6, 5, 7), 3.0)
    together = siddon(density, frame, camera, pose)
    for k in range(2):
        np.testing.assert_array_equal(together[..., k], siddon(density[..., k], frame, camera, pose))


def test_siddon_agrees_with_the_registration_renderer_on_a_smooth_phantom():
    shape, spacing = (60, 60, 60), 1.5
    frame = grid(shape, spacing)
    axis = frame[0, 3] + spacing * np.arange(60)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    density = (np.exp(-((x - 5) ** 2 + y**2 + (z + 4) ** 2) / (2 * 12.0**2)) * 0.02).astype(np.float32)
    camera, pose = make_camera(64, 1.8), turned_pose([0.2, 0.3, -0.1, 4.0, 3.0, -5.0])
    exact = siddon(density, frame, camera, pose)
    volume = Volume(torch.from_numpy(density), torch.from_numpy(frame))
    marched = render(volume, camera, torch.from_numpy(pose)[None], step_mm=0.5)[0].numpy()
    assert np.abs(exact - marched).max() < 0.01 * exact.max()
    assert exact.max() == pytest.approx(0.02 * np.sqrt(2 * np.pi) * 12.0, rel=0.01)


def test_densities_are_those_of_water_bone_air_and_metal():
    hu = np.array([-1000.0, 0.0, 99.999, 100.001, 850.0, 1600.0, 3000.0], np.float32)
    soft, bone, metal = densities_from_hu(hu, hu > 2500).T
    np.testing.assert_allclose(soft, [0, 1, 1.1, 1.1, 0.55, 0, 0], atol=1e-4)
    np.testing.assert_allclose(bone, [0, 0, 0, 0, 0.96, 1.92, 0], atol=1e-4)
    np.testing.assert_allclose(metal, [0, 0, 0, 0, 0, 0, 4.0])


def test_bodies_that_do_not_move_add_up_to_the_undivided_patient():
    rng = np.random.default_rng(2)
    hu = np.full((20, 22, 24), -1000.0, np.float32)
    hu[3:17, 3:19, 2:22] = 40.0
    bone = np.zeros(hu.shape, bool)
    bone[6:14, 8:15, 5:11] = True
    hu[bone] = rng.uniform(100, 1500, bone.sum())
    camera, pose, frame = make_camera(48, 2.5), turned_pose([0.1, -0.2, 0.3, 0.0, 4.0, 0.0]), grid(hu.shape, 3.0)
    bodies = split_bodies(hu, np.zeros(hu.shape, bool), [bone], frame)
    whole = siddon(densities_from_hu(hu, np.zeros(hu.shape, bool)), frame, camera, pose) / MM_PER_CM
    np.testing.assert_allclose(areal_densities(bodies, [pose, pose], camera), whole, atol=1e-4)
    assert bodies[1].density.shape[:3] == (8, 7, 6)


def test_a_body_casts_its_shadow_under_its_own_pose():
    density = np.ones((3, 3, 3, 1), np.float32)
    body = Body(density, (1,), grid((3, 3, 3), 2.0))
    camera, moved = make_camera(), turned_pose([0.0, 0.0, 0.0, 10.0, 0.0, 0.0])
    shadow = areal_densities([body, body], [turned_pose(), moved], camera)[..., 1]
    alone = areal_densities([body], [moved], camera)[..., 1]
    assert shadow[32, 32] > 0
    assert alone[32, 32] == 0
    assert alone.max() == pytest.approx(shadow[32, 32], rel=0.02)


def test_the_chord_at_the_axis_of_a_cylinder_is_its_diameter():
    camera, pose = make_camera(), turned_pose()
    chord = cylinder_chord(Cylinder((0, 0, -30), (0, 0, 30), 2.0), camera, pose)
    assert chord[32, 32] == pytest.approx(4.0, abs=1e-6)
    # 1.4 mm off the axis at the isocentre is 2 px at a magnification of 1000/700
    assert chord[32, 34] == pytest.approx(2 * np.sqrt(4 - 1.4**2), rel=1e-3)
    assert chord[32, 40] == 0


def test_a_cylinder_ends_where_its_axis_ends():
    camera, pose = make_camera(), turned_pose()
    along_the_ray = cylinder_chord(Cylinder((0, -25, 0), (0, 25, 0), 3.0), camera, pose)
    assert along_the_ray[32, 32] == pytest.approx(50.0, abs=1e-6)
    short = cylinder_chord(Cylinder((-7, 0, 0), (7, 0, 0), 1.0), camera, pose)
    assert short[32, 32 + 9] > 0
    assert short[32, 32 + 12] == 0


def test_mass_attenuation_falls_with_energy_and_meets_the_table():
    table = mass_attenuation(BIN_KEV)
    assert table.shape == (len(MATERIALS), len(BIN_KEV))
    assert (np.diff(table) < 0).all()
    np.testing.assert_allclose(table[:, 2], [0.2059, 0.3148, 1.205])


def test_a_thin_layer_attenuates_by_the_mean_coefficient_and_a_thick_one_by_less():
    mean = mass_attenuation(BIN_KEV) @ (BIN_WEIGHTS / BIN_WEIGHTS.sum())
    for k in range(len(MATERIALS)):
        areal = np.zeros((1, 3, 3))
        areal[0, :, k] = [1e-3, 10.0, 20.0]
        thin, thick, doubled = -np.log(transmission(areal).astype(np.float64))[0]
        assert thin == pytest.approx(1e-3 * mean[k], rel=1e-2)
        assert thick < doubled < 2 * thick
        assert doubled < 0.995 * 2 * thick


def test_scatter_of_an_even_field_is_the_ratio_and_of_an_uneven_one_is_smooth():
    np.testing.assert_allclose(scatter(np.full((70, 50), 2.0, np.float32), 0.3, 100.0), 0.6, rtol=1e-5)
    step = np.zeros((128, 128), np.float32)
    step[:, 64:] = 1
    smooth = scatter(step, 0.3, 32.0)
    assert np.abs(np.diff(smooth, axis=1)).max() < 0.02
    assert smooth[64, 100] > smooth[64, 30]


def test_an_open_field_reaches_full_scale_with_poisson_noise():
    detector = Detector(5e4, 0.3, 20.0, 1e-3)
    image = detect(np.full((64, 64), 0.2, np.float32), detector, OPEN, np.random.default_rng(0)).astype(float)
    assert image.mean() == pytest.approx(0.2 * FULL_SCALE, rel=0.002)
    assert image.std() == pytest.approx(0.2 * FULL_SCALE / np.sqrt(0.2 * 5e4), rel=0.05)


def test_detector_blur_correlates_neighbours():
    open_field = np.full((64, 64), 0.2, np.float32)
    sharp, blurred = (
        detect(open_field, Detector(5e4, 0.0, 20.0, sigma), OPEN, np.random.default_rng(0)).astype(float)
        for sigma in (1e-3, 0.8)
    )
    assert blurred.std() < 0.6 * sharp.std()


def test_outside_the_aperture_little_is_left():
    aperture = Aperture((31.5, 31.5), (25.0, 25.0), 6.0)
    mask = aperture_mask(aperture, 64, 64)
    assert mask[32, 32] == 1
    assert mask[0, 0] == pytest.approx(0.01)
    assert mask[32, 0] == pytest.approx(0.01)
    image = detect(np.full((64, 64), 0.5, np.float32), Detector(1e5, 0.3, 5.0, 0.5), aperture, np.random.default_rng(0))
    assert image[0, 0] < 0.15 * image[32, 32]


def test_the_seed_decides_the_image():
    def image(seed: int) -> bytes:
        field = np.full((32, 32), 0.3, np.float32)
        return detect(field, Detector(1e4, 0.3, 10.0, 0.5), OPEN, np.random.default_rng(seed)).tobytes()

    assert image(3) == image(3)
    assert image(3) != image(4)
