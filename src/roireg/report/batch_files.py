"""What the registration of many X-rays of one patient leaves behind: a folder for each, and results.csv for all."""

import math
from typing import Any

from roireg.register.judgement import XrayResult

REFUSED = "refused"
NUMBERS = ("ncc", "coverage", "projection_sd_mm", "across_sd_mm", "down_sd_mm", "depth_sd_mm", "seconds")
POSE = tuple(f"pose_{r}{c}" for r in range(3) for c in range(4))


def batch_row(xray: str, folder: str, one: XrayResult, seconds: float) -> dict[str, Any]:
    """The row of results.csv for an X-ray that was registered; docs/results.md describes the columns.

    Args:
        xray: its file, as it was given.
        folder: where its files are.
        one: its result.
        seconds: time of search and registration.
    """
    sd = one.spread
    numbers = (
        *(one.evidence.ncc, one.evidence.coverage, sd.projection_mm),
        *(sd.across_mm, sd.down_mm, sd.depth_mm, seconds),
    )
    return {
        "xray": xray,
        "verdict": str(one.verdict.grade),
        "reasons": "; ".join(one.verdict.reasons),
        **dict(zip(NUMBERS, numbers, strict=True)),
        **{name: float(value) for name, value in zip(POSE, one.pose[:3].flatten(), strict=True)},
        "folder": folder,
    }


def refused_row(xray: str, fault: str) -> dict[str, Any]:
    """The row for an X-ray that could not be read."""
    return {
        "xray": xray,
        "verdict": REFUSED,
        "reasons": fault,
        **dict.fromkeys((*NUMBERS, *POSE), math.nan),
        "folder": "",
    }
