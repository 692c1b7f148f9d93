"""Reads tables of results: registrations and Dice. docs/results.md describes the files.

Apart from what reads poses, so that tables and plots of errors load no torch.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd


def read_registrations(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Rows of several CSVs of registrations; `specimen`, `projection` and `method` are read as text."""
    names = {"specimen": str, "projection": str, "method": str}
    return pd.concat(
        [pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""]) for path in paths], ignore_index=True
    )


def read_bones(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Rows of several CSVs of registered bones; names are read as text."""
    names = dict.fromkeys(("specimen", "projection", "method", "bone", "together_with"), str)
    return pd.concat(
        [pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""]) for path in paths], ignore_index=True
    )


def read_dice(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Rows of several CSVs of Dice: `specimen, segmenter, projection, image, roi, dice`; names are read as text."""
    names = dict.fromkeys(("specimen", "segmenter", "projection", "image", "roi"), str)
    return pd.concat(
        [pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""]) for path in paths], ignore_index=True
    )
