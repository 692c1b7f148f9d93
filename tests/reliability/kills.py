"""Runs of the workflow that are killed at random moments, continued by the plain command, compared with a whole run.

`python -m reliability.kills --kills 30` prints the figures. Killed is what the system would kill: Snakemake alone (its
jobs are orphans then), a job alone, or all at once. Trainings write a checkpoint after each epoch here, so that many
are resumed.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import psutil
from safetensors import safe_open
from workflows import copy_workflow

TARGETS = tuple(
    f"results/smoke/registrations/{method}/{specimen}.csv"
    for method in ("wsreg", "ours")
    for specimen in ("demo-01", "demo-02")
)
OVERLAY = """
segment: {unet: {epochs: 25}}
encoders: {ours: {epochs: 25}}
"""
CHECKPOINTS = re.compile(r"^CHECKPOINT_SECONDS = .*$", re.MULTILINE)
RESUMED = "resuming after epoch"
WAIT_SECONDS = (1.0, 40.0)
# A busy machine takes long; this ends what hangs.
LIMIT_SECONDS = 3 * 3600
# Columns and attributes that hold run times.
TIMES = ("seconds",)
HOLDERS = ("Snakemake", "a job", "all")


@dataclass
class Count:
    """What was counted."""

    kills: int = 0
    continued: int = 0
    rounds: int = 0
    equal: int = 0
    resumed: int = 0
    faults: list[str] = field(default_factory=list)


def prepared(folder: Path) -> Path:
    """A copy of the workflow whose trainings save their state after each epoch."""
    folder.mkdir()
    copy_workflow(folder)
    loop = folder / "src" / "roireg" / "training" / "loop.py"
    text, found = CHECKPOINTS.subn("CHECKPOINT_SECONDS = 0.0", loop.read_text())
    assert found == 1
    loop.write_text(text)
    (folder / "overlay.yaml").write_text(OVERLAY)
    return folder


def start(folder: Path, log: Path) -> subprocess.Popen:
    """The plain command, in a process group of its own."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/smoke.yaml", "overlay.yaml"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with log.open("ab") as out:
        return subprocess.Popen(
            [*command, "--", *TARGETS], cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True
        )


def kill(process: subprocess.Popen, what: str, rng: np.random.Generator) -> None:
    """Kill one or all of a run's processes; those of a job alone end the run with an error."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    if what == "all":
        os.killpg(process.pid, signal.SIGKILL)
    elif what == "Snakemake" or not children:
        process.kill()
    else:
        victim = children[int(rng.integers(len(children)))]
        if victim.is_running():
            victim.kill()


def resumed(folder: Path) -> int:
    """How many logs of trainings say that they went on."""
    logs = (folder / "results" / "smoke" / "logs").rglob("*.log")
    return sum(RESUMED in log.read_text(errors="replace") for log in logs)


def _same_csv(one: Path, other: Path) -> bool:
    tables = [pd.read_csv(path).drop(columns=list(TIMES), errors="ignore") for path in (one, other)]
    return tables[0].equals(tables[1])


def _stored(item: h5py.Group | h5py.Dataset) -> object:
    """Attributes, and what a dataset holds: the bytes of numbers, and texts themselves."""
    attributes = sorted((name, str(value)) for name, value in item.attrs.items() if name not in TIMES)
    if not isinstance(item, h5py.Dataset):
        return attributes
    values = np.asarray(item[()])
    return attributes, values.tolist() if values.dtype.kind == "O" else values.tobytes()


def _same_hdf5(one: Path, other: Path) -> bool:
    def content(path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        with h5py.File(path) as file:
            file.visititems(lambda key, item: found.update({key: _stored(item)}))
        return {key: value for key, value in found.items() if key.rsplit("/", 1)[-1] not in TIMES}

    return content(one) == content(other)


def _same_model(one: Path, other: Path) -> bool:
    def content(path: Path) -> dict[str, bytes]:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118

    return content(one) == content(other)


COMPARED = {".csv": _same_csv, ".h5": _same_hdf5, ".safetensors": _same_model}


def differences(whole: Path, killed: Path) -> list[str]:
    """Results of a whole run that a killed one lacks or has otherwise, and temporary files that it left."""
    found = []
    results = [path for path in (whole / "results").rglob("*") if path.suffix in COMPARED and "logs" not in path.parts]
    for path in results:
        name = path.relative_to(whole)
        if not (killed / name).exists():
            found.append(f"{name} is missing")
        elif not COMPARED[path.suffix](path, killed / name):
            found.append(f"{name} differs")
    left = [path for path in (killed / "results").rglob(".*") if path.is_file() and not path.name.startswith(".snake")]
    return [*found, *(f"{path.relative_to(killed)} was left" for path in left)]


def finish(folder: Path, log: Path, count: Count) -> bool:
    """The plain command to its end; whether it ended well."""
    process = start(folder, log)
    try:
        status = process.wait(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        count.faults.append("the plain command did not end")
        return False
    if status != 0:
        count.faults.append(f"the plain command failed: {log.read_text(errors='replace')[-1500:]}")
    return status == 0


def soak(folder: Path, kills: int, seed: int) -> Count:
    """Kill runs until there were so many kills; each round ends with the plain command and a comparison."""
    rng = np.random.default_rng(seed)
    count = Count()
    whole = prepared(folder / "whole")
    if not finish(whole, folder / "whole.log", count):
        return count
    print("the whole run has ended", flush=True)
    while count.kills < kills:
        count.rounds += 1
        run = prepared(folder / f"round{count.rounds}")
        # Not downloaded once more.
        shutil.copytree(whole / "results" / "downloads", run / "results" / "downloads")
        log = folder / f"round{count.rounds}.log"
        before = count.kills
        ended = False
        while count.kills < kills and not ended:
            process = start(run, log)
            end = time.monotonic() + float(rng.uniform(*WAIT_SECONDS))
            while time.monotonic() < end and process.poll() is None:
                time.sleep(0.02)
            if process.poll() is None:
                what = HOLDERS[count.kills % len(HOLDERS)]
                kill(process, what, rng)
                count.kills += 1
                if what == "a job":
                    try:
                        process.wait(timeout=120)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            else:
                ended = True
                if process.returncode != 0:
                    count.faults.append(f"a run failed: {log.read_text(errors='replace')[-1500:]}")
        if finish(run, log, count):
            found = differences(whole, run)
            count.resumed += resumed(run)
            if not found:
                count.equal += 1
                count.continued += count.kills - before
            else:
                count.faults += found
        print(f"round {count.rounds}: {count.kills} kills, {count.resumed} resumed, {count.faults}", flush=True)
        shutil.rmtree(run)
    return count


def main() -> int:
    """Kill, continue, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="roireg-kills-") as name:
        count = soak(Path(name), options.kills, options.seed)
    for fault in count.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(
        f"kills survived by the plain command with equal results: {count.continued}/{count.kills}, "
        f"in {count.rounds} rounds, {count.equal} of them equal; trainings resumed: {count.resumed}"
    )
    return int(bool(count.faults) or count.continued < options.kills)


if __name__ == "__main__":
    sys.exit(main())
