"""What ROI terms and weights bring to a registration, by optimizer: a table that the paper does not have."""

import pandas as pd

from roireg.metrics.statistics import CHANGE_MM, paired_change, summarize
from roireg.tables.comparison import Cell
from roireg.tables.table import Table

ABLATION_NOTES = (
    "Difference: median over X-rays of mpd minus that of the row compared with, on the same X-rays from the same "
    "starts, negative where the change helps, with a 95% bootstrap over specimens. Better / worse: by more than "
    f"{CHANGE_MM} mm. p: two-sided Wilcoxon signed-rank test.",
    "Compared with: a ROI term with none under the same weights; none with none under the first weights.",
    "mpd: mean distance of the projected landmarks under true and estimated pose on the detector plane. SRR: share "
    "with mpd below 1 mm; failures count; 95% bootstrap over specimens. Starts: X-rays, each counted once for every "
    "seed of the start.",
)
FIRST = ("–",) * 4


def ablation(rows: pd.DataFrame, cells: list[Cell], seed: int) -> Table:
    """The ablation, a row a cell.

    Args:
        rows: registrations of all methods.
        cells: rows of the table.
        seed: of the bootstrap.
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
        "mpd mm": f"{s['mpd_mm_mean']:.2f} ± {s['mpd_mm_sd']:.2f}",
        "SRR": f"{s['srr_1mm']:.0%} ({s['srr_1mm_ci_low']:.0%} to {s['srr_1mm_ci_high']:.0%})",
        "mpd median mm": f"{s['mpd_mm_median']:.2f}",
        "p95 mm": f"{s['mpd_mm_p95']:.2f}",
        "<2 / <5 / <10 mm": f"{s['srr_2mm']:.0%} / {s['srr_5mm']:.0%} / {s['srr_10mm']:.0%}",
        "start mpd mm": f"{s['init_mpd_mm_median']:.1f}",
        "s per X-ray": f"{s['seconds_median']:.1f}",
        "starts": f"{s['xrays']}",
    }


def _shown_change(reference: str, change: dict[str, float]) -> dict[str, str]:
    columns = ("compared with", "difference mm", "better / worse", "p")
    if not change:
        return dict(zip(columns, FIRST, strict=True))
    interval = f"{change['difference_ci_low']:+.2f} to {change['difference_ci_high']:+.2f}"
    values = (
        reference,
        f"{change['difference_median']:+.2f} ({interval})",
        f"{change['better']} / {change['worse']}",
        f"{change['paired_p']:.1g}",
    )
    return dict(zip(columns, values, strict=True))
