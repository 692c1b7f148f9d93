"""Bones registered from the pose of the whole CT: errors before and after. The paper has no such table."""

import pandas as pd

from roireg.metrics.statistics import CHANGE_MM, paired_change, success_rate, summarize
from roireg.tables import cells
from roireg.tables.paper import INTERVAL_NOTE
from roireg.tables.table import Table
from roireg.tables.trust import WRONG_FROM_MM, trusted

BONES_NOTES = (
    "Each bone is registered to each X-ray alone, as `roireg register --bone` does, about its joint if `bones.joints` "
    "names one. It starts from the method's pose of the whole CT, which is right for a bone only if it did not move "
    "since the CT.",
    "mpd: mean distance, on the detector plane, between about 64 points of the bone, evenly spread in it, projected "
    "under its true and its estimated pose, whether they lie in the picture or not. In the picture: share of these "
    "points that do at the true pose, the mean over X-rays. 3D: mean distance of the points in space, which for a "
    "single X-ray is mostly depth.",
    f"<{WRONG_FROM_MM:g} mm: share of X-rays with an mpd below that. A registration without a result, such as of a "
    "bone outside the picture at its start, counts as a failure in every share and ranks last in quantiles.",
    "Change: median over X-rays of the mpd at the end minus that at the start. Against alone: the same, minus the mpd "
    "of the row without the bones that this one adds. Both on the same X-rays, negative where the error falls, with "
    f"intervals. Better / worse: X-rays whose mpd changes by more than {CHANGE_MM} mm.",
    "Of the bones that the others moved against (the pelvis), the start is the method's result, for which rays through "
    "the others are left out if its weights exclude them. The change is that of registering instead of excluding them, "
    "together with that of another objective; `against alone` has the objective in common.",
    "Trusted: verdict from the images alone; wrong: those of them with an mpd of "
    f"{WRONG_FROM_MM:g} mm or more. s: seconds of a group that is refined together, by the number of its bones.",
    INTERVAL_NOTE,
)


def bones_table(rows: pd.DataFrame, methods: dict[str, str], seed: int) -> Table:
    """The table of bones, with one row for each method, bone, and bones that are refined with it.

    Args:
        rows: registrations of bones from all methods (columns of `roireg.register.bone_rows`, and `method`).
        methods: label by method name, in the order of the rows.
        seed: seed of the bootstrap.
    """
    # X-rays are paired as those of methods are: by the start that they have in common.
    rows = rows.assign(init=rows["method"], together_with=rows["together_with"].fillna(""))
    numbers, shown = [], []
    for method, label in methods.items():
        of_method = rows[rows["method"] == method]
        fewest: dict[str, tuple[int, pd.DataFrame]] = {}
        for (others, bone), own in of_method.groupby(["together_with", "bone"], sort=False):
            many = len(others.split(", ")) if others else 0
            # Groups come in the order of their size: what is there has fewer bones, or as many.
            smaller = fewest.setdefault(bone, (many, own))
            place = {"method": method, "bone": bone, "together_with": others}
            summary = _summary(own, seed)
            against = paired_change(smaller[1], own, seed) if smaller[0] < many else {}
            numbers.append({**place, **summary, **{f"alone_{key}": value for key, value in against.items()}})
            shown.append(_shown_row(label, bone, others, summary, against))
    return Table(pd.DataFrame(numbers), pd.DataFrame(shown))


def _summary(own: pd.DataFrame, seed: int) -> dict[str, float]:
    """Errors at the end (as in Table 1), shares at the start, the change from start to end, and verdicts."""
    start = own.assign(mpd_mm=own["init_mpd_mm"])
    change = paired_change(start, own, seed)
    return {
        **summarize(own, seed),
        "in_picture_mean": float(own["in_picture"].mean()),
        "init_srr_2mm": success_rate(own["init_mpd_mm"].to_numpy(), WRONG_FROM_MM),
        "tre_mm_median": float(own["tre_mm"].fillna(float("inf")).median()),
        "init_tre_mm_median": float(own["init_tre_mm"].fillna(float("inf")).median()),
        "tre_srr_2mm": success_rate(own["tre_mm"].to_numpy(), WRONG_FROM_MM),
        **change,
        **trusted(own),
    }


def _shown_row(label: str, bone: str, others: str, s: dict[str, float], against: dict[str, float]) -> dict[str, str]:
    return {
        "Start from": label,
        "bone": bone,
        "refined with": others or cells.NONE,
        "in the picture": f"{s['in_picture_mean']:.0%}",
        "start mpd mm": f"{s['init_mpd_mm_median']:.2f}",
        "mpd median mm": f"{s['mpd_mm_median']:.2f}",
        "IQR mm": f"{s['mpd_mm_q25']:.2f} to {s['mpd_mm_q75']:.2f}",
        f"<{WRONG_FROM_MM:g} mm: start, end": f"{s['init_srr_2mm']:.0%}, {s['srr_2mm']:.0%}",
        "3D median mm: start, end": f"{s['init_tre_mm_median']:.2f}, {s['tre_mm_median']:.2f}",
        "change mm": cells.change(s),
        "better / worse": f"{s['better']} / {s['worse']}",
        "against alone mm": cells.change(against) if against else cells.NONE,
        "alone: better / worse": f"{against['better']} / {against['worse']}" if against else cells.NONE,
        "trusted (of these wrong)": f"{s['trusted']} ({s['trusted_wrong']})",
        "s": f"{s['seconds_median']:.1f}",
        "X-rays": cells.runs(s),
    }
