"""Poses, data sets, models and configurations with odd entries: one line that names the entry, and what is right."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
import yaml

from reliability import fuzzed_tables as tables
from roireg.data.readers.text import read_yaml
from roireg.data.writers.poses import read_pose
from roireg.encode.model import load_encoder
from roireg.errors import InputError
from roireg.metrics.pose_file_errors import pose_errors, read_markups
from roireg.training.model_file import CHECKSUM
from roireg.workflow.config import default_config

CPU = torch.device("cpu")


def fault(read, *arguments) -> str:
    with pytest.raises(InputError) as raised:
        read(*arguments)
    assert str(raised.value).isprintable()
    return str(raised.value)


@pytest.fixture
def folder(tmp_path):
    tables._write_pose(tmp_path)
    tables._write_dataset(tmp_path)
    tables._write_models(tmp_path)
    return tmp_path


def changed(path, keys, value):
    entries = json.loads(path.read_text())
    at = entries
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("volume_from_camera", 3, 0), 5.0),
        (("volume_from_camera", 0, 3), float("nan")),
        (("volume_from_camera", 2), [1.0, 0.0]),
        (("volume_from_camera", 0), "1 0 0 0"),
        (("camera",), []),
        (("camera", "height_px"), 10**400),
        (("camera", "width_px"), 100.5),
        (("camera", "intrinsics_px", 1, 1), 0.0),
        (("camera", "intrinsics_px", 2, 2), 2.0),
        (("camera", "pixel_spacing_mm"), [2.5]),
        (("bone_points_mm", 1), [1.0, 2.0]),
        (("bone_points_mm", 1), "x"),
        (("covariance", "center_mm"), ["x", 0, 0]),
    ],
)
def test_an_entry_of_a_pose_that_cannot_be_meant_is_named(folder, keys, value):
    told = fault(read_pose, changed(folder / "pose.json", keys, value))
    assert "NaN is no number" in told or keys[0] in told


def test_a_pose_without_points_of_bone_is_a_pose(folder):
    path = changed(folder / "pose.json", ("bone_points_mm",), None)
    assert len(read_pose(path).bone_points_mm) == 0
    assert "bone_points_mm" in fault(pose_errors, path, path, None)


def test_deep_and_endless_json_is_one_line(folder):
    for text in ("[" * 100_000, '{"format": "roireg pose", "camera": ' + "[" * 5000):
        (folder / "pose.json").write_text(text)
        fault(read_pose, folder / "pose.json")
        fault(read_markups, folder / "pose.json")


ODD = {
    "a link in circles": lambda file, key: file.__setitem__(key, h5py.SoftLink(f"/{key}")),
    "a link to nowhere": lambda file, key: file.__setitem__(key, h5py.SoftLink("/nothing")),
    "a link to another file": lambda file, key: file.__setitem__(key, h5py.ExternalLink("none.h5", "/x")),
    "no dataspace": lambda file, key: file.__setitem__(key, h5py.Empty("f4")),
    "a group": lambda file, key: file.create_group(key),
    "text": lambda file, key: file.__setitem__(key, "text"),
    "a record": lambda file, key: file.__setitem__(key, np.zeros(3, dtype=[("a", "f4")])),
    "never written": lambda file, key: file.create_dataset(key, (12, 10, 14), "f4", chunks=(4, 4, 4)),
    "terabytes": lambda file, key: file.create_dataset(key, (10**5, 10**5, 400), "f4", chunks=(100, 100, 1)),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("key", ["P01/vol/pixels", "P01/projections/000/image/pixels", "P01/vol-seg/image/pixels"])
def test_an_odd_entry_of_a_data_set_is_named(folder, kind, key):
    with h5py.File(folder / "data.h5", "r+") as file:
        del file[key]
        ODD[kind](file, key)
    assert key in fault(tables._read_dataset, folder)


def test_chunks_of_a_ct_that_are_lost_are_not_zeros(folder):
    """A chunk that no index knows reads as the fill value."""
    key = "P01/vol/pixels"
    with h5py.File(folder / "data.h5", "r+") as file:
        whole = file[key][()]
        del file[key]
        made = file.create_dataset(key, whole.shape, whole.dtype, chunks=(4, 10, 14))
        made[:8] = whole[:8]
    assert "lost" in fault(tables._read_dataset, folder)


HOLD = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('held', flush=True); input()"


def test_a_data_set_that_another_program_writes_is_not_called_damaged(folder):
    command = [sys.executable, "-c", HOLD, str(folder / "data.h5")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "held"
        assert "another program" in fault(tables._read_dataset, folder)
    finally:
        holder.kill()
        holder.wait()


def described(folder, change):
    """The encoder's file with another description."""
    path = folder / "encoder.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    told = json.loads(header["__metadata__"]["roireg_encoder"])
    change(told)
    header["__metadata__"]["roireg_encoder"] = json.dumps(told)
    # As files of older versions, which have none.
    del header["__metadata__"][CHECKSUM]
    new = json.dumps(header).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + length :])
    return path


def test_a_model_without_a_checksum_is_read(folder):
    load_encoder(described(folder, lambda told: None), CPU)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["network"].update(layers=[10_000_000, 1, 1, 1]),
        lambda told: told["network"].update(widths=[4096, 4096, 4096, 4096]),
        lambda told: told["network"].update(image_size_px=10**9),
        lambda told: told["network"].update(image_size_px=-1),
        lambda told: told.update(twist_unit=[float("nan")] * 6),
        lambda told: told.update(pa_pose=[0.0] * 16),
        lambda told: told["camera"].update(height=10**9),
    ],
)
def test_a_description_of_a_model_that_asks_for_anything_is_one_line(folder, change):
    assert "cannot be read as an encoder" in fault(load_encoder, described(folder, change), CPU)


def test_one_bit_of_a_weight_is_told(folder):
    path = folder / "encoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))
    assert "checksum" in fault(load_encoder, path, CPU)


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "rois: &a [x]\nlabels: *a",
        "[" * 5000,
        "seed: 1\nseed: 2\n",
        "x: !!python/object/apply:os.system [ls]",
        "seed: .nan",
        "\0",
        yaml.safe_dump({"segment": {"unet": {"widths": [10**9] * 6}}}),
    ],
)
def test_a_configuration_that_is_odd_is_one_line(folder, text):
    (folder / "mine.yaml").write_text(text)
    fault(default_config, folder / "mine.yaml")


def test_a_configuration_in_another_encoding_is_one_line(folder):
    (folder / "mine.yaml").write_bytes("# Müller\nseed: 1\n".encode("latin-1"))
    assert "UTF-8" in fault(default_config, folder / "mine.yaml")


def test_aliases_that_repeat_little_are_read(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("segment:\n  unet: {type: unet, widths: &widths [4, 4]}\nencoders: {}\nx: *widths\n")
    assert read_yaml(path, "")["x"] == [4, 4]
