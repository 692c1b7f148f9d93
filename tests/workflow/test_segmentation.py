"""Segmenters in the workflow: nothing of the specimen left out is seen, a kill costs nothing, Table 2 says it all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from workflows import LONG, LONG_MODEL

from roireg.segment.evaluate import read_segmented
from roireg.segment.model import load_segmenter

ROIS = ["vertebrae", "upper sacrum", "left hemipelvis", "right hemipelvis", "left femur", "right femur"]
EPOCHS = LONG["segment"]["unet"]["epochs"]
SEGMENTERS = ("unet", "medsam")
SPECIMENS = ("demo-01", "demo-02")


def other(specimen: str) -> str:
    return SPECIMENS[1 - SPECIMENS.index(specimen)]


def model(segmenter: str, specimen: str) -> str:
    return f"results/smoke/segmenters/{segmenter}/{specimen}/model.safetensors"


def test_no_file_of_the_left_out_specimen_is_an_input_of_its_own_segmenter(smoke):
    output = smoke.plan("--forceall", "--printshellcmds").output
    jobs = re.findall(r"^rule (train_segmenter):\n    input: (.*)\n    output: (.*)\n", output, re.MULTILINE)
    assert len(jobs) == len(SEGMENTERS) * len(SPECIMENS)
    for _, inputs, outputs in jobs:
        (left_out,) = (specimen for specimen in SPECIMENS if f"/{specimen}/model.safetensors" in outputs)
        files = inputs.split(", ")
        assert sorted(Path(file).parent.name for file in files) == ["drrs", "specimens"]
        assert {Path(file).stem for file in files} == {other(left_out)}


def test_segmenters_train_to_the_same_weights_where_the_left_out_specimen_does_not_exist(smoke, tmp_path):
    workflow = type(smoke)(tmp_path / "copy")
    shutil.copytree(smoke.folder, workflow.folder)
    for path in ("specimens/demo-01.h5", "drrs/demo-01.h5", "dataset.h5"):
        (workflow.folder / "results/smoke" / path).unlink()
    targets = [model(segmenter, "demo-01") for segmenter in SEGMENTERS]
    for target in targets:
        (workflow.folder / target).unlink()
    result = workflow.run(*targets, "--allowed-rules", "train_segmenter")
    assert result.status == 0, result.output
    assert result.jobs == {"train_segmenter": 2}
    for target in targets:
        again, before = load_file(workflow.folder / target), load_file(smoke.folder / target)
        assert again.keys() == before.keys()
        assert all(torch.equal(again[name], before[name]) for name in before), target


def test_metrics_say_what_was_left_out_and_how_training_went(smoke):
    for segmenter in SEGMENTERS:
        folder = smoke.folder / f"results/smoke/segmenters/{segmenter}/demo-02"
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["left_out"] == "demo-02"
        assert metrics["images"] == {"xrays": 2, "drrs": 4}
        assert metrics["seed"] == 0
        assert metrics["device"] == "cpu, 1 threads"
        assert metrics["versions"]["torch"] == torch.__version__.split("+")[0]
        assert metrics["seconds"] > 0
        assert metrics["peak_memory_mib"] > 100
        assert [record["epoch"] for record in metrics["learning_curve"]] == list(range(2 if segmenter == "unet" else 1))
        assert not (folder / "checkpoint.pt").exists()


def test_segmentations_hold_every_image_and_roi(smoke):
    for segmenter in SEGMENTERS:
        for specimen in SPECIMENS:
            base = smoke.folder / f"results/smoke/segmentations/{segmenter}/{specimen}"
            rows = pd.read_csv(f"{base}.csv", dtype={"projection": str})
            assert list(rows.columns) == ["specimen", "segmenter", "projection", "image", "roi", "dice"]
            assert len(rows) == 2 * 2 * len(ROIS)
            assert rows["dice"].dropna().between(0, 1).all()
            found = read_segmented(f"{base}.h5")
            assert [(one.projection, one.kind) for one in found] == [
                (projection, kind) for projection in ("000", "001") for kind in ("xray", "drr")
            ]
            dice = rows["dice"].to_numpy(copy=True).reshape(4, len(ROIS))
            for one, expected in zip(found, dice, strict=True):
                torch.testing.assert_close(one.dice.double(), torch.from_numpy(expected), equal_nan=True)


def test_a_trained_segmenter_is_differentiable_from_its_maps_to_the_image(smoke):
    for segmenter in SEGMENTERS:
        loaded = load_segmenter(smoke.folder / model(segmenter, "demo-01"), ROIS, torch.device("cpu"))
        image = torch.rand(1, 48, 48, requires_grad=True)
        boxes = torch.tensor([[[5.0, 5.0, 30.0, 30.0]]]).expand(1, len(ROIS), 4)
        loaded.probabilities(image, boxes).square().sum().backward()
        assert image.grad.abs().max() > 0
        assert torch.isfinite(image.grad).all()


def test_table2_shows_both_segmenters_on_both_kinds_of_image_beside_the_paper(smoke):
    text = (smoke.folder / "results/smoke/tables/table2.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:6]]
    assert [line[0] for line in lines] == ["U-Net", "U-Net", "MedSAM (tiny)", "MedSAM (tiny)"]
    assert [line[2] for line in lines] == ["X-ray", "DRR", "X-ray", "DRR"]
    assert [line[4] for line in lines] == ["0.81 ± 0.07", "0.80 ± 0.07", "0.85 ± 0.07", "0.85 ± 0.06"]
    assert {line[1] for line in lines} == {"X-rays and DRRs"}
    assert "box of each ROI's true mask" in text
    numbers = pd.read_csv(smoke.folder / "results/smoke/tables/table2.csv")
    assert numbers["images"].tolist() == [4, 4, 4, 4]


# In `make test` tests/slurm kills a training that goes on, where SLURM can be installed.
@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(smoke, long, tmp_path):
    killed = type(smoke)(tmp_path / "killed")
    shutil.copytree(smoke.folder, killed.folder)

    (killed.folder / "long.yaml").write_text(yaml.safe_dump(LONG))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", LONG_MODEL, "--configfile", "config/smoke.yaml"]
    process = subprocess.Popen(
        [*command, "long.yaml"],
        cwd=killed.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoint = killed.folder / Path(LONG_MODEL).with_name("checkpoint.pt")
    log = killed.folder / "results/smoke/logs/train_segmenter/unet/demo-01.log"
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert f"epoch {EPOCHS}/{EPOCHS}" not in log.read_text()

    result = killed.run(LONG_MODEL, overlays=(LONG,))
    assert result.status == 0, result.output
    resumed_after = int(re.search(r"resuming after epoch (\d+)", log.read_text())[1])
    assert 0 < resumed_after < EPOCHS
    assert not checkpoint.exists()
    folders = (killed.folder, long.folder)
    resumed, expected = (load_file(folder / LONG_MODEL) for folder in folders)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    curves = [
        [
            record["loss"]
            for record in json.loads((folder / LONG_MODEL).with_name("metrics.json").read_text())["learning_curve"]
        ]
        for folder in folders
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == EPOCHS
