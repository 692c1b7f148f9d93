"""From the data set to the specimen file: image, camera and pose stay together whatever is done to the image."""

import h5py
import numpy as np
import pytest
import torch
from builders import (
    I0,
    OBLIQUE_DIRECTION,
    SPACING_MM,
    attenuation,
    carm,
    phantom_ct,
    prepare_settings,
    write_small_dataset,
)

from roireg.data.deepfluoro import read_ct, read_parameters, read_projection
from roireg.data.patient import Patient
from roireg.data.prepare import prepare_specimen
from roireg.data.preprocess import RAW_INTENSITY, cut_out, preprocess, preprocess_labels
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.records import read_specimen, write_specimen
from roireg.data.xray import Xray, expected_pose
from roireg.drr import project_mask, render
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.geometry.camera import Camera, project
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.geometry.poses import pa_pose
from roireg.metrics.similarity import gradient_ncc

CENTERED = carm(principal_px=((200 - 1) / 2, (220 - 1) / 2))
WIDE = carm(rows=180, columns=260, row_spacing_mm=1.7, column_spacing_mm=1.1, extrinsic=np.eye(4))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_small_dataset(tmp_path_factory.mktemp("prepare") / "small.h5", upside_down=(False, True))


def prepared(path, name="P01", **changes) -> tuple[Patient, tuple[Xray, ...]]:
    with open_dataset(path) as file:
        return prepare_specimen(file, name, prepare_settings(**changes))


def drr(patient: Patient, camera: Camera, pose: torch.Tensor) -> torch.Tensor:
    return render(patient.volume, camera, pose[None]).float()[:, None]


def agreement(patient: Patient, xray: Xray, camera: Camera | None = None) -> float:
    """NCC of the derivatives: nearly 1 only where edges coincide."""
    return float(gradient_ncc(xray.image[None, None], drr(patient, camera or xray.camera, xray.true_pose)))


def shifted(camera: Camera, columns: float, rows: float) -> Camera:
    k = camera.intrinsics_px.clone()
    k[:2, 2] += torch.tensor([columns, rows], dtype=k.dtype)
    return Camera(k, camera.height, camera.width, camera.pixel_spacing_mm)


def mirrored(camera: Camera) -> Camera:
    k = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)) @ camera.intrinsics_px
    k[0, 2] += camera.width - 1
    return Camera(k, camera.height, camera.width, camera.pixel_spacing_mm)


@pytest.mark.parametrize("extrinsic", ["as built", "identity"])
def test_landmarks_of_the_file_reproject_onto_its_pixels(tmp_path, extrinsic):
    parameters = carm() if extrinsic == "as built" else carm(extrinsic=np.eye(4))
    path = write_small_dataset(tmp_path / "d.h5", upside_down=(False, True), parameters=parameters)
    with open_dataset(path) as file:
        parameters, ct = read_parameters(file), read_ct(file, "P01")
        for name in ("000", "001"):
            xray = read_projection(file, "P01", name, parameters)
            pose = pose_from_deepfluoro(
                torch.from_numpy(xray.poses["cam-to-pelvis-vol"]), torch.from_numpy(parameters.extrinsic)
            )
            points = torch.from_numpy(np.stack([ct.landmarks_mm[key] for key in xray.landmarks_px]))
            ours = project(points, parameters.camera(), pose)
            stored = np.stack([*xray.landmarks_px.values()])
            assert len(stored) == 12
            assert np.abs(stored - [100, 110]).max() < 200
            np.testing.assert_allclose(ours.numpy(), stored, atol=0.01)


@pytest.mark.parametrize("parameters", [carm(), CENTERED, WIDE], ids=["off-centre", "centred", "wide"])
def test_landmarks_reproject_after_turn_crop_and_resize(tmp_path, parameters):
    crop, size = 12, 80
    path = write_small_dataset(tmp_path / "d.h5", upside_down=(False, True), parameters=parameters)
    patient, xrays = prepared(path, crop_px=crop, image_size_px=size)
    detector = np.array([parameters.columns, parameters.rows])
    scale = (detector - 2 * crop) / size
    with open_dataset(path) as file:
        stored = [read_projection(file, "P01", xray.name, parameters) for xray in xrays]
    assert [projection.rotate_180_for_up for projection in stored] == [False, True]
    for xray, projection in zip(xrays, stored, strict=True):
        expected = np.stack([projection.landmarks_px[name] for name in patient.landmark_names])
        if projection.rotate_180_for_up:
            expected = detector - 1 - expected
        ours = project(patient.landmarks_mm, xray.camera, xray.true_pose).numpy()
        at_full_resolution = (ours + 0.5) * scale - 0.5 + crop
        np.testing.assert_allclose(at_full_resolution, expected, atol=0.01)


def test_a_turned_xray_is_prepared_as_the_unturned_exposure(tmp_path):
    upright = write_small_dataset(tmp_path / "upright.h5", upside_down=(False,), parameters=CENTERED)
    turned = write_small_dataset(tmp_path / "turned.h5", upside_down=(True,), parameters=CENTERED)
    with h5py.File(upright) as a, h5py.File(turned) as b:
        key = "P01/projections/000/image/pixels"
        assert np.abs(a[key][()].astype(float) - b[key][()]).max() > I0 / 4
    (_, (a,)), (_, (b,)) = prepared(upright), prepared(turned)
    assert torch.allclose(a.image, b.image, atol=1e-4)
    assert float((a.labels != b.labels).float().mean()) < 0.01
    assert torch.allclose(a.true_pose, b.true_pose, atol=1e-9)
    assert torch.allclose(a.camera.intrinsics_px, b.camera.intrinsics_px, atol=1e-9)


def test_the_flag_turns_image_and_segmentation_and_nothing_else(dataset, tmp_path):
    path = tmp_path / "flagged.h5"
    path.write_bytes(dataset.read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["P01/projections/000"]
        for key in ("image/pixels", "gt-seg/pixels"):
            value = group[key][()]
            del group[key]
            group[key] = value[::-1, ::-1]
        group["rot-180-for-up"][()] = 1
    plain, flagged = prepared(dataset)[1][0], prepared(path)[1][0]
    assert torch.equal(plain.image, flagged.image)
    assert torch.equal(plain.labels, flagged.labels)


@pytest.mark.parametrize(
    ("options", "crop", "size"),
    [
        ({"parameters": carm()}, 10, 96),
        ({"parameters": WIDE, "label_names": {1: "skull", 200: "jaw", 5: "c1", 6: "c2"}}, 7, 64),
        ({"parameters": carm(rows=201, columns=177), "direction": np.diag([-1.0, -1.0, 1.0])}, 0, 111),
        ({"parameters": carm(), "dtype": np.float32, "column_vectors": True, "optional": False}, 10, 96),
    ],
    ids=["oblique", "wide, other labels, identity extrinsic", "odd sizes, RAS-like grid", "columns, bare"],
)
def test_the_prepared_xray_is_the_drr_at_the_prepared_pose_and_camera(tmp_path, options, crop, size):
    turned = (False, True) if options.get("optional", True) else (False, False)
    path = write_small_dataset(tmp_path / "d.h5", ("sp. 7",), turned, **options)
    patient, xrays = prepared(path, "sp. 7", crop_px=crop, image_size_px=size)
    assert len(xrays) == 2
    for xray in xrays:
        assert xray.image.shape == (size, size)
        exact = agreement(patient, xray)
        assert exact > 0.998
        for columns, rows in ((1, 0), (0, -1)):
            assert agreement(patient, xray, shifted(xray.camera, columns, rows)) < exact - 0.004
        assert agreement(patient, xray, mirrored(xray.camera)) < 0.9
        if xray.labels is not None:
            labels = patient.volume.with_values((patient.labels > 0).float())
            shadow = project_mask(labels, xray.camera, xray.true_pose[None])[0]
            assert float(((xray.labels > 0) == shadow).float().mean()) > 0.98
            assert set(xray.labels.unique().tolist()) == {0, *options.get("label_names", {3: 0, 7: 0, 12: 0})}


def test_no_part_of_the_prepared_image_is_off_by_a_tenth_of_a_pixel(dataset):
    patient, xrays = prepared(dataset)
    parts = torch.zeros(4, 1, 96, 96)
    parts[0, ..., :32, :], parts[1, ..., 64:, :], parts[2, ..., :32], parts[3, ..., 64:] = 1, 1, 1, 1
    offsets = np.array([-0.4, 0.0, 0.4])
    for xray in xrays:
        fixed = xray.image.expand(4, 1, -1, -1)
        for direction in ((1, 0), (0, 1)):
            cameras = [shifted(xray.camera, offset * direction[0], offset * direction[1]) for offset in offsets]
            drrs = [drr(patient, camera, xray.true_pose).expand(4, -1, -1, -1) for camera in cameras]
            scores = np.stack([gradient_ncc(fixed, moving, parts).numpy() for moving in drrs])
            quadratic, linear, _ = np.polyfit(offsets, scores, 2)
            assert (quadratic < 0).all()
            assert np.abs(linear / (2 * quadratic)).max() < 0.1


def test_the_prepared_volume_is_the_one_that_was_exposed(dataset):
    (patient, _), truth = prepared(dataset), attenuation(phantom_ct("P01"))
    assert torch.allclose(patient.volume.values, truth.values)
    assert torch.allclose(patient.volume.volume_from_voxel, truth.volume_from_voxel)
    assert patient.label_names == {3: "tibia", 7: "talus", 12: "loose plate"}
    assert torch.equal(patient.labels, torch.from_numpy(phantom_ct("P01").labels))


def smooth_intensity(rows: int = 90, columns: int = 70) -> np.ndarray:
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    return np.round(40000 * np.exp(-3 * np.sin(3 * x) * np.cos(2 * y - 0.3))) + 100


def preprocessed(intensity: np.ndarray, crop_px: int, size_px: int) -> torch.Tensor:
    rows, columns = (slice(crop_px, n - crop_px) for n in intensity.shape)
    camera = carm(*intensity.shape).camera()
    return preprocess("test", *cut_out(intensity, rows, columns, camera), RAW_INTENSITY, (size_px, size_px))[0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_integers_and_floats_give_the_same_image(dtype):
    intensity = smooth_intensity()
    expected = preprocessed(intensity, 5, 32)
    assert torch.equal(preprocessed(intensity.astype(dtype), 5, 32), expected)


def test_the_image_spans_zero_to_one_and_bone_is_bright():
    intensity = smooth_intensity()
    image = preprocessed(intensity, 5, 32)
    assert image.dtype == torch.float32
    assert float(image.min()) == 0.0
    assert float(image.max()) == 1.0
    darkest = np.unravel_index(intensity[5:-5, 5:-5].argmin(), (80, 60))
    assert float(image[int(darkest[0] * 32 / 80), int(darkest[1] * 32 / 60)]) > 0.95


@pytest.mark.parametrize("scale", [1e-5, 0.37, 300.0])
def test_the_image_does_not_depend_on_the_beam_s_intensity(scale):
    intensity = smooth_intensity()
    assert torch.allclose(preprocessed(scale * intensity, 5, 32), preprocessed(intensity, 5, 32), atol=1e-6)


def test_pixels_without_a_photon_count_as_the_least_intensity():
    intensity = smooth_intensity().astype(np.uint16)
    dead = intensity.copy()
    least = np.unravel_index(intensity[10:-10, 10:-10].argmin(), (70, 50))
    dead[least[0] + 10, least[1] + 10] = 0
    image = preprocessed(dead, 5, 32)
    assert bool(torch.isfinite(image).all())
    assert torch.allclose(image, preprocessed(intensity, 5, 32), atol=1e-3)


def test_the_segmentation_keeps_its_ids_and_places():
    segmentation = np.zeros((60, 40), np.uint8)
    segmentation[10:30, 5:20], segmentation[30:50, 20:35] = 200, 7
    small = preprocess_labels(segmentation, 20, 20)
    assert set(small.unique().tolist()) == {0, 7, 200}
    assert (small == 200).nonzero().float().mean(0).tolist() == pytest.approx([19.5 / 3 - 1 / 3, 12 / 2 - 0.5], abs=0.5)
    assert int((small == 7).sum()) == pytest.approx(20 * 15 / 6, rel=0.15)


def test_the_isocentre_is_the_middle_of_the_volume_or_of_labels(dataset):
    (by_volume, xrays), (by_labels, _) = prepared(dataset), prepared(dataset, isocenter=("Talus", "tibia"))
    middle = torch.tensor([(40 - 1) / 2, (36 - 1) / 2, (44 - 1) / 2], dtype=torch.float64)
    frame = torch.from_numpy(OBLIQUE_DIRECTION * np.array(SPACING_MM))
    origin = by_volume.volume.volume_from_voxel[:3, 3]
    assert torch.allclose(by_volume.center_mm, frame @ middle + origin)
    z, y, x = np.isin(phantom_ct("P01").labels, [3, 7]).nonzero()
    box = torch.tensor([(axis.min() + axis.max()) / 2 for axis in (x, y, z)], dtype=torch.float64)
    assert torch.allclose(by_labels.center_mm, frame @ box + origin)
    for patient in (by_volume, by_labels):
        start = expected_pose(patient, xrays[0])
        assert torch.allclose(start, pa_pose(patient.center_mm, 0.72 * 1020.0))
        central = project(patient.center_mm[None], xrays[0].camera, start)[0]
        assert torch.allclose(central, xrays[0].camera.intrinsics_px[:2, 2])
        distance = (start[:3, 3] - patient.center_mm).norm()
        assert float(distance) == pytest.approx(0.72 * 1020.0)


@pytest.mark.parametrize("shift", [-0.5, 0.25])
def test_the_ct_shift_moves_the_volume_by_voxels(dataset, shift):
    (plain, plain_xrays), (moved, moved_xrays) = prepared(dataset), prepared(dataset, ct_shift_voxels=shift)
    index = torch.tensor([3.0, 9.0, 20.0, 1.0], dtype=torch.float64)
    at = index + torch.tensor([shift, shift, shift, 0.0], dtype=torch.float64)
    assert torch.allclose(moved.volume.volume_from_voxel @ index, plain.volume.volume_from_voxel @ at)
    assert torch.allclose(moved.landmarks_mm, plain.landmarks_mm)
    assert torch.allclose(moved_xrays[0].true_pose, plain_xrays[0].true_pose)


def refused(path, name="P01", **changes) -> InputError:
    with pytest.raises(InputError) as caught:
        prepared(path, name, **changes)
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_unknown_label_is_named_with_its_key(dataset):
    error = refused(dataset, isocenter=("tibia", "left hemipelvis"))
    assert "left hemipelvis" in str(error)
    assert "prepare.isocenter" in str(error)
    assert all(name in error.remedy for name in ("tibia", "talus", "loose plate"))


def test_a_label_without_voxels_is_refused(dataset, tmp_path):
    path = tmp_path / "extra.h5"
    path.write_bytes(dataset.read_bytes())
    with h5py.File(path, "r+") as file:
        file["P01/vol-seg/labels-def/40"] = "fibula"
    error = refused(path, isocenter=("fibula",))
    assert "isocent" in str(error)
    assert "no voxel" in error.what


@pytest.mark.parametrize("crop", [100, 110, 500])
def test_a_crop_that_leaves_nothing_is_refused(dataset, crop):
    error = refused(dataset, crop_px=crop)
    assert "prepare.crop_px" in error.where
    assert str(crop) in error.what


def test_an_unknown_specimen_is_refused_with_those_that_exist(tmp_path):
    path = write_small_dataset(tmp_path / "two.h5", ("a1", "b2"), (False,), carm(56, 48, 6.0, 6.5), optional=False)
    error = refused(path, "c3")
    assert "c3" in error.where
    assert str(path) in error.what
    assert "a1, b2" in error.remedy


@pytest.mark.parametrize("inside", [0, 500], ids=["black", "constant"])
def test_an_image_that_shows_nothing_within_the_crop_is_named(dataset, tmp_path, inside):
    path = tmp_path / "frame.h5"
    path.write_bytes(dataset.read_bytes())
    with h5py.File(path, "r+") as file:
        pixels = file["P01/projections/001/image/pixels"]
        value = np.full(pixels.shape, inside, pixels.dtype)
        value[:3] = 60000
        pixels[()] = value
    assert "P01/projections/001/image/pixels" in refused(path, crop_px=10).where


def test_a_ct_of_air_is_named(dataset, tmp_path):
    path = tmp_path / "air.h5"
    path.write_bytes(dataset.read_bytes())
    with h5py.File(path, "r+") as file:
        file["P01/vol/pixels"][()] = -1000
    error = refused(path)
    assert "all air" in error.what
    assert error.where == f"{path}:P01/vol/pixels"


@pytest.mark.parametrize("optional", [True, False])
def test_a_specimen_file_gives_back_what_was_written(dataset, tmp_path, optional):
    source = dataset
    if not optional:
        source = write_small_dataset(tmp_path / "bare.h5", upside_down=(False,), optional=False)
    patient, xrays = prepared(source, isocenter=("talus",))
    path = tmp_path / "new folder" / "P01.h5"
    write_specimen(path, patient, xrays)
    again, again_xrays = read_specimen(path)
    assert [*path.parent.iterdir()] == [path]
    assert again.name == "P01"
    assert again.label_names == patient.label_names
    assert again.landmark_names == patient.landmark_names
    assert len(again.landmark_names) == 12
    for field in ("labels", "landmarks_mm", "center_mm", "bone_points_mm"):
        assert torch.equal(getattr(again, field), getattr(patient, field))
    assert torch.equal(again.volume.values, patient.volume.values)
    assert torch.equal(again.volume.volume_from_voxel, patient.volume.volume_from_voxel)
    assert len(again_xrays) == len(xrays)
    for ours, theirs in zip(again_xrays, xrays, strict=True):
        assert ours.name == theirs.name
        assert torch.equal(ours.image, theirs.image)
        assert (ours.labels is None) is not optional
        assert ours.labels is None or torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.true_pose, theirs.true_pose)
        assert torch.equal(ours.rig_from_camera, theirs.rig_from_camera)
        assert torch.equal(ours.camera.intrinsics_px, theirs.camera.intrinsics_px)
        assert ours.camera.pixel_spacing_mm == pytest.approx(theirs.camera.pixel_spacing_mm)
        assert torch.equal(ours.camera.intrinsics_px, theirs.camera.intrinsics_px)
        assert (ours.camera.height, ours.camera.width) == (96, 96)
        assert ours.camera.pixel_spacing_mm == pytest.approx(theirs.camera.pixel_spacing_mm)


def test_an_interrupted_file_leaves_nothing_and_spares_the_old_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == path.parent
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"


def test_a_finished_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "new"
