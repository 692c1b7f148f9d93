"""ROI maps: from labels, from projection, as channels and boxes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import LABEL_NAMES, carm, prepare_settings, small_specimen, write_small_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from roireg.data.deepfluoro import read_projection
from roireg.data.patient import Patient
from roireg.data.prepare import prepare_specimen
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.xray import Xray, expected_pose
from roireg.drr.rois import project_rois, roi_boxes_px, roi_channels, roi_map, roi_volumes
from roireg.errors import InputError
from roireg.geometry.camera import rotate_image_180
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.geometry.poses import perturb

ROIS = tuple(LABEL_NAMES.values())
COUNT = 3
NUMBERS = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(0, COUNT))


@pytest.fixture(scope="module")
def specimen(tmp_path_factory) -> tuple[Patient, tuple[Xray, ...]]:
    return small_specimen(tmp_path_factory.mktemp("rois"))


@pytest.fixture(scope="module")
def patient(specimen) -> Patient:
    return specimen[0]


@pytest.fixture(scope="module")
def xrays(specimen) -> tuple[Xray, ...]:
    return specimen[1]


def projected(patient: Patient, xrays: Sequence[Xray], rois: tuple[str, ...]) -> torch.Tensor:
    xray = xrays[0]
    return project_rois(roi_volumes(patient, rois), xray.camera, xray.true_pose[None])[0]


def test_labels_become_roi_numbers_in_the_order_of_the_rois_however_they_are_spelled():
    mask = torch.tensor([[0, 3, 7], [12, 99, 3]], dtype=torch.uint8)
    numbers = roi_map(mask, {3: "tibia", 7: "left-Talus", 12: "Loose Plate"}, ["LEFT_TALUS", "tibia"])
    assert numbers.tolist() == [[0, 2, 1], [0, 0, 2]]
    assert numbers.dtype == torch.uint8


def test_label_ids_and_roi_numbers_do_not_mix():
    # Ids that are numbers of other ROIs: painting one after the other must not paint twice.
    mask = torch.tensor([[1, 2, 3]], dtype=torch.uint8)
    assert roi_map(mask, {1: "a", 2: "b", 3: "c"}, ["c", "a", "b"]).tolist() == [[2, 3, 1]]


def test_a_mask_without_rois_is_background():
    assert not roi_map(torch.full((2, 2), 3, dtype=torch.uint8), {3: "tibia", 4: "femur"}, ["femur"]).any()


def test_a_roi_that_is_no_label_of_the_xray_is_named():
    with pytest.raises(InputError, match="femur"):
        roi_map(torch.zeros((2, 2), dtype=torch.uint8), {3: "tibia"}, ["tibia", "femur"])


def test_a_roi_that_the_specimen_lacks_is_named(patient):
    with pytest.raises(InputError) as raised:
        roi_volumes(patient, ["Tibia", "kneecap"])
    assert raised.value.where == "config: rois: 'kneecap'"
    for name in ROIS:
        assert name in raised.value.remedy


def test_volumes_are_the_labels_voxels_in_order(patient):
    for name, volume in zip(("Talus", "tibia"), roi_volumes(patient, ["Talus", "tibia"]), strict=True):
        (label,) = (label for label, known in LABEL_NAMES.items() if known == name.lower())
        assert torch.equal(volume.values, (patient.labels == label).float())
        assert torch.equal(volume.volume_from_voxel, patient.volume.volume_from_voxel)


def test_projected_rois_are_the_segmentation_of_the_dataset(tmp_path: Path):
    path = write_small_dataset(tmp_path / "small.h5", upside_down=(False, True))
    with open_dataset(path) as file:
        patient, _ = prepare_specimen(file, "P01", prepare_settings())
        parameters = carm()
        stored = [read_projection(file, "P01", name, parameters) for name in ("000", "001")]
    volumes = roi_volumes(patient, ROIS)
    for projection in stored:
        camera = parameters.camera()
        extrinsic = torch.from_numpy(parameters.extrinsic)
        pose = pose_from_deepfluoro(torch.from_numpy(projection.poses["cam-to-pelvis-vol"]), extrinsic)
        segmentation = torch.from_numpy(projection.segmentation)
        if projection.rotate_180_for_up:
            camera, pose = rotate_image_180(camera, pose)
            segmentation = segmentation.flip(0, 1)
        numbers = project_rois(volumes, camera, pose[None])[0]
        truth = roi_map(segmentation, LABEL_NAMES, ROIS)
        assert set(truth.unique().tolist()) == {0, 1, 2, 3}
        # Rounding may decide a ray along an edge otherwise.
        assert (numbers != truth).float().mean() < 1e-4


def test_a_later_roi_lies_over_an_earlier_one(patient, xrays):
    camera = xrays[0].camera
    # A side view, in which these two overlap.
    turn = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    pose = perturb(expected_pose(patient, xrays[0]), turn, patient.center_mm)[None]
    alone = {
        name: project_rois(roi_volumes(patient, (name,)), camera, pose)[0] > 0 for name in ("tibia", "loose plate")
    }
    overlap = alone["tibia"] & alone["loose plate"]
    assert overlap.sum() > 100
    for under, over in (("tibia", "loose plate"), ("loose plate", "tibia")):
        numbers = project_rois(roi_volumes(patient, (under, over)), camera, pose)[0]
        assert (numbers[overlap] == 2).all()
        assert torch.equal(numbers == 2, alone[over])
        assert torch.equal(numbers == 1, alone[under] & ~alone[over])


def test_a_roi_outside_the_image_is_not_there(patient, xrays):
    xray = xrays[0]
    k = xray.camera.intrinsics_px.clone()
    k[0, 2] += 10 * xray.camera.width
    numbers = project_rois(roi_volumes(patient, ROIS), replace(xray.camera, intrinsics_px=k), xray.true_pose[None])
    assert not numbers.any()
    assert roi_boxes_px(numbers, len(ROIS)).isnan().all()


def test_views_are_projected_one_by_one(patient, xrays):
    xray = xrays[0]
    poses = torch.stack([xray.true_pose, expected_pose(patient, xrays[0])])
    together = project_rois(roi_volumes(patient, ROIS), xray.camera, poses)
    assert together.shape == (2, xray.camera.height, xray.camera.width)
    assert torch.equal(together[0], projected(patient, xrays, ROIS))
    assert not torch.equal(together[0], together[1])


@settings(deadline=None, max_examples=50)
@given(NUMBERS)
def test_channels_are_one_map_a_roi_without_background(numbers):
    channels = roi_channels(torch.from_numpy(numbers), COUNT).numpy()
    assert channels.dtype == np.float32
    np.testing.assert_array_equal(channels, np.stack([numbers == roi for roi in range(1, COUNT + 1)], axis=1))


@settings(deadline=None, max_examples=50)
@given(NUMBERS)
def test_boxes_are_the_outermost_pixels(numbers):
    found = roi_boxes_px(torch.from_numpy(numbers), COUNT).numpy()
    assert found.shape == (len(numbers), COUNT, 4)
    for image, boxes in zip(numbers, found, strict=True):
        for roi, box in enumerate(boxes, start=1):
            rows, columns = np.nonzero(image == roi)
            expected = [columns.min(), rows.min(), columns.max(), rows.max()] if len(rows) else [np.nan] * 4
            np.testing.assert_array_equal(box, expected)


def test_the_box_of_one_pixel_is_that_pixel():
    numbers = torch.zeros(1, 6, 8, dtype=torch.uint8)
    numbers[0, 4, 7] = 2
    boxes = roi_boxes_px(numbers, 2)[0]
    assert boxes[1].tolist() == [7, 4, 7, 4]
    assert boxes[0].isnan().all()
