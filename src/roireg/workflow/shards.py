"""A specimen's X-rays dealt out to several registration jobs, and their results put together again."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from roireg.errors import InputError

Item = TypeVar("Item")


def part_names(count: int, per_job: int) -> list[str]:
    """Names of the parts of `count` X-rays for jobs of at most `per_job`: `1-of-3`, `2-of-3`, `3-of-3`."""
    parts = max(math.ceil(count / per_job), 1)
    return [f"{part}-of-{parts}" for part in range(1, parts + 1)]


def of_part(xrays: Sequence[Item], part: str) -> Sequence[Item]:
    """The X-rays of a part: dealt out like cards, so that all parts together are all X-rays, however many there are.

    Raises:
        InputError: none is left for this part.
    """
    number, parts = (int(word) for word in part.split("-of-"))
    chosen = xrays[number - 1 :: parts]
    if not chosen:
        fault = f"{len(xrays)} X-rays do not make {parts} parts"
        raise InputError("config: deepfluoro.xrays", fault, "State how many X-rays each specimen of the file has")
    return chosen


def join_rows(path: str | Path, parts: Sequence[str | Path]) -> None:
    """One file of registrations from those of its parts, in the order of the X-rays."""
    import pandas as pd

    from roireg.files import write_csv

    # As text, so that every number stays as it was written.
    rows = pd.concat([pd.read_csv(part, dtype=str, keep_default_na=False) for part in parts])
    write_csv(path, rows.sort_values("projection", kind="stable"))


def join_traces(path: str | Path, parts: Sequence[str | Path]) -> None:
    """One file of traces from those of its parts."""
    import h5py

    from roireg.files import atomic_path

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for part in parts:
            with h5py.File(part, "r") as source:
                for projection in source:
                    source.copy(projection, file)
