"""Common frame of all workflow scripts: log file, number of threads, progress, and errors in one line."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from roireg.errors import InputError
from roireg.extras import missing_extra
from roireg.files import write_error
from roireg.pace import Pace
from roireg.plugins import load_shared_plugins
from roireg.startup import collect_garbage_rarely
from roireg.workflow.gpu_slot import own_gpu
from roireg.workflow.run_lock import end_with_run

Item = TypeVar("Item")
logger = logging.getLogger("roireg")


@contextmanager
def job(log: str | Path, threads: int, gpus: int = 0) -> Iterator[logging.Logger]:
    """Context of a script's work: logs to a file and to the terminal, sets the number of threads, and loads plugins.

    An `InputError` ends the process with status 1 and a one-line message; other exceptions are logged with traceback.

    Args:
        log: path of the log file.
        threads: number of threads of numerical libraries; they must be imported inside the context.
        gpus: the job's resource `gpu`; with 1, the job gets its own GPU.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)
    # Torch and Numba each have a thread pool; one that busy-waits would take the cores from the other.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    collect_garbage_rarely()
    end_with_run()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    formatter = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handlers: list[logging.Handler] = [
        logging.FileHandler(log, mode="w", encoding="utf-8"),
        logging.StreamHandler(sys.stderr),
    ]
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    start = time.perf_counter()
    try:
        with own_gpu(gpus):
            load_shared_plugins()
            yield logger
        logger.info("done in %.1f s", time.perf_counter() - start)
    except InputError as error:
        logger.error("error: %s", error)
        sys.exit(1)
    except OSError as error:
        told = write_error(error.filename or Path.cwd(), error)
        if told is None:
            logger.exception("failed")
            raise
        logger.error("error: %s", told)
        sys.exit(1)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            logger.exception("failed")
            raise
        logger.error("error: %s", missing)
        sys.exit(1)
    except Exception:
        logger.exception("failed")
        raise
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def share_source(source: Path) -> None:
    """Add `source` to PYTHONPATH, so that scripts in other environments (such as conda's) can import the package."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(source), *(path for path in others if path not in ("", str(source)))]
    )


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield the items, and log at most once a second how many are done and the estimated time left."""
    start, pace = time.perf_counter(), Pace()
    for done, item in enumerate(items, start=1):
        yield item
        elapsed = time.perf_counter() - start
        if pace.due(done, total):
            logger.info("%s %d/%d, %.0f s left", what, done, total, elapsed / done * (total - done))
