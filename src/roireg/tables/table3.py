"""Table 3 of the paper: each similarity without and with the ROI term, from the same initial poses."""

import pandas as pd

from roireg.metrics.statistics import CHANGE_MM, paired_change, summarize
from roireg.tables import cells
from roireg.tables.comparison import Pair
from roireg.tables.paper import (
    COMPARABLE_NOTE,
    INTERVAL_NOTE,
    MTRE_NOTE,
    NOT_IN_PAPER,
    PAPER_TABLE3,
    RE_TE_NOTE,
    TEST_NOTE,
)
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

TABLE3_NOTES = (
    "- : without the ROI term; + : with it; from the same initial poses on the same X-rays.",
    MTRE_NOTE,
    "SRR: fraction of X-rays with an error below 1 mm, by mpd and by mrpd × 0.194; a registration without a result "
    "counts as a failure. " + RE_TE_NOTE,
    "Difference: median over X-rays of the mpd with the ROI term minus the mpd without it; negative where the term "
    f"helps; with its interval. Better / worse: X-rays whose mpd the term changes by more than {CHANGE_MM} mm. Starts: "
    "number of registrations, one for each X-ray and each seed of the initial pose.",
    INTERVAL_NOTE,
    TEST_NOTE,
    "Paper columns: WSReg, Table 3, on DeepFluoro; " + COMPARABLE_NOTE,
)


def table3(rows: pd.DataFrame, pairs: dict[str, Pair], seed: int) -> Table:
    """Table 3.

    Args:
        rows: registrations of all methods.
        pairs: methods without and with the ROI term, by similarity, in the order of the rows.
        seed: seed of the bootstrap.
    """
    numbers, shown = [], []
    for similarity, pair in pairs.items():
        without, with_rois = (rows[rows["method"].isin(names)] for names in (pair.without, pair.changed))
        a, b, change = summarize(without, seed), summarize(with_rois, seed), paired_change(without, with_rois, seed)
        both = {f"{key}_{side}": summary[key] for side, summary in (("without", a), ("with", b)) for key in summary}
        numbers.append({"similarity": similarity, **both, **change})
        shown.append(_shown_row(similarity, a, b, change))
    return Table(pd.DataFrame(numbers), pd.DataFrame(shown))


def _shown_row(similarity: str, a: dict[str, float], b: dict[str, float], change: dict[str, float]) -> dict[str, str]:
    without, with_rois = PAPER_TABLE3.get(similarity, (NOT_IN_PAPER, NOT_IN_PAPER))

    def both(key: str, digits: int) -> str:
        return f"{cells.spread(a, key, digits)} / {cells.spread(b, key, digits)}"

    return {
        "Similarity": LABELS.get(similarity, similarity),
        "mpd mm - / +": both("mpd_mm", 2),
        "mrpd × 0.194 mm (DiffPose's code) - / +": both("mpd_legacy", 2),
        "paper: mTRE mm - / +": f"{without.mtre} / {with_rois.mtre}",
        "SRR by mpd - / +": f"{a['srr_1mm']:.0%} / {b['srr_1mm']:.0%}",
        "SRR by mrpd × 0.194 - / +": f"{a['srr_1mm_legacy']:.0%} / {b['srr_1mm_legacy']:.0%}",
        "paper: SRR - / +": f"{without.srr} / {with_rois.srr}",
        "rotation ° - / +": both("rotation_deg", 1),
        "paper: RE ° - / +": f"{without.re} / {with_rois.re}",
        "translation mm - / +": both("translation_mm", 1),
        "paper: TE mm - / +": f"{without.te} / {with_rois.te}",
        "mpd median mm - / +": f"{a['mpd_mm_median']:.2f} / {b['mpd_mm_median']:.2f}",
        "difference mm": cells.change(change),
        "better / worse": f"{change['better']} / {change['worse']}",
        "p (smallest possible)": cells.p_value(change["paired_p"], change["paired_p_smallest"]),
        "starts": f"{cells.runs(a)} / {cells.runs(b)}" if a["failures"] or b["failures"] else cells.runs(a),
    }
