"""How far verdicts can be trusted, for tables: how many registrations are `trusted`, and how many of them wrong."""

import pandas as pd

# A registration is counted as wrong if its mpd is this large or if it has no result.
WRONG_FROM_MM = 2.0


def trusted(rows: pd.DataFrame) -> dict[str, int]:
    """Number of registrations with the verdict `trusted`, and how many of these are wrong (mpd not below 2 mm)."""
    own = rows[rows["verdict"] == "trusted"]
    return {"trusted": len(own), "trusted_wrong": int((~(own["mpd_mm"] < WRONG_FROM_MM)).sum())}
