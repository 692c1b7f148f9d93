"""Writes and reads learning curves of encoders (`history.csv`)."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from roireg.files import write_csv
from roireg.training.loop import EpochRecord


def write_history(path: str | Path, history: list[EpochRecord]) -> None:
    """Write a learning curve as CSV: one row for each epoch; each of the record's `measures` is a column."""
    rows = []
    for record in history:
        row = asdict(record)
        rows.append({**{key: value for key, value in row.items() if key != "measures"}, **record.measures})
    write_csv(path, pd.DataFrame(rows))


def read_histories(paths: Iterable[str | Path]) -> list[pd.DataFrame]:
    """Read files written by `write_history`."""
    return [pd.read_csv(path) for path in paths]
