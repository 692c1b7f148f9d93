"""Interleaved timing: all candidates run in turn in one process, so that changes in machine load affect all equally."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RESULTS = Path("results/bench")
THREADS = 2


def interleaved_medians_s(functions: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each function over `runs` rounds, after a warm-up; a round calls every function once."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(runs + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if run > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process that takes a core for as long as the context lasts."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def report(bench: str, records: list[dict]) -> None:
    """Print the records, one JSON object per line, and write them to `results/bench/{bench}.jsonl`."""
    lines = [json.dumps({"bench": bench, **record}) for record in records]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{bench}.jsonl").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
