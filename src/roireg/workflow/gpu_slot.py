"""Assigns each job its own GPU on a workstation: Snakemake limits how many jobs use GPUs, but does not assign them."""

import itertools
import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from roireg.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Environment variables of schedulers that assign GPUs to jobs themselves.
SCHEDULERS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "KUBERNETES_SERVICE_HOST")
WAIT_SECONDS = 1.0
logger = logging.getLogger("roireg")


def slots_folder() -> Path:
    """Folder of the lock files, common to all workflows of a user on this machine."""
    return Path(tempfile.gettempdir()) / f"roireg-gpu-slots-{os.getuid()}"


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as in `CUDA_VISIBLE_DEVICES`; empty without an NVIDIA driver."""
    if os.environ.get(VISIBLE) is not None:
        # As CUDA reads it: what follows -1 is invisible.
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return [name for name in itertools.takewhile(lambda name: name != "-1", names) if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return listed_gpus(listed)


def listed_gpus(listed: str) -> list[str]:
    """Names of the GPUs in the output of `nvidia-smi -L`; of one that is divided (MIG), the UUIDs of its parts."""
    parts: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if gpu := re.match(r"GPU (\d+):", line):
            parts[gpu[1]] = []
        elif (mig := re.search(r"\(UUID: (MIG-[^)]+)\)", line)) and parts:
            parts[[*parts][-1]].append(mig[1])
    return [name for gpu, own in parts.items() for name in own or [gpu]]


@contextmanager
def gpu_slot(gpus: Sequence[str], folder: Path) -> Iterator[str]:
    """Reserve one of the GPUs for the duration of the context; wait if other jobs have reserved all of them.

    The reservation is a file lock, which the operating system releases if the job dies.

    Args:
        gpus: names of the GPUs, at least one.
        folder: folder of the lock files.

    Raises:
        InputError: the folder or a lock file belongs to another user, or is something else.
    """
    from filelock import FileLock, Timeout

    _claim(folder)
    waiting = False
    while True:
        for gpu in gpus:
            lock = FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            except OSError as error:
                raise _unusable(Path(lock.lock_file), error.strerror or type(error).__name__) from None
            try:
                yield gpu
            finally:
                lock.release()
            return
        if not waiting:
            logger.info("waiting for a GPU: other jobs use %s", ", ".join(gpus))
        waiting = True
        time.sleep(WAIT_SECONDS)


def _claim(folder: Path) -> None:
    """Make the folder of the lock files, or check that it is this user's own."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner, is_folder = folder.lstat().st_uid, folder.is_dir() and not folder.is_symlink()
    except OSError as error:
        raise _unusable(folder, error.strerror or type(error).__name__) from None
    if not is_folder or owner != os.getuid():
        raise _unusable(folder, "it is no folder of this user's")


def _unusable(path: Path, fault: str) -> InputError:
    return InputError(str(path), f"cannot hold GPU locks ({fault})", "Remove it, or set TMPDIR to a folder of your own")


@contextmanager
def own_gpu(count: int) -> Iterator[None]:
    """Context in which only the job's own GPU is visible to CUDA; enter it before importing torch.

    A job without a GPU sees none. On a cluster the scheduler assigns GPUs, and nothing is changed, unless it assigned
    several to one allocation, in which jobs run side by side.

    Args:
        count: the job's resource `gpu`.
    """
    before = os.environ.get(VISIBLE)
    gpus = visible_gpus() if count else []
    allocation = next((name for name in SCHEDULERS if name in os.environ), None)
    shared = count > 0 and before is not None and len(gpus) > 1
    if (allocation is not None and not shared) or (count and not gpus):
        yield
        return
    # Two allocations on one node may use the same numbers for different GPUs.
    folder = slots_folder() if allocation is None else slots_folder() / re.sub(r"\W", "_", os.environ[allocation])
    try:
        if not count:
            os.environ[VISIBLE] = ""
            yield
            return
        with gpu_slot(gpus, folder) as gpu:
            os.environ[VISIBLE] = gpu
            logger.info("GPU %s", gpu)
            yield
    finally:
        if before is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = before
