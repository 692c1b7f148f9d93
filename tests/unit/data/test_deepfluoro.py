"""Files in the DeepFluoro layout: what is written is read, and what is wrong is named."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import OBLIQUE_DIRECTION, carm, expose, phantom_ct, write_small_dataset

from roireg.data.deepfluoro import projection_names, read_ct, read_parameters, read_projection, specimen_names
from roireg.data.deepfluoro_records import POSES
from roireg.data.readers.hdf5_file import open_dataset
from roireg.errors import InputError

SMALL = carm(rows=56, columns=48, row_spacing_mm=6.0, column_spacing_mm=6.5)
NAMES = ("z-last", "18-0725")
XRAY = "z-last/projections/000"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("deepfluoro")
    return write_small_dataset(folder / "written.h5", NAMES, parameters=SMALL, upside_down=(False, True))


@pytest.fixture
def dataset(written, tmp_path) -> Path:
    return Path(shutil.copy(written, tmp_path / "dataset.h5"))


def read_everything(path: Path) -> dict:
    with open_dataset(path) as file:
        parameters = read_parameters(file)
        specimens = {
            name: (
                read_ct(file, name),
                [read_projection(file, name, key, parameters) for key in projection_names(file, name)],
            )
            for name in specimen_names(file)
        }
        return {"parameters": parameters, "specimens": specimens}


def replace(file: h5py.File, key: str, value) -> None:
    del file[key]
    file[key] = value


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_everything(path)
    error = caught.value
    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert error.what
    assert len(error.remedy) > 5
    assert error.remedy in str(error)
    return error


def test_what_was_written_is_read(written):
    content = read_everything(written)
    for field in ("extrinsic", "intrinsic", "rows", "columns", "row_spacing_mm", "column_spacing_mm"):
        np.testing.assert_array_equal(getattr(content["parameters"], field), getattr(SMALL, field))
    assert [*content["specimens"]] == sorted(NAMES)
    for name, (ct, xrays) in content["specimens"].items():
        expected = phantom_ct(name)
        for field in ("hu", "labels", "spacing_mm", "origin_mm", "direction"):
            np.testing.assert_array_equal(getattr(ct, field), getattr(expected, field))
        assert ct.label_names == expected.label_names
        assert ct.landmarks_mm.keys() == expected.landmarks_mm.keys()
        np.testing.assert_array_equal(ct.landmarks_mm["L7-x"], expected.landmarks_mm["L7-x"])
        assert [xray.name for xray in xrays] == ["000", "001"]
        for xray, turned in zip(xrays, (False, True), strict=True):
            exposed = expose(expected, SMALL, xray.name, turned)
            assert xray.rotate_180_for_up is turned
            assert xray.intensity.dtype == np.uint16
            np.testing.assert_array_equal(xray.intensity, exposed.intensity)
            np.testing.assert_array_equal(xray.segmentation, exposed.segmentation)
            assert [*xray.poses] == [*POSES]
            for key in POSES:
                np.testing.assert_array_equal(xray.poses[key], exposed.poses[key])
            np.testing.assert_array_equal(xray.landmarks_px["L12-z"], exposed.landmarks_px["L12-z"])


def test_a_voxel_lies_where_itk_puts_it(written):
    with open_dataset(written) as file:
        ct = read_ct(file, "z-last")
    index_xyz = np.array([7.0, 11.0, 30.0])
    expected = ct.origin_mm + OBLIQUE_DIRECTION @ (ct.spacing_mm * index_xyz)
    np.testing.assert_allclose(ct.volume_from_voxel() @ [*index_xyz, 1.0], [*expected, 1.0])


def test_vectors_stored_as_columns_read_as_vectors(written, tmp_path):
    path = write_small_dataset(tmp_path / "columns.h5", ("z-last",), parameters=SMALL, column_vectors=True)
    with h5py.File(path) as file:
        assert file["z-last/vol/origin"].shape == (3, 1)
        assert file["z-last/vol/spacing"].shape == (3, 1)
        assert file["z-last/vol-landmarks/L3-c"].shape == (3, 1)
        assert file[f"{XRAY}/gt-landmarks/L3-c"].shape == (2, 1)
    ct, xrays = read_everything(path)["specimens"]["z-last"]
    expected, expected_xrays = read_everything(written)["specimens"]["z-last"]
    np.testing.assert_array_equal(ct.volume_from_voxel(), expected.volume_from_voxel())
    for name, position in expected.landmarks_mm.items():
        np.testing.assert_array_equal(ct.landmarks_mm[name], position)
        np.testing.assert_array_equal(xrays[0].landmarks_px[name], expected_xrays[0].landmarks_px[name])


def test_what_a_file_may_lack_is_read_as_missing(tmp_path):
    path = write_small_dataset(tmp_path / "bare.h5", ("x",), (True,), parameters=SMALL, optional=False)
    with h5py.File(path) as file:
        assert sorted(file["x/projections/000"]) == ["gt-poses", "image"]
    _, (xray,) = read_everything(path)["specimens"]["x"]
    assert xray.segmentation is None
    assert xray.landmarks_px == {}
    assert [*xray.poses] == ["cam-to-pelvis-vol"]
    assert xray.rotate_180_for_up is False


def test_a_missing_file_is_named(tmp_path):
    error = refused(tmp_path / "nowhere.h5")
    assert "no such file" in error.what
    assert "dataset.path" in error.remedy


def test_a_folder_is_not_a_file(tmp_path):
    refused(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_named(dataset, kept):
    content = dataset.read_bytes()
    dataset.write_bytes(content[: int(kept * len(content))])
    assert "ownload it again" in refused(dataset).remedy


def test_a_file_that_is_not_hdf5_is_named(dataset):
    dataset.write_text("<html>Please accept the licence first</html>\n" * 100)
    assert "not a readable HDF5 file" in refused(dataset).what


@pytest.mark.parametrize("key", [f"{XRAY}/image/pixels", "z-last/vol/pixels"])
def test_a_damaged_block_is_named(dataset, key):
    with h5py.File(dataset) as file:
        chunk = file[key].id.get_chunk_info(0)
    with dataset.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\0" * chunk.size)
    assert "ownload it again" in refused(dataset).remedy


@pytest.mark.parametrize(
    ("removed", "key"),
    [
        ("proj-params", "proj-params/extrinsic"),
        ("proj-params/intrinsic", "proj-params/intrinsic"),
        ("proj-params/num-cols", "proj-params/num-cols"),
        ("z-last/vol", "z-last/vol/pixels"),
        ("z-last/vol/origin", "z-last/vol/origin"),
        ("z-last/vol-seg", "z-last/vol-seg/image/pixels"),
        ("z-last/vol-seg/labels-def", "z-last/vol-seg/labels-def"),
        ("z-last/vol-landmarks", "z-last/vol-landmarks"),
        ("z-last/projections", "z-last/projections"),
        (f"{XRAY}/image", f"{XRAY}/image/pixels"),
        (f"{XRAY}/gt-poses", f"{XRAY}/gt-poses/cam-to-pelvis-vol"),
        (f"{XRAY}/gt-poses/cam-to-pelvis-vol", f"{XRAY}/gt-poses/cam-to-pelvis-vol"),
    ],
)
def test_what_is_missing_is_named(dataset, removed, key):
    with h5py.File(dataset, "r+") as file:
        del file[removed]
    error = refused(dataset)
    assert error.where == f"{dataset}:{key}"
    assert "missing" in error.what


def with_nan(value: np.ndarray) -> np.ndarray:
    out = value.astype(np.float32)
    out.reshape(-1)[out.size // 2] = np.nan
    return out


REFLECTION = np.diag([-1.0, 1.0, 1.0, 1.0])
SCALING = np.diag([2.0, 2.0, 2.0, 1.0])
MIRRORED = np.array([[-700.0, 0.0, 24.0], [0.0, 700.0, 28.0], [0.0, 0.0, 1.0]])
NO_FOCAL = np.array([[0.0, 0.0, 24.0], [0.0, -700.0, 28.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("key", "change", "what"),
    [
        (f"{XRAY}/image/pixels", with_nan, "NaN"),
        (f"{XRAY}/image/pixels", lambda x: np.full_like(x, 7), "every pixel is 7"),
        (f"{XRAY}/image/pixels", lambda x: x[:-1], r"shape is \(55, 48\)"),
        (f"{XRAY}/image/pixels", lambda x: x.T, r"shape is \(48, 56\)"),
        (f"{XRAY}/image/pixels", lambda x: "none", "not an array of numbers"),
        (f"{XRAY}/gt-seg/pixels", lambda x: x[::2], "shape differs"),
        (f"{XRAY}/gt-poses/cam-to-pelvis-vol", lambda x: x @ REFLECTION, "not a rigid transform"),
        (f"{XRAY}/gt-poses/cam-to-pelvis-vol", lambda x: x @ SCALING, "not a rigid transform"),
        (f"{XRAY}/gt-poses/cam-to-pelvis-vol", lambda x: x.T, "not a rigid transform"),
        (f"{XRAY}/gt-poses/cam-to-pelvis-vol", with_nan, "NaN"),
        (f"{XRAY}/gt-poses/cam-to-pelvis-vol", lambda x: x[:3], "shape"),
        (f"{XRAY}/gt-poses/cam-to-left-femur-vol", lambda x: x @ SCALING, "not a rigid transform"),
        (f"{XRAY}/gt-landmarks/L3-c", lambda x: np.append(x, 0.0), "shape"),
        ("z-last/vol/pixels", with_nan, "NaN"),
        ("z-last/vol/spacing", lambda x: x[:2], "shape"),
        ("z-last/vol/origin", with_nan, "NaN"),
        ("z-last/vol/spacing", lambda x: x * np.array([1.0, 0.0, 1.0]), "positive"),
        ("z-last/vol/spacing", lambda x: -x, "positive"),
        ("z-last/vol/dir-mat", lambda x: x[0], "shape"),
        ("z-last/vol/dir-mat", lambda x: 2 * x, "orthonormal"),
        ("z-last/vol/pixels", lambda x: x[0], "three-dimensional"),
        ("z-last/vol-seg/image/pixels", lambda x: x[::2, ::2, ::2], "differs from the CT's"),
        ("z-last/vol-seg/image/pixels", lambda x: x * np.float32(np.nan), "label ids"),
        ("z-last/vol-seg/image/pixels", lambda x: x.astype(np.int32) + 256, "label ids"),
        ("z-last/vol-seg/image/origin", lambda x: x + np.array([0.0, 5.0, 0.0]), "differs from the CT's"),
        ("z-last/vol-seg/image/spacing", lambda x: 1.5 * x, "differs from the CT's"),
        ("z-last/vol-seg/image/dir-mat", lambda x: np.eye(3), "differs from the CT's"),
        ("z-last/vol-landmarks/L7-y", with_nan, "NaN"),
        ("proj-params/pixel-row-spacing", lambda x: 0.0 * x, "positive"),
        ("proj-params/pixel-col-spacing", lambda x: -x, "positive"),
        ("proj-params/extrinsic", lambda x: x @ SCALING, "not a rigid transform"),
        ("proj-params/intrinsic", lambda x: MIRRORED, "negative"),
        ("proj-params/intrinsic", lambda x: NO_FOCAL, "focal"),
        ("proj-params/intrinsic", lambda x: x.T, "triangular|focal"),
        ("proj-params/intrinsic", with_nan, "NaN"),
    ],
)
def test_what_is_wrong_is_named(dataset, key, change, what):
    with h5py.File(dataset, "r+") as file:
        replace(file, key, change(file[key][()]))
    error = refused(dataset)
    assert error.where == f"{dataset}:{key}"
    assert re.search(what, error.what)


def test_a_label_without_a_number_is_named(dataset):
    with h5py.File(dataset, "r+") as file:
        file["z-last/vol-seg/labels-def/femur"] = "3"
    assert refused(dataset).where == f"{dataset}:z-last/vol-seg/labels-def/femur"


def test_a_specimen_without_xrays_is_named(dataset):
    with h5py.File(dataset, "r+") as file:
        del file["z-last/projections/000"], file["z-last/projections/001"]
    assert refused(dataset).where == f"{dataset}:z-last/projections"


def test_what_is_no_group_is_no_specimen(dataset):
    with h5py.File(dataset, "r+") as file:
        file["readme"] = "converted with a script of our own"
    with open_dataset(dataset) as file:
        assert specimen_names(file) == sorted(NAMES)


def test_a_file_without_specimens_is_named(dataset):
    with h5py.File(dataset, "r+") as file:
        for name in NAMES:
            del file[name]
    assert "no specimen" in refused(dataset).what
