"""Ablation: the effect of ROI terms and pixel weights on the error, by optimizer. The paper has no such table."""

import pandas as pd

from roireg.metrics.statistics import CHANGE_MM, paired_change, summarize
from roireg.tables import cells as text
from roireg.tables.comparison import Cell
from roireg.tables.paper import INTERVAL_NOTE, TEST_NOTE
from roireg.tables.table import Table

ABLATION_NOTES = (
    "Difference: median over X-rays of the paired difference in mpd, this row minus the row it is compared with, on "
    "the same X-rays from the same starts; negative where the change helps; with its interval. Better / worse: X-rays "
    f"whose mpd changes by more than {CHANGE_MM} mm.",
    INTERVAL_NOTE,
    TEST_NOTE,
    "Compared with: a row with a ROI term is compared with the row without one under the same weights; a row without a "
    "ROI term, with the row without one under the first weights.",
    "mpd: mean distance, on the detector plane, between landmarks projected under the true and the estimated pose. "
    "SRR: fraction of X-rays with mpd below 1 mm; a registration without a result counts as a failure. Starts: number "
    "of registrations, one for each X-ray and each seed of the initial pose.",
)
NOT_COMPARED = ("–",) * 4


def ablation(rows: pd.DataFrame, cells: list[Cell], seed: int) -> Table:
    """The ablation table, with one row for each cell (optimizer, weights, ROI term) of the design.

    Args:
        rows: registrations of all methods.
        cells: rows of the table.
        seed: seed of the bootstrap.
    """
    names = {tuple(cell.methods): f"{cell.optimizer}, {cell.weights}, ROI {cell.roi}" for cell in cells}
    numbers, shown = [], []
    for cell in cells:
        own = rows[rows["method"].isin(cell.methods)]
        summary = summarize(own, seed)
        change = {}
        if cell.reference is not None:
            change = paired_change(rows[rows["method"].isin(cell.reference)], own, seed)
        place = {"optimizer": cell.optimizer, "weights": cell.weights, "roi": cell.roi}
        reference = "" if cell.reference is None else names[tuple(cell.reference)]
        numbers.append({**place, "compared_with": reference, **summary, **change})
        shown.append({**place, **_shown(summary), **_shown_change(reference, change)})
    return Table(pd.DataFrame(numbers), pd.DataFrame(shown))


def _shown(s: dict[str, float]) -> dict[str, str]:
    return {
        "mpd mm": text.spread(s, "mpd_mm", 2),
        "SRR": text.success(s),
        "mpd median mm": f"{s['mpd_mm_median']:.2f}",
        "p95 mm": f"{s['mpd_mm_p95']:.2f}",
        "<2 / <5 / <10 mm": f"{s['srr_2mm']:.0%} / {s['srr_5mm']:.0%} / {s['srr_10mm']:.0%}",
        "start mpd mm": f"{s['init_mpd_mm_median']:.1f}",
        "s per X-ray": f"{s['seconds_median']:.1f}",
        "starts": text.runs(s),
    }


def _shown_change(reference: str, change: dict[str, float]) -> dict[str, str]:
    columns = ("compared with", "difference mm", "better / worse", "p (smallest possible)")
    if not change:
        return dict(zip(columns, NOT_COMPARED, strict=True))
    values = (
        reference,
        text.change(change),
        f"{change['better']} / {change['worse']}",
        text.p_value(change["paired_p"], change["paired_p_smallest"]),
    )
    return dict(zip(columns, values, strict=True))
