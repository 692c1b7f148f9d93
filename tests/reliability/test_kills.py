"""A run that is killed continues by the plain command, and what is left of it changes nothing any more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roireg.files import atomic_path
from roireg.workflow.run_lock import FOLDER, hold_run

SOURCE = Path(__file__).parents[2] / "src"
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from roireg.workflow.run_lock import end_with_run, hold_run

if not workflow.is_main_process:
    end_with_run()
elif not workflow.dryrun:
    hold_run()


rule all:
    input:
        "slow.txt",


rule slow:
    output:
        "slow.txt",
    log:
        "slow.log",
    params:
        seconds=config["seconds"],
    script:
        "slow.py"
"""
SCRIPT = """
import time
from pathlib import Path
from roireg.workflow.job import job

with job(snakemake.log[0], 1):
    Path("started").touch()
    time.sleep(float(snakemake.params.seconds))
    Path(snakemake.output[0]).write_text(f"after {snakemake.params.seconds} s")
"""


@pytest.fixture
def workflow(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "slow.py").write_text(SCRIPT)
    return tmp_path


def start(folder: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", f"seconds={seconds}"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_after_a_kill_the_plain_command_continues_and_the_orphan_writes_nothing(workflow):
    killed = start(workflow, 15)
    wait_for(workflow / "started")
    assert list((workflow / FOLDER / "locks").glob("*.lock"))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = start(workflow, 0)
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    assert (workflow / "slow.txt").read_text() == "after 0 s"
    # By now the orphan would have written.
    time.sleep(16)
    assert (workflow / "slow.txt").read_text() == "after 0 s"


def test_a_run_that_is_alive_keeps_its_lock(workflow):
    first = start(workflow, 12)
    wait_for(workflow / "started")
    second = start(workflow, 0)
    output, _ = second.communicate(timeout=200)
    assert second.returncode != 0
    assert "cannot be locked" in output or "lock" in output.lower()
    assert first.wait(timeout=200) == 0
    assert (workflow / "slow.txt").read_text() == "after 12 s"


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    code = f"from roireg.workflow.run_lock import hold_run; print(hold_run({str(tmp_path)!r}), flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    holder = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline().strip() == "True"
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "0.output.lock").touch()
    assert not hold_run(tmp_path)
    assert (tmp_path / "locks" / "0.output.lock").exists()
    holder.kill()
    holder.wait()
    assert hold_run(tmp_path)
    assert not (tmp_path / "locks" / "0.output.lock").exists()


def test_temporary_files_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    target = tmp_path / "table.csv"
    with atomic_path(target) as temporary:
        own = temporary.name
        temporary.write_text("1")
    stale = tmp_path / own.replace(str(os.getpid()), str(dead.pid))
    living = tmp_path / own.replace(str(os.getpid()), "1")
    other = tmp_path / f".other{stale.name.removeprefix('.table')}"
    for path in (stale, living, other):
        path.touch()
    with atomic_path(target) as temporary:
        temporary.write_text("2")
    assert target.read_text() == "2"
    assert not stale.exists()
    assert living.exists()
    assert other.exists()
