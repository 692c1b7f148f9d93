"""The workflow through a real SLURM, on one node with a GPU that is none: it ends as it does without, kill included."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from workflows import LONG, Workflow, copy_workflow

HERE = Path(__file__).parent
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
MODELS = ("segmenters/unet/demo-01/model.safetensors", "encoders/ours/demo-01/model.safetensors")
# Needs the network that is trained for long, and one encoder.
TABLE = "registrations/wsreg/demo-01.csv"
TARGET = f"results/smoke/{TABLE}"


def reason_to_skip() -> str | None:
    """Why there can be no SLURM here."""
    if os.environ.get("ROIREG_TEST_SLURM") != "1":
        return "ROIREG_TEST_SLURM=1 allows it: it overwrites /etc/slurm, for throw-away machines"
    missing = [name for name in DAEMONS if not shutil.which(name, path="/usr/sbin:/usr/bin")]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return None if os.geteuid() == 0 else "starting SLURM needs root"


@pytest.fixture(scope="module")
def slurm():
    """A cluster of this machine."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    up = subprocess.run([HERE / "one_node.sh", "up"], capture_output=True, text=True, check=False)
    if up.returncode:
        pytest.skip(f"SLURM does not start here: {(up.stdout + up.stderr)[-300:]}")
    yield
    subprocess.run([HERE / "one_node.sh", "down"], check=True)


def command(folder: Path) -> list[str]:
    """Snakemake with the profile that users get, and what this cluster needs."""
    (folder / "cluster.yaml").write_text(yaml.safe_dump(LONG))
    # The node's GPU is none, so that jobs which hold it compute on the CPU.
    gpu = [
        f"{rule}:{what}"
        for rule in ("train_segmenter", "train_encoder")
        for what in ("gres=gpu:1", "slurm_partition=gpu")
    ]
    options = [
        "--slurm-status-command",
        "squeue",
        "--slurm-init-seconds-before-status-checks",
        "2",
        "--seconds-between-status-checks",
        "2",
    ]
    return [
        *(sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", *options),
        *("--latency-wait", "10", "--default-resources", "slurm_partition=cpu", "--set-resources", *gpu),
        *("--configfile", "config/smoke.yaml", "cluster.yaml", "--", TARGET),
    ]


def states() -> pd.DataFrame:
    """Jobs that SLURM knows of: id, state, comment (Snakemake's rule), GPUs."""
    text = subprocess.run(
        ["squeue", "--noheader", "--states=all", "--format=%A|%T|%k|%b|%P"], capture_output=True, text=True, check=True
    ).stdout
    return pd.DataFrame(
        [line.split("|") for line in text.splitlines()], columns=["id", "state", "rule", "gres", "queue"]
    )


@pytest.fixture(scope="module")
def run(slurm, smoke, tmp_path_factory) -> tuple[Workflow, str, pd.DataFrame]:
    """The workflow on the cluster, of which a training is killed while it runs; its output, and SLURM's jobs.

    After the smoke run, so that Numba has compiled, and workers do not wait for that run longer than needed.
    """
    workflow = copy_workflow(tmp_path_factory.mktemp("slurm"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    log = workflow.folder / "snakemake.out"
    with log.open("w") as file:
        process = subprocess.Popen(
            command(workflow.folder), cwd=workflow.folder, env=environment, stdout=file, stderr=file
        )
    checkpoint = workflow.folder / "results/smoke/segmenters/unet/demo-01/checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    now = states()
    running = now[
        (now["state"] == "RUNNING") & now["rule"].str.contains("train_segmenter") & now["rule"].str.contains("demo-01")
    ]
    assert len(running) == 1, now.to_string()
    subprocess.run(["scancel", running["id"].iloc[0]], check=True)
    assert process.wait(timeout=900) == 0, log.read_text()
    return workflow, log.read_text(), states()


def test_a_training_that_was_killed_is_submitted_again_and_goes_on(run):
    workflow, output, jobs = run
    training = jobs[jobs["rule"].str.contains("train_segmenter")]
    assert sorted(training["state"]) == ["CANCELLED", "COMPLETED"]
    assert "Trying to restart job" in output
    log = (workflow.folder / "results/smoke/logs/train_segmenter/unet/demo-01.log").read_text()
    assert "resuming after epoch" in log


def test_only_trainings_had_the_gpu(run):
    _, _, jobs = run
    with_gpu = jobs["gres"].str.contains("gpu")
    trainings = jobs["rule"].str.contains("train_segmenter|train_encoder")
    assert trainings.sum() == 3
    assert with_gpu.tolist() == trainings.tolist()
    assert set(jobs.loc[with_gpu, "queue"]) == {"gpu"}
    assert set(jobs.loc[~with_gpu, "queue"]) == {"cpu"}


def test_results_are_those_of_a_run_without_a_cluster_and_without_a_kill(run, long, tmp_path):
    workflow, _, _ = run
    local = Workflow(tmp_path / "local")
    shutil.copytree(long.folder, local.folder)
    result = local.run(TARGET, overlays=(LONG,))
    assert result.status == 0, result.output
    here, there = (folder / "results/smoke" for folder in (local.folder, workflow.folder))
    for name in MODELS:
        one, other = load_file(here / name), load_file(there / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    one, other = (pd.read_csv(folder / TABLE, dtype={"projection": str}) for folder in (here, there))
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))
