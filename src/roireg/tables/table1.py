"""Table 1 of the paper: methods compared, ours beside its figures."""

import pandas as pd

from roireg.metrics.statistics import paired_p_value, summarize
from roireg.tables.table import Table

# Table 1 of the paper (MICCAI 2025): mTRE mm, SRR %, rotation deg, translation mm, on DeepFluoro.
PAPER_TABLE1 = {
    "diffdrr": ("25.08 ± 24.01", "26%", "10.8 ± 9.6", "72.5 ± 63.2"),
    "psss": ("4.40 ± 4.63", "26%", "1.8 ± 2.0", "10.1 ± 10.0"),
    "diffpose": ("1.01 ± 3.24", "83%", "0.4 ± 1.3", "2.1 ± 5.8"),
    "wsreg": ("0.67 ± 1.34", "87%", "0.2 ± 0.5", "1.6 ± 2.9"),
}


NOT_IN_PAPER = ("–", "–", "–", "–")


TABLE1_NOTES = (
    "mpd: mean distance of the projected landmarks under true and estimated pose on the detector plane, the paper's "
    '"mTRE". SRR: share of X-rays with mpd below 1 mm; failures count. Rotation: geodesic angle. Translation: of the '
    "isocentre, camera frame.",
    "Intervals: 95% bootstrap over specimens. p: two-sided Wilcoxon signed-rank test of mpd against the row above that "
    "starts from the same poses, on the same X-rays.",
    "Start mpd: median (mean ± SD) where the optimization begins; after an encoder, the error of the encoder alone. "
    "Seconds: an encoder's reading or a search for the start, and the optimization.",
    "PSSS-style: its authors published no network, so ours follows their description; not their figures.",
    "Paper columns: WSReg, Table 1, on DeepFluoro; another data set than the simulated X-rays here.",
)


def table1(rows: pd.DataFrame, methods: dict[str, str], seed: int) -> Table:
    """Table 1.

    Args:
        rows: registrations of all methods.
        methods: label by method name, in the order of the rows.
        seed: of the bootstrap.
    """
    numbers, shown = [], []
    previous: dict[str, pd.DataFrame] = {}
    for name, label in methods.items():
        own = rows[rows["method"] == name]
        init = own["init"].iloc[0]
        p_value = paired_p_value(own, previous[init]) if init in previous else None
        previous[init] = own
        summary = summarize(own, seed)
        numbers.append({"method": name, **summary, "paired_p": p_value})
        shown.append(_shown_row(label, summary, p_value, PAPER_TABLE1.get(name, NOT_IN_PAPER)))
    return Table(pd.DataFrame(numbers), pd.DataFrame(shown))


def _shown_row(
    label: str, s: dict[str, float], p_value: float | None, paper: tuple[str, str, str, str]
) -> dict[str, str]:
    median_interval = f"{s['mpd_mm_median_ci_low']:.2f} to {s['mpd_mm_median_ci_high']:.2f}"
    return {
        "Method": label,
        "mpd mm": f"{s['mpd_mm_mean']:.2f} ± {s['mpd_mm_sd']:.2f}",
        "paper": paper[0],
        "SRR": f"{s['srr_1mm']:.0%} ({s['srr_1mm_ci_low']:.0%} to {s['srr_1mm_ci_high']:.0%})",
        "paper ": paper[1],
        "rotation °": f"{s['rotation_deg_mean']:.2f} ± {s['rotation_deg_sd']:.2f}",
        "paper  ": paper[2],
        "translation mm": f"{s['translation_mm_mean']:.1f} ± {s['translation_mm_sd']:.1f}",
        "paper   ": paper[3],
        "mpd median mm": f"{s['mpd_mm_median']:.2f} ({median_interval})",
        "IQR mm": f"{s['mpd_mm_q25']:.2f} to {s['mpd_mm_q75']:.2f}",
        "p95 mm": f"{s['mpd_mm_p95']:.2f}",
        "<2 / <5 / <10 mm": f"{s['srr_2mm']:.0%} / {s['srr_5mm']:.0%} / {s['srr_10mm']:.0%}",
        "start mpd mm": (f"{s['init_mpd_mm_median']:.1f} ({s['init_mpd_mm_mean']:.1f} ± {s['init_mpd_mm_sd']:.1f})"),
        "s per X-ray": f"{s['seconds_median']:.1f}",
        "X-rays": f"{s['xrays']:.0f}",
        "p": "" if p_value is None else f"{p_value:.1g}",
    }
