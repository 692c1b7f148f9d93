"""The lock of a run: after a kill the plain command continues, and jobs of the killed run cannot write any more.

The lock is one of the operating system: it ends with the process that holds it, however that ends. Snakemake's own lock
is a file that a killed run leaves behind.
"""

import fcntl
import os
import signal
import socket
import threading
import time
from pathlib import Path

VARIABLE = "ROIREG_RUN_LOCK"
FOLDER = Path(".snakemake")
RUN, JOBS = "roireg-run.lock", "roireg-jobs.lock"
# An orphan dies when it gets the lock of its run, which takes milliseconds.
WAIT_SECONDS = 20.0
_held: list[int] = []


def hold_run(folder: str | Path = FOLDER) -> bool:
    """Hold the lock of the run in a folder until this process ends, and clear what a killed run left of Snakemake's.

    Jobs of a killed run on this machine are waited for: they end by themselves.

    Args:
        folder: Snakemake's `.snakemake`.

    Returns:
        False if another run is alive, whose lock is then left in place.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    run = os.open(folder / RUN, os.O_RDWR | os.O_CREAT, 0o666)
    jobs = os.open(folder / JOBS, os.O_RDWR | os.O_CREAT, 0o666)
    if not (_taken(run, WAIT_SECONDS if _looks_abandoned(run) else 0.0) and _taken(jobs, WAIT_SECONDS)):
        os.close(run)
        os.close(jobs)
        return False
    os.ftruncate(run, 0)
    os.pwrite(run, f"{os.getpid()}\n".encode(), 0)
    # Released, so that this run's jobs can share it.
    os.close(jobs)
    _held.append(run)
    for lock in (folder / "locks").glob("*.lock"):
        lock.unlink(missing_ok=True)
    os.environ[VARIABLE] = f"{socket.gethostname()}:{folder.resolve()}"
    return True


def _looks_abandoned(run: int) -> bool:
    """Whether the process that last held the lock is dead: then only its orphans can hold it, for a moment."""
    try:
        owner = int(os.pread(run, 32, 0) or b"0")
    except ValueError:
        return True
    if owner == 0:
        return True
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _taken(descriptor: int, wait_seconds: float) -> bool:
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)


def end_with_run() -> None:
    """Kill this process as soon as the run that it is a job of is dead; nothing if there is no run on this machine."""
    host, _, folder = os.environ.get(VARIABLE, "").partition(":")
    if not folder or host != socket.gethostname() or _held:
        return
    try:
        jobs = os.open(Path(folder) / JOBS, os.O_RDWR)
        run = os.open(Path(folder) / RUN, os.O_RDWR)
    except OSError:
        return
    fcntl.flock(jobs, fcntl.LOCK_SH)
    _held.append(jobs)

    def wait() -> None:
        # Blocks while the run is alive.
        fcntl.flock(run, fcntl.LOCK_SH)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="end with run", daemon=True).start()
