"""The check finds the half voxel and each mistake that a file may hold, and names it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from builders import write_small_dataset
from deepfluoro_file import SPECIMENS, write_deepfluoro_file
from typer.testing import CliRunner

from roireg.check.conclusions import Finding, Level, conclusions
from roireg.check.dataset import SHIFTS_VOXELS, CheckSettings, check_specimen, spread
from roireg.check.evidence import Agreement, segmentation_dice
from roireg.check.files import check_dataset
from roireg.cli.app import app
from roireg.data.deepfluoro import stored_parameters
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.volume import DIFFDRR, AttenuationSettings

ROIS = ("vertebrae", "upper sacrum", "left hemipelvis", "right hemipelvis", "left femur", "right femur")
SETTINGS = CheckSettings(ROIS, 0.0, AttenuationSettings(), 3)
DIFFDRRS = AttenuationSettings(attenuation=DIFFDRR, bone_multiplier=2.5)
ONE = SPECIMENS[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_deepfluoro_file(tmp_path_factory.mktemp("check") / "real.h5")


@pytest.fixture
def dataset(written, tmp_path) -> Path:
    return Path(shutil.copy(written, tmp_path / "dataset.h5"))


def findings(path: Path, settings: CheckSettings = SETTINGS, specimen: str = ONE) -> list[Finding]:
    with open_dataset(path) as file:
        checks = [check_specimen(file, specimen, settings)]
        return conclusions(checks, stored_parameters(file), settings, {})


def texts(found: list[Finding], level: Level) -> list[str]:
    return [one.text for one in found if one.level is level]


def change(file: h5py.File, key: str, how: Callable) -> None:
    value = file[key][()]
    del file[key]
    file[key] = how(value)


@pytest.mark.parametrize("attenuation", [AttenuationSettings(), DIFFDRRS], ids=["two slopes", "DiffDRR's"])
def test_the_half_voxel_is_found_and_said(written, attenuation):
    found = findings(written, replace(SETTINGS, attenuation=attenuation))
    assert not texts(found, Level.WRONG)
    (text,) = texts(found, Level.SET)
    assert text.startswith("Set prepare.ct_shift_voxels to 0.5: ")
    assert "best in 3 of 3 X-rays" in text


def test_a_shift_that_is_right_already_is_not_to_be_set(written):
    found = findings(written, replace(SETTINGS, ct_shift_voxels=0.5))
    assert not texts(found, Level.SET)
    assert any("is correctly 0.5" in text for text in texts(found, Level.FINE))


def test_landmarks_are_blind_to_the_cts_grid_and_images_are_not(written):
    with open_dataset(written) as file:
        shifts = check_specimen(file, ONE, SETTINGS).shifts
    for row in shifts.values():
        assert all(one.landmarks_px < 0.01 for one in row)
        assert SHIFTS_VOXELS[int(np.argmax([one.ncc for one in row]))] == 0.5
        assert SHIFTS_VOXELS[int(np.argmax([one.dice for one in row]))] == 0.5


BOTH = ("vol", "vol-seg/image")
AXES = {"x": 2, "y": 1, "z": 0}


def flipped(axis: str, *groups: str) -> Callable[[h5py.File], None]:
    def fault(file: h5py.File) -> None:
        for group in groups:
            change(file, f"{ONE}/{group}/pixels", lambda pixels: np.flip(pixels, AXES[axis]))

    return fault


def negated(column: int, *groups: str) -> Callable[[h5py.File], None]:
    def fault(file: h5py.File) -> None:
        sign = np.where(np.arange(3) == column - 1, -1, 1).astype(np.float32)
        for group in groups:
            change(file, f"{ONE}/{group}/dir-mat", lambda matrix: matrix * sign)

    return fault


def intrinsic(how: Callable) -> Callable[[h5py.File], None]:
    return lambda file: change(file, "proj-params/intrinsic", how)


def focal(columns: int, rows: int) -> Callable[[h5py.File], None]:
    return intrinsic(lambda k: k * np.array([[columns, 1, 1], [1, rows, 1], [1, 1, 1]]))


def exchanged(k: np.ndarray) -> np.ndarray:
    out = k.copy()
    out[0, 2], out[1, 2] = k[1, 2], k[0, 2]
    return out


def each_projection(key: str, how: Callable) -> Callable[[h5py.File], None]:
    def fault(file: h5py.File) -> None:
        for projection in file[f"{ONE}/projections"].values():
            items = [key] if key in projection and isinstance(projection[key], h5py.Dataset) else []
            items = items or [f"{key}/{name}" for name in projection[key]]
            for item in items:
                change(projection, item, how)

    return fault


def landmarks_to_ras(file: h5py.File) -> None:
    for name in list(file[f"{ONE}/vol-landmarks"]):
        change(file, f"{ONE}/vol-landmarks/{name}", lambda p: p * np.array([[-1], [-1], [1]], np.float32))


def labels_elsewhere(file: h5py.File) -> None:
    change(file, f"{ONE}/vol-seg/image/origin", lambda origin: origin + np.float32(12))


FAULTS = {
    "pixels, x": (flipped("x", *BOTH), "CT and its labels are reversed along their x axis"),
    "pixels, y": (flipped("y", *BOTH), "CT and its labels are reversed along their y axis"),
    "pixels, z": (flipped("z", *BOTH), "CT and its labels are reversed along their z axis"),
    "dir-mat, x": (negated(1, *BOTH), "column 1 of dir-mat (x axis) has the wrong sign"),
    "dir-mat, z": (negated(3, *BOTH), "column 3 of dir-mat (z axis) has the wrong sign"),
    "the CT's pixels, y": (flipped("y", "vol"), "CT is reversed along its y axis, its labels are not"),
    "the labels' pixels, x": (flipped("x", "vol-seg/image"), "labels are reversed along their x axis"),
    "the labels' origin": (labels_elsewhere, "vol-seg/image the CT's spacing, origin and dir-mat"),
    "focal, both": (focal(-1, -1), "make K[0, 0] and K[1, 1] negative"),
    "focal, columns": (focal(-1, 1), "K[0, 0] of proj-params/intrinsic has the wrong sign"),
    "focal, rows": (focal(1, -1), "K[1, 1] of proj-params/intrinsic has the wrong sign"),
    "centre, exchanged": (intrinsic(exchanged), "columns and rows are exchanged in proj-params/intrinsic"),
    "poses, inverted": (each_projection("gt-poses", np.linalg.inv), "gt-poses are stored inverted"),
    "landmarks, RAS": (landmarks_to_ras, "vol-landmarks are RAS"),
    "landmarks, (row, column)": (each_projection("gt-landmarks", lambda p: p[::-1]), "stored as (row, column)"),
    "images, mirrored": (each_projection("image/pixels", np.fliplr), "image/pixels are flipped left to right"),
    "bright bone": (each_projection("image/pixels", lambda p: 65535 - p), "bone is bright in image/pixels"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_mistake_is_named(dataset, fault, said):
    with h5py.File(dataset, "r+") as file:
        fault(file)
    wrong = texts(findings(dataset), Level.WRONG)
    assert any(said in text for text in wrong), wrong
    assert sum("If this is corrected, agreement changes" in text for text in wrong) == 1


def test_exchanged_pixel_spacings_are_named(tmp_path):
    path = write_small_dataset(tmp_path / "small.h5", upside_down=(False, False))
    rois = replace(SETTINGS, rois=("talus",))
    assert not texts(findings(path, rois, "P01"), Level.WRONG)
    with h5py.File(path, "r+") as file:
        column, row = (file[f"proj-params/pixel-{which}-spacing"][()] for which in ("col", "row"))
        change(file, "proj-params/pixel-col-spacing", lambda _: row)
        change(file, "proj-params/pixel-row-spacing", lambda _: column)
    assert any("pixel-row-spacing are exchanged" in text for text in texts(findings(path, rois, "P01"), Level.WRONG))


def test_labels_of_another_shape_are_named(dataset):
    with h5py.File(dataset, "r+") as file:
        change(file, f"{ONE}/vol-seg/image/pixels", lambda pixels: pixels[::2, ::2, ::2])
    assert any(
        "differs from the CT's" in text and "(75, 45, 65)" in text for text in texts(findings(dataset), Level.WRONG)
    )


def test_poses_that_are_none_and_rois_that_are_not_there_are_named(dataset):
    with h5py.File(dataset, "r+") as file:
        change(file, f"{ONE}/projections/001/gt-poses/cam-to-pelvis-vol", lambda pose: 2 * pose)
        away = np.diag([1, 1, 1, 1]).astype(np.float32)
        away[2, 3] = 3000
        change(file, f"{ONE}/projections/002/gt-poses/cam-to-pelvis-vol", lambda pose: pose @ away)
    wrong = texts(findings(dataset, replace(SETTINGS, rois=("Left-Femur", "coccyx"))), Level.WRONG)
    assert any("1 of 3 X-rays have a pose that is not rigid: 001" in text for text in wrong)
    assert any("002" in text and "between source and detector" in text for text in wrong)
    assert any("no voxel of coccyx" in text for text in wrong)


def test_gt_seg_that_prefers_another_shift_than_the_images_does_not_decide(written):
    with open_dataset(written) as file:
        check, parameters = check_specimen(file, ONE, SETTINGS), stored_parameters(file)
    other = {
        name: tuple(Agreement(one.landmarks_px, dice, one.ncc) for one, dice in zip(row, (0.9, 0.99, 0.9), strict=True))
        for name, row in check.shifts.items()
    }
    found = conclusions([replace(check, shifts=other)], parameters, SETTINGS, {ONE: 3})
    assert texts(found, Level.SET)[0].startswith("Set prepare.ct_shift_voxels to 0.5")
    assert any("gt-seg agrees best with +0 voxels" in text for text in texts(found, Level.NOTE))


def test_images_that_do_not_tell_shifts_apart_set_nothing(written):
    with open_dataset(written) as file:
        check, parameters = check_specimen(file, ONE, SETTINGS), stored_parameters(file)
    noise = np.random.default_rng(0).normal(0, 1e-3, (20, 3))
    rows = {str(index): tuple(Agreement(0.0, 0.9, 0.8 + x) for x in row) for index, row in enumerate(noise)}
    found = conclusions([replace(check, shifts=rows)], parameters, SETTINGS, {ONE: 3})
    assert not texts(found, Level.SET)
    assert any("do not show whether" in text for text in texts(found, Level.NOTE))


def test_overlapping_bones_count_for_the_one_that_the_segmentation_names():
    one, other = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    one[:, :3], other[:, 1:] = True, True
    for order in ((1, 2), (2, 1)):
        segmentation = torch.zeros(4, 4, dtype=torch.uint8)
        for label in order:
            segmentation[one if label == 1 else other] = label
        assert segmentation_dice({1: one, 2: other}, segmentation) == 1
    assert segmentation_dice({1: one, 2: other}, segmentation.flip(1)) < 1


def test_x_rays_are_spread_over_all():
    assert spread(["a", "b", "c", "d", "e"], 3) == ["a", "c", "e"]
    assert spread(["a", "b"], 8) == ["a", "b"]


def test_a_specimen_that_is_not_there_is_refused_with_those_that_are(written, tmp_path):
    with open_dataset(written) as file, pytest.raises(ValueError, match="Choose among: 17-1882, 18-1109"):
        check_dataset(file, ["18-0725"], SETTINGS, {}, tmp_path)


def test_the_command_prints_the_sentences_and_writes_the_page(written, tmp_path):
    arguments = ["check-dataset", str(written), "--specimen", ONE, "--xrays", "3", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Set prepare.ct_shift_voxels to 0.5" in result.output
    page = (tmp_path / "out/check.md").read_text()
    assert "| lower-sacrum" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{ONE}.png", "check.csv", "check.md"]


def test_coarse_labels_lie_where_the_fine_ones_do(written):
    with open_dataset(written) as file:
        check = check_specimen(file, ONE, SETTINGS)
    fine = [row[1].dice for row in check.shifts.values()]
    assert torch.allclose(torch.tensor(fine), torch.tensor([one.dice for one in check.stored]), atol=0.03)
