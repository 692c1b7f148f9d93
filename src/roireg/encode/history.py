"""Learning curves of encoders, as files."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from roireg.files import write_csv
from roireg.training.loop import EpochRecord


def write_history(path: str | Path, history: list[EpochRecord]) -> None:
    """Write a learning curve as CSV, one row an epoch, the measures as columns."""
    rows = []
    for record in history:
        row = asdict(record)
        rows.append({**{key: value for key, value in row.items() if key != "measures"}, **record.measures})
    write_csv(path, pd.DataFrame(rows))


def read_histories(paths: Iterable[str | Path]) -> list[pd.DataFrame]:
    """Learning curves that `write_history` wrote."""
    return [pd.read_csv(path) for path in paths]
