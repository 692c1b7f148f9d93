"""Table 1 of the paper: comparison of methods, with the paper's published results beside this run's."""

import pandas as pd

from roireg.metrics.statistics import PairedTest, paired_test, summarize
from roireg.tables import cells
from roireg.tables.paper import (
    COMPARABLE_NOTE,
    INTERVAL_NOTE,
    MTRE_NOTE,
    NOT_IN_PAPER,
    PAPER_TABLE1,
    PAPER_TEXT,
    RE_TE_NOTE,
    TEST_NOTE,
    PaperErrors,
)
from roireg.tables.table import Table
from roireg.tables.trust import WRONG_FROM_MM, trusted

# Published results by method; Table 1 has precedence over the paper's text.
PAPER_ROWS = {**PAPER_TEXT, **PAPER_TABLE1}

TABLE1_NOTES = (
    MTRE_NOTE,
    "SRR: fraction of X-rays with an error below 1 mm, by mpd (with a 95% interval) and by mrpd × 0.194; a "
    "registration "
    "without a result counts as a failure. " + RE_TE_NOTE,
    INTERVAL_NOTE,
    TEST_NOTE
    + " Each row is compared with the nearest row above it that starts from the same poses, on the same X-rays.",
    "Start mpd: median (mean ± SD) of the error at the initial pose; for methods that start from an encoder, this is "
    "the error of the encoder alone. Seconds: the encoder's prediction or the search for a start, and the "
    "optimization.",
    "Trusted: X-rays with the verdict `trusted`, which is given from the images alone; wrong: those of them with an "
    f"mpd of {WRONG_FROM_MM:g} mm or more.",
    "Searched again: X-rays without a trusted verdict that a method with a fallback registered from there too; kept: "
    "those for which that was better.",
    "PSSS-style: its authors published no network; ours follows their description and does not reproduce their "
    "results.",
    "Paper columns: WSReg on DeepFluoro, Table 1; for MedSAM the text of section 3.2, which also gives the U-Net's "
    f"result from the same starts as MedSAM's: {PAPER_TEXT['wsreg'].mtre} mm and {PAPER_TEXT['wsreg'].srr}; "
    + COMPARABLE_NOTE,
)


def table1(rows: pd.DataFrame, methods: dict[str, str], seed: int) -> Table:
    """Table 1.

    Args:
        rows: registrations of all methods.
        methods: label by method name, in the order of the rows.
        seed: seed of the bootstrap.
    """
    numbers, shown = [], []
    previous: dict[str, pd.DataFrame] = {}
    for name, label in methods.items():
        own = rows[rows["method"] == name]
        init = own["init"].iloc[0]
        test = paired_test(own, previous[init], seed) if init in previous else None
        previous[init] = own
        summary = summarize(own, seed)
        tested: dict[str, float | None] = {"paired_p": None, "paired_p_smallest": None}
        if test is not None:
            tested = {"paired_p": test.p_value, "paired_p_smallest": test.smallest}
        trust = {**trusted(own), **fallbacks(own)}
        numbers.append({"method": name, **summary, **tested, **trust})
        shown.append(_shown_row(label, {**summary, **trust}, test, PAPER_ROWS.get(name, NOT_IN_PAPER)))
    return Table(pd.DataFrame(numbers), pd.DataFrame(shown))


def fallbacks(rows: pd.DataFrame) -> dict[str, int]:
    """How many registrations began again from the method's fallback, and of how many that is the result."""
    if "fallback" not in rows:
        return {"fallback_tried": 0, "fallback_kept": 0}
    return {
        "fallback_tried": int(rows["fallback"].isin(["tried", "kept"]).sum()),
        "fallback_kept": int((rows["fallback"] == "kept").sum()),
    }


def _shown_row(label: str, s: dict[str, float], test: PairedTest | None, paper: PaperErrors) -> dict[str, str]:
    median_interval = f"{s['mpd_mm_median_ci_low']:.2f} to {s['mpd_mm_median_ci_high']:.2f}"
    return {
        "Method": label,
        "mpd mm": cells.spread(s, "mpd_mm", 2),
        "mrpd × 0.194 mm (DiffPose's code)": cells.spread(s, "mpd_legacy", 2),
        "paper: mTRE mm": paper.mtre,
        "SRR by mpd": cells.success(s),
        "SRR by mrpd × 0.194": f"{s['srr_1mm_legacy']:.0%}",
        "paper: SRR": paper.srr,
        "rotation °": cells.spread(s, "rotation_deg", 2),
        "paper: RE °": paper.re,
        "translation mm": cells.spread(s, "translation_mm", 1),
        "paper: TE mm": paper.te,
        "mpd median mm": f"{s['mpd_mm_median']:.2f} ({median_interval})",
        "IQR mm": f"{s['mpd_mm_q25']:.2f} to {s['mpd_mm_q75']:.2f}",
        "p95 mm": f"{s['mpd_mm_p95']:.2f}",
        "<2 / <5 / <10 mm": f"{s['srr_2mm']:.0%} / {s['srr_5mm']:.0%} / {s['srr_10mm']:.0%}",
        "start mpd mm": f"{s['init_mpd_mm_median']:.1f} ({cells.spread(s, 'init_mpd_mm', 1)})",
        "trusted (of these wrong)": f"{s['trusted']} ({s['trusted_wrong']})",
        "searched again (kept)": f"{s['fallback_tried']} ({s['fallback_kept']})",
        "s per X-ray": f"{s['seconds_median']:.1f}",
        "X-rays": cells.runs(s),
        "p (smallest possible)": "" if test is None else cells.p_value(test.p_value, test.smallest),
    }
