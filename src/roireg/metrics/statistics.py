"""Statistics of many registrations: success rates, intervals over specimens, paired tests. Failures count in all."""

from collections.abc import Callable

import numpy as np
import pandas as pd

THRESHOLDS_MM = (1, 2, 5, 10)
# A start is named by its kind and seed; a specimen's X-ray may be registered from several.
PAIRED_BY = ["specimen", "projection", "init"]
# Smaller changes of mpd are neither better nor worse.
CHANGE_MM = 0.1


def success_rate(errors: np.ndarray, threshold: float) -> float:
    """Share of errors below `threshold`; a failure (NaN) counts as not below."""
    return float(np.mean(np.nan_to_num(errors, nan=np.inf) < threshold))


def specimen_bootstrap(
    table: pd.DataFrame, column: str, statistic: Callable[[np.ndarray], float], seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95% percentile interval of a statistic when whole specimens are drawn with replacement.

    X-rays of one specimen are not independent, so specimens, not X-rays, are resampled.

    Args:
        table: rows with `specimen` and `column`.
        statistic: function of an array of values.
    """
    rng = np.random.default_rng(seed)
    groups = [group[column].to_numpy() for _, group in table.groupby("specimen", sort=True)]
    draws = rng.integers(len(groups), size=(resamples, len(groups)))
    values = [statistic(np.concatenate([groups[i] for i in draw])) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def summarize(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """Summary of one method over its X-rays: the paper's cells and what stands beside them.

    Args:
        table: registration rows of one method (results contract in docs/results.md).
        seed: of the bootstrap.
    """
    mpd = table["mpd_mm"].to_numpy()
    quartiles = np.percentile(mpd, [25, 50, 75, 95])
    srr = success_rate(mpd, 1)
    low, high = specimen_bootstrap(table, "mpd_mm", lambda x: success_rate(x, 1), seed)
    median_low, median_high = specimen_bootstrap(table, "mpd_mm", np.median, seed)
    summary = {"xrays": len(table), "specimens": table["specimen"].nunique()}
    for column in ("mpd_mm", "init_mpd_mm", "rotation_deg", "translation_mm", "tre_mm"):
        summary[f"{column}_mean"] = float(table[column].mean(skipna=False))
        summary[f"{column}_sd"] = float(table[column].std(ddof=1, skipna=False))
    summary |= {f"srr_{t}mm": success_rate(mpd, t) for t in THRESHOLDS_MM}
    summary |= {"srr_1mm": srr, "srr_1mm_ci_low": low, "srr_1mm_ci_high": high}
    summary |= {
        "mpd_mm_q25": quartiles[0],
        "mpd_mm_median": quartiles[1],
        "mpd_mm_q75": quartiles[2],
        "mpd_mm_p95": quartiles[3],
        "mpd_mm_median_ci_low": median_low,
        "mpd_mm_median_ci_high": median_high,
        "init_mpd_mm_median": float(table["init_mpd_mm"].median()),
        "mpd_legacy_mean": float(table["mpd_legacy"].mean()),
        "seconds_median": float(table["seconds"].median()),
    }
    return summary


def paired_p_value(a: pd.DataFrame, b: pd.DataFrame, column: str = "mpd_mm") -> float:
    """Two-sided Wilcoxon signed-rank test of two methods on the same X-rays from the same starts.

    Raises:
        ValueError: the methods were not run on the same X-rays, or from other starts.
    """
    from scipy import stats

    joined = a.merge(b, on=PAIRED_BY, suffixes=("_a", "_b"), validate="one_to_one")
    if len(joined) != len(a) or len(joined) != len(b):
        raise ValueError("a paired test needs both methods on the same X-rays")
    difference = joined[f"{column}_a"] - joined[f"{column}_b"]
    if not difference.abs().any():
        return 1.0
    return float(stats.wilcoxon(difference).pvalue)


def paired_change(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> dict[str, float]:
    """What a change of a method does to mpd on the same X-rays: median difference, its interval, counts, and a test.

    Raises:
        ValueError: the methods were not run on the same X-rays.
    """
    p_value = paired_p_value(after, before)
    joined = after.merge(before, on=PAIRED_BY, suffixes=("_after", "_before"))
    difference = joined["mpd_mm_after"] - joined["mpd_mm_before"]
    low, high = specimen_bootstrap(joined.assign(difference=difference), "difference", np.median, seed)
    return {
        "difference_median": float(difference.median()),
        "difference_ci_low": low,
        "difference_ci_high": high,
        "better": int((difference < -CHANGE_MM).sum()),
        "worse": int((difference > CHANGE_MM).sum()),
        "paired_p": p_value,
    }
