"""The disk space that a run needs is known before it starts, from the configuration alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from roireg.encode.model import network_settings
from roireg.encode.network import build_network
from roireg.errors import InputError
from roireg.segment.registry import SEGMENTERS
from roireg.segment.unet import UNet, UNetSettings
from roireg.workflow.config import default_config
from roireg.workflow.disk_space import Job, check_space, encoder_bytes, job_bytes

CONFIG = default_config()
PAPER = default_config(Path(__file__).parents[3] / "config" / "deepfluoro.yaml")
XRAYS = {"demo-01": 6, "demo-02": 6}
POOL = Job("synthesize_drrs", {"specimen": "demo-01"}, ("results/demo/drrs/demo-01.h5",))


def weights(network) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


@pytest.mark.parametrize("config", [CONFIG, PAPER], ids=["demo", "paper"])
def test_sizes_of_networks_are_those_of_the_networks(config):
    for entry in config["encoders"].values():
        built = weights(build_network(network_settings(entry["network"])))
        assert encoder_bytes(entry["network"]) == pytest.approx(built, rel=0.05)
    for entry in config["segment"].values():
        if entry["type"] == "unet":
            built = weights(UNet(UNetSettings(entry["image_size_px"], tuple(entry["widths"])), len(config["rois"])))
            assert SEGMENTERS["unet"].model_bytes(entry) == pytest.approx(built, rel=0.05)


def test_what_fits_passes_and_what_does_not_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_space([POOL], CONFIG, XRAYS)
    free = shutil.disk_usage(tmp_path).free
    each = job_bytes(POOL, CONFIG, XRAYS)
    many = int(free / each) + 2
    with pytest.raises(InputError, match=r"about .* GB there, and .* GB are free") as raised:
        check_space([POOL] * many, CONFIG, XRAYS)
    assert raised.value.where == str(tmp_path)
    assert "--directory" in raised.value.remedy


def test_each_disk_is_asked_for_its_own_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    away = replace(POOL, outputs=(str(elsewhere / "drrs" / "demo-01.h5"),))
    many = int(shutil.disk_usage(elsewhere).free / job_bytes(away, CONFIG, XRAYS)) + 2
    with pytest.raises(InputError) as raised:
        check_space([POOL, *[away] * many], CONFIG, XRAYS)
    assert raised.value.where == str(elsewhere)


def test_the_largest_checkpoint_counts_while_it_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = Job("train_segmenter", {"segmenter": "medsam", "specimen": "17-1882"}, ("results/m/model.safetensors",))
    model = job_bytes(training, PAPER, {})
    assert 3.5e8 < model < 4e8
    free = shutil.disk_usage(tmp_path).free
    several = int(free / model) - 2
    assert several * model < free
    with pytest.raises(InputError, match="the run will write"):
        check_space([training] * several, PAPER, {})
