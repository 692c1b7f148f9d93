"""One job per GPU of a workstation: Snakemake counts GPUs, but does not say which one a job has."""

import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Variables of schedulers that give a job its own GPU.
SCHEDULERS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "KUBERNETES_SERVICE_HOST")
WAIT_SECONDS = 1.0
logger = logging.getLogger("roireg")


def slots_folder() -> Path:
    """Where the locks are: shared by all workflows of a user on this machine."""
    return Path(tempfile.gettempdir()) / f"roireg-gpu-slots-{getuser()}"


def visible_gpus() -> list[str]:
    """Names of the GPUs that a job here may use, as `CUDA_VISIBLE_DEVICES` takes them; none without a driver."""
    if os.environ.get(VISIBLE) is not None:
        return [name for name in os.environ[VISIBLE].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU (\d+):", listed, re.MULTILINE)


@contextmanager
def gpu_slot(gpus: Sequence[str], folder: Path) -> Iterator[str]:
    """Hold one of the GPUs, which no other job then holds; wait while all are held.

    A job that dies lets go of it.

    Args:
        gpus: names, one at least.
        folder: of the locks.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        for gpu in gpus:
            lock = FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            try:
                yield gpu
            finally:
                lock.release()
            return
        if not waiting:
            logger.info("waiting for a GPU: other jobs hold %s", ", ".join(gpus))
        waiting = True
        time.sleep(WAIT_SECONDS)


@contextmanager
def own_gpu(count: int) -> Iterator[None]:
    """While it lasts, a job with a GPU sees its own one alone; it must begin before torch is imported.

    A job without a GPU sees none. On a cluster the scheduler has chosen.

    Args:
        count: the job's resource `gpu`.
    """
    before = os.environ.get(VISIBLE)
    gpus = visible_gpus() if count else []
    if any(name in os.environ for name in SCHEDULERS) or (count and not gpus):
        yield
        return
    try:
        if not count:
            os.environ[VISIBLE] = ""
            yield
            return
        with gpu_slot(gpus, slots_folder()) as gpu:
            os.environ[VISIBLE] = gpu
            logger.info("GPU %s", gpu)
            yield
    finally:
        if before is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = before
