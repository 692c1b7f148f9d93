"""Divides a specimen's X-rays among several registration jobs (shards), and joins the results."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from roireg.errors import InputError

Item = TypeVar("Item")


def numbered_shards(count: int, per_job: int) -> list[str]:
    """Names of the shards of `count` X-rays for jobs of at most `per_job`: `1-of-3`, `2-of-3`, `3-of-3`."""
    shards = max(math.ceil(count / per_job), 1)
    return [f"{shard}-of-{shards}" for shard in range(1, shards + 1)]


def of_shard(xrays: Sequence[Item], shard: str) -> Sequence[Item]:
    """The X-rays of a shard: X-rays are assigned to the shards in turn (round-robin).

    So all X-rays are registered even if there are more of them than were planned for.

    Raises:
        InputError: the shard is empty.
    """
    number, shards = (int(word) for word in shard.split("-of-"))
    chosen = xrays[number - 1 :: shards]
    if not chosen:
        fault = f"{len(xrays)} X-rays cannot be divided among {shards} jobs"
        raise InputError("config: deepfluoro.xrays", fault, "Set the number of X-rays of each specimen of the file")
    return chosen


def join_rows(path: str | Path, parts: Sequence[str | Path]) -> None:
    """Join the CSVs of registrations of all shards to one file, ordered by X-ray."""
    import pandas as pd

    from roireg.files import write_csv

    # Read as text, so that numbers are written exactly as they were.
    rows = pd.concat([pd.read_csv(part, dtype=str, keep_default_na=False) for part in parts])
    write_csv(path, rows.sort_values("projection", kind="stable"))


def join_traces(path: str | Path, parts: Sequence[str | Path]) -> None:
    """Join the files of traces of all shards to one file."""
    import h5py

    from roireg.files import atomic_path

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for part in parts:
            with h5py.File(part, "r") as source:
                for projection in source:
                    source.copy(projection, file)
