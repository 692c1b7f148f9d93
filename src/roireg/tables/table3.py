"""Table 3 of the paper: similarities with and without the ROI term, from the same initial poses."""

import pandas as pd

from roireg.metrics.statistics import CHANGE_MM, paired_change, summarize
from roireg.tables.comparison import Pair
from roireg.tables.table import Table

LABELS = {
    "local_ncc": "Local NCC",
    "global_ncc": "Global NCC",
    "gradient_ncc": "Gradient NCC",
    "mncc": "mNCC",
    "ssim": "SSIM",
    "mse": "MSE",
    "mae": "MAE",
    "psnr": "PSNR",
}
# Table 3 of the paper (MICCAI 2025), without and with the ROI term: mTRE mm, SRR, on DeepFluoro.
PAPER_TABLE3 = {
    "local_ncc": ("2.83 ± 6.33", "2.15 ± 6.38", "72%", "78%"),
    "global_ncc": ("4.39 ± 4.71", "3.51 ± 3.68", "24%", "27%"),
    "gradient_ncc": ("11.12 ± 7.35", "9.95 ± 7.39", "4%", "9%"),
    "ssim": ("13.62 ± 8.63", "5.55 ± 5.14", "2%", "10%"),
    "mse": ("9.84 ± 6.46", "9.23 ± 6.12", "0%", "1%"),
    "mae": ("10.38 ± 6.61", "9.85 ± 5.92", "1%", "1%"),
    "psnr": ("10.21 ± 6.50", "10.13 ± 6.75", "0%", "0%"),
}
NOT_IN_PAPER = ("–",) * 4

TABLE3_NOTES = (
    "-: without the ROI term, +: with it, from the same initial poses on the same X-rays. mpd: mean distance of the "
    'projected landmarks on the detector plane, the paper\'s "mTRE". SRR: share of X-rays with mpd below 1 mm; '
    "failures count.",
    "Difference: median over X-rays of mpd with minus mpd without, negative where ROIs help, with a 95% bootstrap over "
    f"specimens. Better / worse: X-rays that the term changes by more than {CHANGE_MM} mm. p: two-sided Wilcoxon "
    "signed-rank test. Starts: X-rays, each counted once for every seed of the start.",
    "Paper columns: WSReg, Table 3, on DeepFluoro; another data set than the simulated X-rays here.",
)


def table3(rows: pd.DataFrame, pairs: dict[str, Pair], seed: int) -> Table:
    """Table 3.

    Args:
        rows: registrations of all methods.
        pairs: methods without and with the ROI term by similarity, in the order of the rows.
        seed: of the bootstrap.
    """
    numbers, shown = [], []
    for similarity, pair in pairs.items():
        without, with_rois = (rows[rows["method"].isin(names)] for names in (pair.without, pair.changed))
        a, b, change = summarize(without, seed), summarize(with_rois, seed), paired_change(without, with_rois, seed)
        apart = {f"{key}_{sign}": summary[key] for sign, summary in (("without", a), ("with", b)) for key in summary}
        numbers.append({"similarity": similarity, **apart, **change})
        shown.append(_shown_row(similarity, a, b, change))
    return Table(pd.DataFrame(numbers), pd.DataFrame(shown))


def _shown_row(similarity: str, a: dict[str, float], b: dict[str, float], change: dict[str, float]) -> dict[str, str]:
    paper = PAPER_TABLE3.get(similarity, NOT_IN_PAPER)

    def spread(summary: dict[str, float], key: str, digits: int) -> str:
        return f"{summary[f'{key}_mean']:.{digits}f} ± {summary[f'{key}_sd']:.{digits}f}"

    def both(key: str, digits: int) -> str:
        return f"{spread(a, key, digits)} / {spread(b, key, digits)}"

    interval = f"{change['difference_ci_low']:+.2f} to {change['difference_ci_high']:+.2f}"
    return {
        "Similarity": LABELS.get(similarity, similarity),
        "mpd mm -": spread(a, "mpd_mm", 2),
        "mpd mm +": spread(b, "mpd_mm", 2),
        "paper - / +": f"{paper[0]} / {paper[1]}",
        "SRR - / +": f"{a['srr_1mm']:.0%} / {b['srr_1mm']:.0%}",
        "paper - / + ": f"{paper[2]} / {paper[3]}",
        "median mm - / +": f"{a['mpd_mm_median']:.2f} / {b['mpd_mm_median']:.2f}",
        "difference mm": f"{change['difference_median']:+.2f} ({interval})",
        "better / worse": f"{change['better']} / {change['worse']}",
        "p": f"{change['paired_p']:.1g}",
        "rotation ° - / +": both("rotation_deg", 1),
        "translation mm - / +": both("translation_mm", 1),
        "starts": f"{a['xrays']}",
    }
