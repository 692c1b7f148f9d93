"""Assigns each job its own GPU on a workstation: Snakemake limits how many jobs use GPUs, but does not assign them."""

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
# Environment variables of schedulers that assign GPUs to jobs themselves.
SCHEDULERS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "KUBERNETES_SERVICE_HOST")
WAIT_SECONDS = 1.0
logger = logging.getLogger("roireg")


def slots_folder() -> Path:
    """Folder of the lock files, common to all workflows of a user on this machine."""
    return Path(tempfile.gettempdir()) / f"roireg-gpu-slots-{getuser()}"


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as in `CUDA_VISIBLE_DEVICES`; empty without an NVIDIA driver."""
    if os.environ.get(VISIBLE) is not None:
        return [name for name in os.environ[VISIBLE].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU (\d+):", listed, re.MULTILINE)


@contextmanager
def gpu_slot(gpus: Sequence[str], folder: Path) -> Iterator[str]:
    """Reserve one of the GPUs for the duration of the context; wait if other jobs have reserved all of them.

    The reservation is a file lock, which the operating system releases if the job dies.

    Args:
        gpus: names of the GPUs, at least one.
        folder: folder of the lock files.
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
            logger.info("waiting for a GPU: other jobs use %s", ", ".join(gpus))
        waiting = True
        time.sleep(WAIT_SECONDS)


@contextmanager
def own_gpu(count: int) -> Iterator[None]:
    """Context in which only the job's own GPU is visible to CUDA; enter it before importing torch.

    A job without a GPU sees none. On a cluster nothing is changed, because the scheduler assigns GPUs.

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
