"""The demo data on a synthetic pelvis: download, frames, labels, landmarks, deformation, scan, and the file written."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
import torch
from scipy import ndimage

from roireg.data import deepfluoro
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.volume import Volume, attenuation_from_hu
from roireg.demo import anatomy, source, specimens
from roireg.demo.continuation import extend
from roireg.demo.dataset import (
    expose,
    label_volumes,
    make_dataset,
    pelvis_center_mm,
    segmentation,
    specimen_bodies,
)
from roireg.demo.exposures import (
    Exposure,
    ExposureSettings,
    articulated,
    carm,
    draw_exposure,
    draw_twist,
    exposure_settings,
)
from roireg.demo.landmarks import LANDMARKS, femoral_head, find_landmarks, fit_sphere
from roireg.demo.warp import jacobian_determinant, random_warp
from roireg.drr import coverage, project_mask, render
from roireg.errors import InputError
from roireg.geometry.camera import project, rotate_image_180
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import transform_points

SPACING_MM = 3.0
SHAPE = (50, 60, 90)
MIDDLE_MM = 135.0
ORIGIN_MM = np.array([-130.0, -75.0, 400.0])
HEAD_RADIUS_MM = 24.0
DETECTOR = {"rows": 96, "columns": 96, "pixel_mm": 3.104}


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """HU and TotalSegmentator ids `(z, y, x)` of a crude pelvis, LPS, with a metal pin in the left femur."""
    z, y, x = (SPACING_MM * grid for grid in np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))
    hu = np.full(SHAPE, -1000, np.int16)
    hu[((x - MIDDLE_MM) / 125) ** 2 + ((y - 90) / 80) ** 2 < 1] = 40
    ids = np.zeros(SHAPE, np.uint8)

    def rod(start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
        axis = end - start
        t = np.clip(
            ((x - start[0]) * axis[0] + (y - start[1]) * axis[1] + (z - start[2]) * axis[2]) / (axis @ axis), 0, 1
        )
        offsets = (x - start[0] - t * axis[0], y - start[1] - t * axis[1], z - start[2] - t * axis[2])
        return sum(offset**2 for offset in offsets) < radius**2

    for side, hip, femur in ((1, 77, 75), (-1, 78, 76)):
        u = side * (x - MIDDLE_MM)
        head = np.array([MIDDLE_MM + side * 75, 85, 42.0])
        from_head = np.sqrt((x - head[0]) ** 2 + (y - head[1]) ** 2 + (z - head[2]) ** 2)
        front = 50 + np.abs(z - 100) / 2
        back = np.where(z < 81, 110, 140)
        ids[(np.abs(u - 80) < 8) & (y > front) & (y < back) & (z > 60) & (z < 140)] = hip
        ids[(from_head > 24) & (from_head < 31) & (z > 42)] = hip
        ids[(u > 2) & (u < 25) & (y > 35) & (y < 55) & (z < 27)] = hip
        ids[(u > 45) & (u < 62) & (y > 95) & (y < 125) & (z < 45)] = hip
        corner = MIDDLE_MM + side * 20
        ids[rod(np.array([corner, 45, 21.0]), np.array([MIDDLE_MM + side * 55, 105, 24.0]), 9)] = hip
        shaft = rod(np.array([MIDDLE_MM + side * 105, 90, -50.0]), np.array([MIDDLE_MM + side * 105, 90, 20.0]), 16)
        ids[shaft | rod(head, np.array([MIDDLE_MM + side * 105, 90, 20.0]), 12) | (from_head < HEAD_RADIUS_MM)] = femur
    middle = np.abs(x - MIDDLE_MM)
    ids[(middle < 25) & (y > 120) & (y < 150) & (z > 60) & (z < 115)] = 25
    ids[(middle < 20) & (y > 115) & (y < 145) & (z > 115) & (z < 127)] = 26
    ids[(middle < 20) & (y > 110) & (y < 145) & (z >= 127)] = 27
    hu[ids > 0] = 400
    hu[(np.hypot(x - MIDDLE_MM - 105, y - 90) < 5) & (z < 30)] = 3000
    return hu, ids


def save_nifti(path: Path, array_zyx: np.ndarray, origin_mm: np.ndarray = ORIGIN_MM) -> Path:
    """Write an LPS array as a NIfTI file that runs right to left, anterior to posterior."""
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -origin_mm[0], -origin_mm[1], origin_mm[2]
    nibabel.save(nibabel.Nifti1Image(array_zyx.transpose(2, 1, 0), affine), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("phantom")
    hu, ids = phantom()
    return save_nifti(folder / "ct.nii.gz", hu), save_nifti(folder / "labels.nii.gz", ids)


@pytest.fixture(scope="module")
def patient(files) -> anatomy.Anatomy:
    return anatomy.load_anatomy(*files)


@pytest.fixture(scope="module")
def dataset(files, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "demo.h5"
    make_dataset(*files, path, specimens=2, xrays_per_specimen=3, seed=5, **DETECTOR)
    return path


# download


def build_archive(path: Path, contents: dict[str, bytes]) -> source.Archive:
    """A source distribution with these members, and its description."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"package-1.0/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    path.write_bytes(gzip.compress(raw.getvalue()))
    members = tuple(source.Member(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items())
    return source.Archive(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), members)


def test_members_of_a_given_archive_are_written_and_nothing_else(tmp_path):
    archive = build_archive(tmp_path / "a.tar.gz", {"tests/ct": b"ct bytes", "tests/labels": b"label bytes"})
    out = tmp_path / "out"
    source.download(out / "ct.nii.gz", out / "labels.nii.gz", tmp_path / "a.tar.gz", archive)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        "ct.nii.gz": b"ct bytes",
        "labels.nii.gz": b"label bytes",
    }


@pytest.mark.parametrize("broken", ["archive", "member"])
def test_a_wrong_hash_is_named_and_leaves_nothing(tmp_path, broken):
    archive = build_archive(tmp_path / "a.tar.gz", {"ct": b"ct bytes", "labels": b"label bytes"})
    wrong = "0" * 64
    if broken == "archive":
        expected = replace(archive, sha256=wrong)
        found, where = archive.sha256, "a.tar.gz"
    else:
        expected = replace(archive, members=(archive.members[0], replace(archive.members[1], sha256=wrong)))
        found, where = archive.members[1].sha256, "a.tar.gz:labels"
    out = tmp_path / "out"
    with pytest.raises(InputError) as error:
        source.download(out / "ct", out / "labels", tmp_path / "a.tar.gz", expected)
    assert error.value.where.endswith(where)
    assert wrong in str(error.value)
    assert found in str(error.value)
    assert not out.exists() or not list(out.iterdir())


def test_an_archive_without_a_member_is_refused(tmp_path):
    archive = build_archive(tmp_path / "a.tar.gz", {"ct": b"ct bytes"})
    more = replace(archive, members=(*archive.members, source.Member("labels", "0" * 64)))
    with pytest.raises(InputError, match="labels"):
        source.download(tmp_path / "ct", tmp_path / "labels", tmp_path / "a.tar.gz", more)
    assert not (tmp_path / "ct").exists()


def test_without_a_network_the_error_is_one_line_and_nothing_is_left(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise requests.ConnectionError("long and technical\nmessage")

    monkeypatch.setattr(source.PyPISimple, "get_project_page", no_network)
    with pytest.raises(InputError, match="network") as error:
        source.download(tmp_path / "ct", tmp_path / "labels", show_progress=False)
    assert "\n" not in str(error.value)
    assert "sdist" in str(error.value)
    assert not list(tmp_path.iterdir())


# frames and labels


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SRP"])
def test_ras_becomes_lps(tmp_path, codes):
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = -10.0, 20.0, 30.0
    target = nibabel.orientations.axcodes2ornt(codes)
    image = nibabel.Nifti1Image(array, affine).as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), target)
    )
    nibabel.save(image, tmp_path / "turned.nii")
    values, volume_from_voxel = anatomy.read_upright(tmp_path / "turned.nii")
    np.testing.assert_allclose(np.diag(volume_from_voxel), [2, 3, 4, 1])
    for index in np.ndindex(array.shape):
        right, front, up = (affine @ [*index, 1.0])[:3]
        voxel = np.linalg.inv(volume_from_voxel) @ [-right, -front, up, 1.0]
        x, y, z = np.rint(voxel[:3]).astype(int)
        assert values[z, y, x] == array[index]


def test_a_ct_that_is_cut_off_is_refused(tmp_path, files):
    broken = tmp_path / "ct.nii.gz"
    broken.write_bytes(files[0].read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"truncated.*Run the download again"):
        anatomy.load_anatomy(broken, files[1])


def test_labels_get_deepfluoro_ids_and_the_lower_sacrum_none(patient):
    _, ids = phantom()
    assert (patient.labels[ids == 77] == 1).all()
    assert (patient.labels[ids == 78] == 2).all()
    assert (patient.labels[ids == 75] == 5).all()
    assert (patient.labels[ids == 76] == 6).all()
    assert (patient.labels[ids == 27] == 3).all()
    assert (patient.labels[ids == 26] == 4).all()
    levels = np.flatnonzero((ids == 25).any(axis=(1, 2)))
    assert not patient.labels[levels[0]][ids[levels[0]] == 25].any()
    assert (patient.labels[levels[-1]][ids[levels[-1]] == 25] == 4).all()


def test_metal_belongs_to_the_femur_within_reach():
    hu, labels = np.zeros((1, 1, 20), np.float32), np.zeros((1, 1, 20), np.uint8)
    labels[0, 0, 0] = 5
    hu[0, 0, [4, 15]] = 3000
    owners = anatomy.metal_owners(hu, labels, np.full(3, 3.0))
    assert owners[0, 0, 4] == 5
    assert owners[0, 0, 15] == anatomy.BODY_METAL
    assert np.count_nonzero(owners) == 2


def test_labels_without_a_femur_are_refused(files, tmp_path):
    _, ids = phantom()
    labels = save_nifti(tmp_path / "labels.nii.gz", np.where(ids == 75, 0, ids).astype(np.uint8))
    with pytest.raises(InputError, match="left femur"):
        anatomy.load_anatomy(files[0], labels)
    other_grid = save_nifti(tmp_path / "moved.nii.gz", ids, ORIGIN_MM + 1)
    with pytest.raises(InputError, match="its grid differs"):
        anatomy.load_anatomy(files[0], other_grid)


# landmarks


def test_a_sphere_is_found_among_outliers():
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((300, 3))
    points = 24 * directions / np.linalg.norm(directions, axis=1, keepdims=True) + [5, -3, 8]
    points[:30] += rng.uniform(5, 30, (30, 3))
    center, radius = fit_sphere(points, np.zeros(3), 20.0)
    np.testing.assert_allclose([*center, radius], [5, -3, 8, 24], atol=0.2)


def test_landmarks_lie_where_the_phantom_has_them(patient):
    found = find_landmarks(patient)
    assert tuple(found) == LANDMARKS
    assert len(found) == 14
    expected = {
        "ASIS": (80, 51, 100),
        "FH": (75, 85, 42),
        "GSN": (80, 108, 80),
        "IOF": (46, 97, 3),
        "MOF": (23, 54, 6),
        "SPS": (5, 45, 26),
        "IPS": (5, 45, 3),
    }
    for kind, (u, y, z) in expected.items():
        for side, sign in (("l", 1), ("r", -1)):
            truth = ORIGIN_MM + np.array([MIDDLE_MM + sign * u, y, z])
            tolerance = 1.0 if kind == "FH" else 4.0
            assert np.linalg.norm(found[f"{kind}-{side}"] - truth) < tolerance, (kind, side)


def test_the_head_has_its_radius_and_a_small_ball_is_no_head(patient):
    _, radius = femoral_head(patient.labels == 5, patient.volume_from_voxel)
    assert radius == pytest.approx(HEAD_RADIUS_MM, abs=1.0)
    offsets = np.meshgrid(*(SPACING_MM * (np.arange(30) - 15) for _ in range(3)), indexing="ij")
    small = np.sqrt(sum(offset**2 for offset in offsets)) < 13
    with pytest.raises(InputError, match="radius 1"):
        femoral_head(small, patient.volume_from_voxel)


# deformation, continuation, scan


def strong_warp(mirror: bool = True):
    rng = np.random.default_rng(4)
    return random_warp(rng, np.array([-200.0, -100, 0]), np.array([200.0, 150, 500]), 7.0, 45.0, 0.06, mirror)


def test_a_warp_is_a_diffeomorphism():
    warp = strong_warp()
    assert jacobian_determinant(warp.displacement_mm).min() > 0.1
    assert 3 < warp.displacement_mm.std() < 12
    points = np.random.default_rng(0).uniform([-150, -60, 50], [150, 100, 450], (200, 3))
    np.testing.assert_allclose(warp.source_from_specimen(warp.specimen_from_source(points)), points, atol=1e-4)
    assert (np.abs(1 / warp.scale) < 1.06 + 1e-9).all()
    assert (np.abs(1 / warp.scale) > 0.94 - 1e-9).all()


def test_a_field_that_folds_is_refused():
    with pytest.raises(ValueError, match="folds"):
        random_warp(np.random.default_rng(0), np.zeros(3), np.full(3, 200.0), 60.0, 12.0, 0.0, False)


def test_a_mirror_exchanges_the_sides(patient):
    before = find_landmarks(patient)
    after = specimens.transport_landmarks(before, strong_warp(mirror=True))
    assert after["FH-l"][0] > after["FH-r"][0]
    straight = specimens.transport_landmarks(before, strong_warp(mirror=False))
    assert straight["FH-l"][0] > straight["FH-r"][0]
    assert set(np.unique(specimens.swap_sides(patient.labels))) == set(np.unique(patient.labels))
    np.testing.assert_array_equal(specimens.swap_sides(patient.labels) == 1, patient.labels == 2)


def test_a_warped_patient_shows_at_each_point_what_the_source_has_there(patient):
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    ramp = (2.0 * x - 1.5 * y + 0.7 * z - 60).astype(np.float32)
    no_metal = replace(patient, hu=ramp, metal=np.zeros_like(patient.metal))
    lower, upper = patient.volume_from_voxel[:3, 3], patient.upper_corner_mm
    warp = random_warp(np.random.default_rng(1), lower, upper, 5.0, 45.0, 0.05, True)
    warped = specimens.warp_patient(no_metal, warp, 1.0, 4.0)
    picked = np.random.default_rng(2).integers([5, 8, 8], np.array(warped.hu.shape) - [5, 8, 8], (200, 3))
    sources = warp.source_from_specimen(anatomy.points_mm(picked, warped.volume_from_voxel))
    voxels = (sources - lower) / SPACING_MM
    inside = ((voxels > 3) & (voxels < np.array(SHAPE[::-1]) - 4)).all(1)
    expected = 2.0 * voxels[:, 0] - 1.5 * voxels[:, 1] + 0.7 * voxels[:, 2] - 60
    assert inside.sum() > 100
    np.testing.assert_allclose(warped.hu[tuple(picked.T)][inside], expected[inside], atol=0.05)


def test_the_continuation_keeps_the_scan_and_goes_on_with_femurs_only(patient):
    longer = extend(patient, 30.0, 90.0)
    np.testing.assert_array_equal(longer.hu[30:80], patient.hu)
    np.testing.assert_array_equal(longer.labels[30:80], patient.labels)
    assert longer.hu.shape[0] == 30 + 50 + 10
    np.testing.assert_allclose(longer.volume_from_voxel[2, 3], ORIGIN_MM[2] - 90)
    assert set(np.unique(longer.labels[0])) == {0, 5, 6}
    assert {1, 2} <= set(np.unique(longer.labels[28]))
    np.testing.assert_array_equal(longer.hu[80:], patient.hu[48:38:-1])
    assert (longer.metal[:30] == 5).any()
    assert not np.isin(longer.metal, (6, 7)).any()


def test_a_scan_averages_without_shifting():
    frame = np.diag([1.5, 1.5, 1.5, 1.0])
    frame[:3, 3] = -20.0, 30.0, 7.0
    z, y, x = np.meshgrid(*(1.5 * np.arange(n) for n in (60, 50, 40)), indexing="ij")
    truth = anatomy.Anatomy(
        (3 * (x - 20) - 2 * (y + 30) + 5 * (z + 7)).astype(np.float32),
        (x > 30).astype(np.uint8),
        np.zeros(z.shape, np.uint8),
        frame,
    )
    ct = specimens.scan(truth, 20.0, 80.0, np.random.default_rng(0))
    assert ct.hu.dtype == np.int16
    assert ct.hu.shape[0] in (19, 20)
    np.testing.assert_allclose(ct.spacing_mm, 3.0)
    centers = anatomy.points_mm(np.argwhere(ct.hu > -9999), ct.volume_from_voxel)
    residual = ct.hu.ravel() - centers @ [3.0, -2.0, 5.0]
    assert abs(residual.mean()) < 0.5
    assert residual.std() == pytest.approx(specimens.CT_NOISE_HU, rel=0.05)
    fraction = ((ct.volume_from_voxel[:3, 3] - frame[:3, 3]) / 1.5) % 1
    assert (np.abs(fraction - 0.5) >= 0.25 - 1e-9).all()
    assert len(set(fraction.round(3))) == 3
    edge = ct.labels[0, 0].argmax()
    assert abs(ct.volume_from_voxel[0, 3] + 3.0 * edge - (-20 + 30)) <= 2.25


# views and the file


def test_an_articulated_femur_turns_about_its_head():
    landmarks = {name: ORIGIN_MM + 20.0 * np.array(np.unravel_index(k, (3, 3, 3))) for k, name in enumerate(LANDMARKS)}
    camera = carm(96, 96, 3.104, 1020.0).camera()
    center = np.mean(list(landmarks.values()), axis=0)
    view = draw_exposure(np.random.default_rng(0), camera, center, landmarks, False, ExposureSettings())
    head = landmarks["FH-l"]
    shaft = head + np.array([20.0, 0.0, -90.0])
    points = torch.from_numpy(np.stack([head, shaft]))
    under_pelvis, under_femur = project(points, camera, view.pose), project(points, camera, view.femur_poses[5])
    np.testing.assert_allclose(under_pelvis[0], under_femur[0], atol=1e-9)
    assert (under_pelvis[1] - under_femur[1]).norm() > 0.5


def test_the_femur_itself_moves_by_the_rotation_given():
    head = np.array([10.0, 20.0, 30.0])
    pose = articulated(torch.eye(4, dtype=torch.float64), np.array([0.0, 0.0, np.pi / 2]), head)
    # the point that the turned femur brings to head + (0, 1, 0) was at head + (1, 0, 0)
    seen = transform_points(pose, torch.from_numpy(head + np.array([0.0, 1.0, 0.0]))[None])[0]
    np.testing.assert_allclose(seen, head + np.array([1.0, 0.0, 0.0]), atol=1e-9)


def test_bending_a_hip_changes_the_image_at_that_femur_only(patient):
    continued = extend(patient, 60.0, 60.0)
    landmarks = find_landmarks(patient)
    specimen = specimens.make_specimen(patient, continued, landmarks, 0, 0, 4.0)
    camera = carm(96, 96, 3.104, 1020.0).camera()
    bodies, masks = specimen_bodies(specimen), label_volumes(specimen)
    start = pa_pose(torch.from_numpy(pelvis_center_mm(specimen)), 734.0)
    straight = Exposure(start, {5: start, 6: start}, False)
    bent = Exposure(start, {5: articulated(start, np.array([0.0, 0.35, 0.0]), landmarks["FH-l"]), 6: start}, False)
    images, femurs = [], []
    for view in (straight, bent):
        images.append(np.log(expose(bodies, view, camera, [], 1e9, np.random.default_rng(0)).astype(float)))
        segmented = segmentation(masks, view, camera)
        femurs.append(segmented == 5)
        np.testing.assert_array_equal(segmented == 6, segmentation(masks, straight, camera) == 6)
    change = np.abs(images[1] - images[0])
    assert (femurs[0] != femurs[1]).sum() > 20
    assert change[femurs[0] & femurs[1]].max() > 0.3
    other_half = np.arange(96) < 40
    assert change[:, other_half].max() < 0.05


def read(path: Path):
    with open_dataset(path) as file:
        parameters = deepfluoro.read_parameters(file)
        for name in deepfluoro.specimen_names(file):
            ct = deepfluoro.read_ct(file, name)
            for key in deepfluoro.projection_names(file, name):
                yield name, ct, parameters, deepfluoro.read_projection(file, name, key, parameters)


def test_the_file_is_read_back_and_landmarks_reproject(dataset):
    seen = set()
    for name, ct, parameters, xray in read(dataset):
        seen.add((name, xray.rotate_180_for_up))
        assert not np.allclose(parameters.extrinsic, np.eye(4))
        assert parameters.intrinsic[0, 0] < 0
        camera = parameters.camera()
        pose = pose_from_deepfluoro(
            torch.from_numpy(xray.poses["cam-to-pelvis-vol"]), torch.from_numpy(parameters.extrinsic)
        )
        names = list(ct.landmarks_mm)
        assert set(names) == set(LANDMARKS) == set(xray.landmarks_px)
        points = torch.from_numpy(np.stack([ct.landmarks_mm[key] for key in names]))
        stored = np.stack([xray.landmarks_px[key] for key in names])
        np.testing.assert_allclose(project(points, camera, pose).numpy(), stored, atol=0.01)
        inside = ((stored > -0.5) & (stored < 95.5)).all(1)
        assert inside.sum() >= 8
        if xray.rotate_180_for_up:
            camera, pose = rotate_image_180(camera, pose)
            stored = np.array([camera.width - 1, camera.height - 1]) - stored
            np.testing.assert_allclose(project(points, camera, pose).numpy(), stored, atol=0.01)
        upright = dict(zip(names, stored, strict=True))
        assert upright["ASIS-l"][1] < upright["IOF-l"][1], "superior is up"
        assert upright["FH-l"][0] > upright["FH-r"][0], "the patient's left is at the right"
    assert seen == {(name, flag) for name in ("demo-01", "demo-02") for flag in (True, False)}


def test_the_segmentation_shows_heads_at_their_landmarks(dataset):
    hits = 0
    for _, ct, parameters, xray in read(dataset):
        assert xray.segmentation.max() <= 6
        assert set(ct.label_names) == set(anatomy.LABEL_NAMES)
        for side, label in (("l", 5), ("r", 6)):
            column, row = np.rint(xray.landmarks_px[f"FH-{side}"]).astype(int)
            if 0 <= column < parameters.columns and 0 <= row < parameters.rows:
                assert xray.segmentation[row, column] == label
                hits += 1
        femur_pose = pose_from_deepfluoro(
            torch.from_numpy(xray.poses["cam-to-right-femur-vol"]), torch.from_numpy(parameters.extrinsic)
        )
        frame = torch.from_numpy(ct.volume_from_voxel())
        mask = Volume(torch.from_numpy((ct.labels == 6).astype(np.float32)), frame)
        silhouette = project_mask(mask, parameters.camera(), femur_pose[None], 1.0)[0].numpy()
        assert ((xray.segmentation == 6) != silhouette).mean() < 1e-3
    assert hits >= 8


def test_pixels_are_16_bit_and_hounsfield_units_too(dataset):
    with open_dataset(dataset) as file:
        assert file["demo-01/projections/000/image/pixels"].dtype == np.uint16
        assert file["demo-01/vol/pixels"].dtype == np.int16


def details(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What remains of an image without its smooth part, which says little about the pose."""
    weights = ndimage.gaussian_filter(seen.astype(float), 4.0) + 1e-6
    return image - ndimage.gaussian_filter(image * seen, 4.0) / weights


def test_the_image_shows_the_scan_at_the_stored_pose(dataset):
    inner = np.zeros((96, 96), bool)
    inner[8:-8, 8:-8] = True
    for name, ct, parameters, xray in read(dataset):
        volume = Volume(attenuation_from_hu(torch.from_numpy(ct.hu)).float(), torch.from_numpy(ct.volume_from_voxel()))
        camera = parameters.camera()
        pose = pose_from_deepfluoro(
            torch.from_numpy(xray.poses["cam-to-pelvis-vol"]), torch.from_numpy(parameters.extrinsic)
        )
        middle = torch.from_numpy(ct.landmarks_mm["FH-l"] + ct.landmarks_mm["FH-r"]) / 2
        image = -np.log(xray.intensity)
        # metal that no CT explains, and femurs that have moved, say nothing about the pelvis
        seen = inner & (xray.segmentation < 5) & (image < np.percentile(image[inner], 90))
        seen &= (coverage(volume, camera, pose[None])[0] > 0).numpy()
        scores = []
        for shift_mm in (0.0, -12.0, 12.0):
            twist = torch.tensor([0, 0, 0, shift_mm, 0, shift_mm], dtype=torch.float64)
            drr = render(volume, camera, perturb(pose, twist, middle)[None])[0].numpy()
            scores.append(np.corrcoef(details(drr, seen)[seen], details(image, seen)[seen])[0, 1])
        assert scores[0] > max(0.5, 0.1 + max(scores[1:])), (name, xray.name, scores)


def test_the_head_of_the_scan_lies_at_its_landmark(dataset):
    checked = set()
    for name, ct, _, _ in read(dataset):
        if name in checked:
            continue
        checked.add(name)
        for side, label in (("l", 5), ("r", 6)):
            center, _ = femoral_head(ct.labels == label, ct.volume_from_voxel())
            limit = 1.5 if name == "demo-01" else 4.0
            assert np.linalg.norm(center - ct.landmarks_mm[f"FH-{side}"]) < limit, (name, side)
    assert len(checked) == 2


def test_the_seed_decides_the_bytes(files, tmp_path):
    def content(name: str, seed: int) -> bytes:
        path = tmp_path / name
        make_dataset(*files, path, specimens=1, xrays_per_specimen=1, seed=seed, **DETECTOR)
        return path.read_bytes()

    assert content("a.h5", 1) == content("b.h5", 1)
    assert content("a.h5", 1) != content("c.h5", 2)


def test_an_interrupted_run_leaves_no_file(files, tmp_path):
    def interrupt(xrays, total, what):
        assert total == 1
        assert "demo-01" in what
        yield next(iter(xrays))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(*files, tmp_path / "demo.h5", specimens=1, xrays_per_specimen=1, progress=interrupt, **DETECTOR)
    assert not list(tmp_path.iterdir())


# conditions


def test_a_longer_ct_shows_more_of_the_patient_and_the_xrays_are_the_same(files, dataset, tmp_path):
    path = tmp_path / "longer.h5"
    options = {"specimens": 2, "xrays_per_specimen": 3, "seed": 5, **DETECTOR}
    make_dataset(*files, path, ct_below_landmarks_mm=40.0, **options)
    compared = 0
    for (name, short, _, one), (other_name, long, _, other) in zip(read(dataset), read(path), strict=True):
        compared += 1
        assert (name, one.name) == (other_name, other.name)
        np.testing.assert_array_equal(one.intensity, other.intensity)
        np.testing.assert_array_equal(one.poses["cam-to-pelvis-vol"], other.poses["cam-to-pelvis-vol"])
        lowest = min(position[2] for position in long.landmarks_mm.values())
        for ct, below_mm in ((short, 4.0), (long, 40.0)):
            # The lattice of a CT is shifted at random by less than one of its voxels of 3 mm.
            assert 0 <= lowest - below_mm - ct.volume_from_voxel()[2, 3] + 4.5 <= 4.5
        assert long.hu.shape[0] > short.hu.shape[0]
    assert compared == 6


def test_a_ct_cannot_reach_beyond_the_patient(files, tmp_path):
    with pytest.raises(InputError, match=r"ct_below_landmarks_mm: 400 mm, and demo-01 ends .* Make it smaller"):
        make_dataset(*files, tmp_path / "demo.h5", ct_below_landmarks_mm=400.0, **DETECTOR)
    assert not list(tmp_path.iterdir())


def test_exposures_have_the_mean_and_the_spread_that_the_settings_give_along_the_cameras_axes():
    entry = {
        "mean_rotation_deg": [4.0, -3.0, 2.0],
        "mean_translation_mm": [15.0, 10.0, -5.0],
        "rotation_sd_deg": [12.0, 6.0, 3.0],
        "rotation_max_deg": [90.0, 90.0, 3.0],
        "translation_sd_mm": [70.0, 50.0, 90.0],
        "translation_max_mm": [500.0, 500.0, 90.0],
        "min_visible_landmarks": 0,
    }
    settings = exposure_settings(entry)
    pa = pa_pose(torch.zeros(3, dtype=torch.float64), 700.0)
    rng = np.random.default_rng(0)
    twists = torch.stack([draw_twist(rng, settings, pa) for _ in range(4000)])
    # From the volume's axes to the camera's.
    along = torch.cat([twists[:, :3] @ pa[:3, :3], twists[:, 3:] @ pa[:3, :3]], dim=1)
    along[:, :3] = torch.rad2deg(along[:, :3])
    mean, sd = along.mean(0).numpy(), along.std(0).numpy()
    np.testing.assert_allclose(mean, [4, -3, 2, 15, 10, -5], atol=5)
    np.testing.assert_allclose(sd[[0, 1, 3, 4]], [12, 6, 70, 50], rtol=0.05)
    # A normal that is cut off at one standard deviation has 0.54 of it.
    np.testing.assert_allclose(sd[[2, 5]], [0.54 * 3, 0.54 * 90], rtol=0.05)
    assert (along[:, 2] - 2).abs().max() <= 3 + 1e-9
    assert (along[:, 5] + 5).abs().max() <= 90 + 1e-9


def test_an_exposure_that_no_pose_allows_is_an_error():
    landmarks = {name: ORIGIN_MM + 400.0 * np.array([k, 0.0, 0.0]) for k, name in enumerate(LANDMARKS)}
    camera = carm(96, 96, 3.104, 1020.0).camera()
    settings = ExposureSettings(min_visible_landmarks=14)
    with pytest.raises(InputError, match="none of 1000 random exposures shows 14 landmarks"):
        draw_exposure(np.random.default_rng(0), camera, ORIGIN_MM, landmarks, False, settings)
