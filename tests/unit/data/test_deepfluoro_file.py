"""Every peculiarity of DeepFluoro's file is read as what it means."""

import h5py
import numpy as np
import pytest
import torch
from builders import TURNED_EXTRINSIC, prepare_settings
from deepfluoro_file import (
    FEMURS,
    GOOD_FOV,
    LABELS,
    PIXEL_MM,
    SIDE_PX,
    SPECIMENS,
    UPSIDE_DOWN,
    XRAYS,
    body,
    camera,
    femur_pose,
    intrinsic,
    segmentation,
    true_pose,
    write_deepfluoro_file,
)

from roireg.data.deepfluoro import projection_names, read_ct, read_parameters, read_projection, specimen_names
from roireg.data.prepare import prepare_specimen
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.records import read_specimen, write_specimen
from roireg.drr import project_mask
from roireg.errors import InputError
from roireg.geometry.camera import project
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.geometry.se3 import translation
from roireg.register.method import MethodSettings
from roireg.register.run import register_specimen
from roireg.register.settings import GaussNewtonSettings, PerturbationSettings, WeightSettings


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_deepfluoro_file(tmp_path_factory.mktemp("real") / "real.h5")


def test_the_file_is_stored_as_the_real_one(path):
    with h5py.File(path) as file:
        ct, projection = file["17-1882/vol"], file["17-1882/projections/000"]
        assert ct["spacing"].shape == ct["origin"].shape == (3, 1)
        assert file["17-1882/vol-landmarks/FH-l"].dtype == np.float32
        assert projection["gt-landmarks/FH-l"].shape == (2, 1)
        assert projection["rot-180-for-up"].dtype == projection["good-fov"].dtype == np.uint8
        assert file["17-1882/vol-seg/labels-def/1"].dtype.kind == "S"
        assert {file[f"{name}/projections/000/image/pixels"].dtype.kind for name in SPECIMENS} == {"u", "f"}


def test_the_c_arm_is_read(path):
    with open_dataset(path) as file:
        parameters = read_parameters(file)
    np.testing.assert_allclose(parameters.intrinsic, intrinsic(), rtol=1e-6)
    np.testing.assert_allclose(parameters.extrinsic, TURNED_EXTRINSIC, atol=1e-4)
    assert (parameters.rows, parameters.columns) == (SIDE_PX, SIDE_PX)
    assert parameters.camera().source_to_detector_mm == pytest.approx(1020.0, rel=1e-5)
    assert parameters.row_spacing_mm == pytest.approx(PIXEL_MM)


@pytest.mark.parametrize("name", SPECIMENS)
def test_ct_labels_and_landmarks_are_read(path, name):
    patient = body(name)
    with open_dataset(path) as file:
        assert specimen_names(file) == [*SPECIMENS]
        ct = read_ct(file, name)
    np.testing.assert_array_equal(ct.hu, patient.hu)
    np.testing.assert_array_equal(ct.labels, patient.labels)
    assert ct.label_names == LABELS
    np.testing.assert_allclose(ct.volume_from_voxel(), patient.frame(), atol=1e-4)
    assert ct.landmarks_mm.keys() == patient.landmarks_mm.keys()
    for key, position in patient.landmarks_mm.items():
        np.testing.assert_allclose(ct.landmarks_mm[key], position, atol=1e-4)


@pytest.mark.parametrize("name", SPECIMENS)
def test_xrays_are_read(path, name):
    patient = body(name)
    extrinsic = torch.from_numpy(TURNED_EXTRINSIC)
    with open_dataset(path) as file:
        assert projection_names(file, name) == [f"{index:03d}" for index in range(XRAYS)]
        parameters = read_parameters(file)
        xrays = [read_projection(file, name, key, parameters) for key in projection_names(file, name)]
    for index, xray in enumerate(xrays):
        pose = true_pose(patient, name, index)
        assert (xray.rotate_180_for_up, xray.good_fov) == (UPSIDE_DOWN[index], GOOD_FOV[index])
        assert 1e4 < xray.intensity.min() < xray.intensity.max() <= 65535
        found = pose_from_deepfluoro(torch.from_numpy(xray.poses["cam-to-pelvis-vol"]), extrinsic)
        # xReg's move by -0.5 mm makes the true pose of the stored one.
        torch.testing.assert_close(found[:3, :3], pose[:3, :3], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[:3, 3] - 0.5, pose[:3, 3], atol=1e-3, rtol=0)
        points = torch.from_numpy(np.stack([*patient.landmarks_mm.values()]))
        pixels = np.stack([xray.landmarks_px[key] for key in patient.landmarks_mm])
        np.testing.assert_allclose(pixels, project(points, camera(), found), atol=1e-2)
        assert (pixels < 0).any() or (pixels > SIDE_PX - 1).any()
        poses = {0: pose} | {label: femur_pose(patient, pose, label, name, index) for label in FEMURS}
        np.testing.assert_array_equal(xray.segmentation, segmentation(patient, poses))
        assert set(FEMURS.values()) < set(xray.poses)


def registered_mm(path, shift: float) -> np.ndarray:
    """mpd (mm) against the stored poses by X-ray, after Gauss-Newton from near them, femurs left out."""
    changes = {"ct_shift_voxels": shift, "crop_px": 6, "image_size_px": 128}
    settings = prepare_settings(**changes)
    pixels = WeightSettings(coverage=True, exclude=("left femur", "Right_Femur"), exclude_margin_mm=5.0)
    method = MethodSettings(
        name="gauss_newton",
        init="perturbed",
        similarity="builtin",
        roi="none",
        optimizer="gauss_newton",
        start=PerturbationSettings(rotation_sd_deg=1.0, translation_sd_mm=2.0),
        weights="coverage+femurs",
        pixels=pixels,
        search=GaussNewtonSettings((32, 64, 128), (12.0, 8.0, 5.0), 20, 1e-4, 0.02, "tukey"),
        regions=None,
        step_mm=None,
    )
    with open_dataset(path) as file:
        patient, xrays = prepare_specimen(file, SPECIMENS[0], settings)
    return np.array([one.row["mpd_mm"] for one in register_specimen(patient, xrays, method, 0)])


def test_registration_at_plus_half_a_voxel_finds_the_stored_poses_and_at_none_or_minus_half_does_not(path):
    """xReg's move of the poses by -0.5 mm is a move of the CT, whose voxels are 1 mm, by +0.5 voxels."""
    minus, none, plus = (registered_mm(path, shift) for shift in (-0.5, 0.0, 0.5))
    assert (plus < none).all()
    assert (none < minus).all()
    assert np.median(plus) < 0.3
    # What half a millimetre along each axis is on the detector, two of its three components, magnified by 1 / 0.72.
    assert np.median(none) > 0.5
    assert np.median(minus) > 1.0


@pytest.mark.parametrize("name", SPECIMENS)
def test_femurs_keep_their_own_poses_to_the_specimens_file(path, tmp_path, name):
    with open_dataset(path) as file:
        patient, xrays = prepare_specimen(file, name, prepare_settings(ct_shift_voxels=0.5, isocenter=(), crop_px=6))
    write_specimen(tmp_path / "specimen.h5", patient, xrays)
    _, xrays = read_specimen(tmp_path / "specimen.h5")
    generated = body(name)
    # With the grid, poses move by half a millimetre; upside down, the camera is turned about its axis.
    moved = translation(torch.full((3,), 0.5, dtype=torch.float64))
    turned = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    for index, xray in enumerate(xrays):
        pelvis = true_pose(generated, name, index)
        assert set(xray.bone_poses) == {"left femur", "right femur"}
        for label, bone in ((5, "Left-Femur"), (6, "right_femur")):
            expected = moved @ femur_pose(generated, pelvis, label, name, index)
            expected = expected @ turned if UPSIDE_DOWN[index] else expected
            own = xray.known_pose_of([bone])
            # Stored as float32.
            assert torch.allclose(own, expected, atol=2e-4)
            mask = patient.volume.with_values(patient.label_mask([bone]).float())
            assert not torch.allclose(own, xray.known_pose, atol=1e-2)
            # Painted last, so that nothing covers it.
            shadow = project_mask(mask, xray.camera, own[None], 0.5)[0]
            assert dice(shadow, xray.labels == label) > 0.97
        assert xray.known_pose_of(["left-hemipelvis", "vertebrae"]) is xray.true_pose
        with pytest.raises(InputError, match="poses of their own"):
            xray.known_pose_of(["left femur", "left hemipelvis"])


def dice(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
