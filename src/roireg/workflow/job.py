"""What every workflow script does around its work: log, threads, progress, errors in one line."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from roireg.errors import InputError
from roireg.workflow.gpu_slot import own_gpu

Item = TypeVar("Item")
logger = logging.getLogger("roireg")


@contextmanager
def job(log: str | Path, threads: int, gpus: int = 0) -> Iterator[logging.Logger]:
    """Run a script's work with its log in a file and on the terminal.

    A fault in the user's input ends the process with status 1 and one line; any other exception with its traceback.

    Args:
        log: path of the log file.
        threads: for numerical libraries that are imported inside.
        gpus: the job's resource `gpu`; with 1 it has a GPU of its own.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)
    # Torch and Numba each have a pool; a pool that spins while it waits takes the cores from the other one.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    formatter = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handlers: list[logging.Handler] = [logging.FileHandler(log, mode="w"), logging.StreamHandler(sys.stderr)]
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    start = time.perf_counter()
    try:
        with own_gpu(gpus):
            yield logger
        logger.info("done in %.1f s", time.perf_counter() - start)
    except InputError as error:
        logger.error("error: %s", error)
        sys.exit(1)
    except Exception:
        logger.exception("failed")
        raise
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def share_source(source: Path) -> None:
    """Let scripts that run in another environment, such as a conda one, import the package from `source`."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(source), *(path for path in others if path not in ("", str(source)))]
    )


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass items through, logging after each how many are done and how long the rest will take."""
    start = time.perf_counter()
    for done, item in enumerate(items, start=1):
        yield item
        elapsed = time.perf_counter() - start
        logger.info("%s %d/%d, %.0f s left", what, done, total, elapsed / done * (total - done))
