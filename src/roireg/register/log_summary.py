"""The summary of registrations in the log."""

import math

import pandas as pd

SUCCESS_MM = 1.0


def log_summary(table: pd.DataFrame) -> str:
    """One line that summarises the registrations of one method on one specimen."""
    first = table.iloc[0]
    return (
        f"{first['method']} on {first['specimen']}: {(table['mpd_mm'] < SUCCESS_MM).mean():.0%} of {len(table)} X-rays "
        f"below {SUCCESS_MM:g} mm, median mpd {table['mpd_mm'].fillna(math.inf).median():.2f} mm, at the start "
        f"{table['init_mpd_mm'].median():.1f} mm, {table['seconds'].median():.1f} s per X-ray"
    )
