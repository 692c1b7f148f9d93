"""A job computes where its resource `gpu` says, on a GPU that no other job holds."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from roireg.errors import InputError
from roireg.workflow import gpu_slot as slots
from roireg.workflow.device import check_compiler, job_device
from roireg.workflow.gpu_slot import VISIBLE, gpu_slot, own_gpu, visible_gpus

HOLD = """
import sys, time
from pathlib import Path
from roireg.workflow import gpu_slot
gpu_slot.slots_folder = lambda: Path(sys.argv[1])
with gpu_slot.own_gpu(1):
    import os
    print(os.environ["CUDA_VISIBLE_DEVICES"], time.time(), flush=True)
    time.sleep(float(sys.argv[2]))
    print(time.time(), flush=True)
"""


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in (*slots.SCHEDULERS, VISIBLE):
        monkeypatch.delenv(name, raising=False)


def hold(folder: Path, seconds: float, gpus: str) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, VISIBLE: gpus})


def test_no_gpu_is_the_cpu():
    assert job_device(0, "training.gpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_explained():
    with pytest.raises(InputError) as raised:
        job_device(1, "registration.gpu")
    assert raised.value.where == "config: registration.gpu"
    assert "0" in raised.value.remedy


def test_two_jobs_get_two_gpus_and_a_third_waits_for_the_first_to_end(tmp_path):
    jobs = [hold(tmp_path, 2.0, "3,GPU-5a/b")]
    time.sleep(0.5)
    jobs += [hold(tmp_path, 2.0, "3,GPU-5a/b") for _ in range(2)]
    found = []
    for job in jobs:
        output, _ = job.communicate(timeout=120)
        assert job.returncode == 0
        first, end = output.splitlines()
        found.append((first.split()[0], float(first.split()[1]), float(end)))
    for gpu in ("3", "GPU-5a/b"):
        times = sorted((start, end) for name, start, end in found if name == gpu)
        assert times
        assert all(end <= start for (_, end), (start, _) in pairwise(times))
    assert len({name for name, _, _ in found}) == 2


def test_a_job_that_is_killed_lets_go_of_its_gpu(tmp_path):
    killed = hold(tmp_path, 60.0, "0")
    killed.stdout.readline()
    killed.kill()
    killed.wait()
    after = hold(tmp_path, 0.0, "0")
    output, _ = after.communicate(timeout=120)
    assert output.startswith("0 ")


def test_a_job_without_a_gpu_sees_none_and_the_environment_is_put_back(monkeypatch):
    with own_gpu(0):
        assert os.environ[VISIBLE] == ""
    assert VISIBLE not in os.environ
    monkeypatch.setenv(VISIBLE, "0,1")
    with own_gpu(0):
        assert os.environ[VISIBLE] == ""
    assert os.environ[VISIBLE] == "0,1"


def test_where_a_scheduler_gave_a_gpu_it_is_left_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(slots, "slots_folder", lambda: tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(VISIBLE, "2")
    with own_gpu(1):
        assert os.environ[VISIBLE] == "2"
    assert not list(tmp_path.iterdir())


def test_gpus_are_those_that_the_driver_lists(monkeypatch, tmp_path):
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'GPU 0: Some Card (UUID: GPU-1)'\necho 'GPU 1: Some Card (UUID: GPU-2)'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus() == ["0", "1"]
    driver.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus() == []


def test_a_divided_gpu_is_named_by_its_parts():
    listed = """GPU 0: Some Card (UUID: GPU-1)
  MIG 1g.10gb     Device  0: (UUID: MIG-a)
  MIG 1g.10gb     Device  1: (UUID: MIG-b)
GPU 1: Some Card (UUID: GPU-2)
"""
    assert slots.listed_gpus(listed) == ["MIG-a", "MIG-b", "1"]


def test_several_gpus_of_one_allocation_are_given_out_one_by_one(monkeypatch, tmp_path):
    monkeypatch.setattr(slots, "slots_folder", lambda: tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(VISIBLE, "MIG-a,MIG-b")
    with own_gpu(1):
        first = os.environ[VISIBLE]
        monkeypatch.setenv(VISIBLE, "MIG-a,MIG-b")
        with own_gpu(1):
            assert {first, os.environ[VISIBLE]} == {"MIG-a", "MIG-b"}
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_a_planted_lock_is_explained(tmp_path):
    def faults(folder: Path) -> str:
        with pytest.raises(InputError) as raised, gpu_slot(["0"], folder):
            pass
        return raised.value.where

    (tmp_path / "file").touch()
    assert faults(tmp_path / "file") == str(tmp_path / "file")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert faults(tmp_path / "link") == str(tmp_path / "link")
    (tmp_path / "real" / "0.lock").mkdir()
    assert faults(tmp_path / "real") == str(tmp_path / "real" / "0.lock")


def test_a_link_planted_as_a_lock_does_not_harm_the_file_that_it_names(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("data")
    folder = tmp_path / "slots"
    folder.mkdir(mode=0o700)
    (folder / "0.lock").symlink_to(precious)
    with pytest.raises(InputError) as raised, gpu_slot(["0"], folder):
        pass
    assert raised.value.where == str(folder / "0.lock")
    assert precious.read_text() == "data"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("GPU-8e3,GPU-41f", ["GPU-8e3", "GPU-41f"]),
        ("MIG-1d, MIG-2c", ["MIG-1d", "MIG-2c"]),
        ("1,-1,0", ["1"]),
        ("-1", []),
        ("", []),
    ],
)
def test_gpus_are_named_as_cuda_reads_them(monkeypatch, value, names):
    monkeypatch.setenv(VISIBLE, value)
    assert visible_gpus() == names


def test_the_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(InputError), gpu_slot(["0"], tmp_path):
        pass


def test_a_missing_compiler_or_header_is_said_with_its_remedy(monkeypatch, tmp_path):
    compiler, header = tmp_path / "gcc", tmp_path / "Python.h"
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match="C compiler"):
        check_compiler("training.gpu")
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    with pytest.raises(InputError, match="python3-dev"):
        check_compiler("training.gpu")
    header.touch()
    check_compiler("training.gpu")
