"""Statistics of many registrations: success rates, intervals and tests over specimens. Failures count in all.

X-rays of one specimen share its CT, its networks and its bones, and starts of one X-ray share the X-ray: neither are
independent. The specimen is what was drawn at random, so intervals and tests are over specimens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

THRESHOLDS_MM = (1, 2, 5, 10)
# A start is named by its kind and seed; a specimen's X-ray may be registered from several.
PAIRED_BY = ["specimen", "projection", "init"]
# Smaller changes of mpd are neither better nor worse.
CHANGE_MM = 0.1
# A registration without a result (NaN) is ordered as this error, which is larger than any real one.
FAILED_MM = 1e9
LARGEST_ERROR_MM = 1e6
# Sign flips are enumerated up to 2^16, that is for 16 specimens, and drawn at random beyond.
SIGN_FLIPS = 2**16


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test of two methods, and what it could have said at best.

    Attributes:
        p_value: in (0, 1].
        smallest: the smallest p-value that so many specimens allow, whatever the difference: 2 / 2^specimens.
        specimens: how many there are.
    """

    p_value: float
    smallest: float
    specimens: int


def failures_last(errors: pd.Series) -> pd.Series:
    """Errors in mm with `FAILED_MM` for a registration without a result (NaN), so that it ranks behind all others."""
    return errors.where(np.isfinite(errors), FAILED_MM)


def _shown(value: float) -> float:
    """A statistic of errors in which failures rank last; infinite where a failure decides it."""
    return math.copysign(math.inf, value) if abs(value) > LARGEST_ERROR_MM else float(value)


def success_rate(errors: np.ndarray, threshold: float) -> float:
    """Share of errors below `threshold`; a failure (NaN) counts as not below."""
    return float(np.mean(np.nan_to_num(errors, nan=np.inf) < threshold))


def specimen_bootstrap(
    table: pd.DataFrame, column: str, statistic: Callable[[np.ndarray], float], seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95% percentile interval of a statistic when whole specimens are drawn with replacement.

    X-rays of one specimen are not independent, so specimens, not X-rays, are resampled. With fewer than about ten
    specimens such an interval is too narrow, and where all values are equal it has no width.

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

    A registration without a result (NaN) counts as a failure in every rate, ranks behind all others in every quantile,
    and leaves means and standard deviations undefined (NaN).

    Args:
        table: registration rows of one method (columns of `roireg.register.run`).
        seed: of the bootstrap.
    """
    mpd = table["mpd_mm"].to_numpy()
    ranked = table.assign(mpd_mm=failures_last(table["mpd_mm"]))
    quartiles = [_shown(value) for value in np.percentile(ranked["mpd_mm"], [25, 50, 75, 95])]
    srr = success_rate(mpd, 1)
    low, high = specimen_bootstrap(table, "mpd_mm", lambda x: success_rate(x, 1), seed)
    median_low, median_high = map(_shown, specimen_bootstrap(ranked, "mpd_mm", np.median, seed))
    summary = {
        "xrays": len(table),
        "specimens": table["specimen"].nunique(),
        "failures": int(table["mpd_mm"].isna().sum()),
    }
    for column in ("mpd_mm", "mpd_legacy", "init_mpd_mm", "rotation_deg", "translation_mm", "tre_mm"):
        summary[f"{column}_mean"] = float(table[column].mean(skipna=False))
        summary[f"{column}_sd"] = float(table[column].std(ddof=1, skipna=False))
    summary |= {f"srr_{t}mm": success_rate(mpd, t) for t in THRESHOLDS_MM}
    summary |= {"srr_1mm": srr, "srr_1mm_ci_low": low, "srr_1mm_ci_high": high}
    summary["srr_1mm_legacy"] = success_rate(table["mpd_legacy"].to_numpy(), 1)
    summary |= {
        "mpd_mm_q25": quartiles[0],
        "mpd_mm_median": quartiles[1],
        "mpd_mm_q75": quartiles[2],
        "mpd_mm_p95": quartiles[3],
        "mpd_mm_median_ci_low": median_low,
        "mpd_mm_median_ci_high": median_high,
        "init_mpd_mm_median": float(table["init_mpd_mm"].median()),
        "seconds_median": float(table["seconds"].median()),
    }
    return summary


def paired_differences(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Rows of the same X-rays from the same starts: `specimen`, and `difference`, mpd of `a` minus that of `b` in mm.

    Two registrations without a result do not differ; one without differs by `FAILED_MM`.

    Raises:
        ValueError: the methods were not run on the same X-rays, or from other starts.
    """
    joined = a.merge(b, on=PAIRED_BY, suffixes=("_a", "_b"), validate="one_to_one")
    if len(joined) != len(a) or len(joined) != len(b):
        raise ValueError("a paired test needs both methods on the same X-rays")
    return joined.assign(difference=failures_last(joined["mpd_mm_a"]) - failures_last(joined["mpd_mm_b"]))


def sign_flip_test(specimen_differences: np.ndarray, seed: int) -> PairedTest:
    """Two-sided sign-flip (permutation) test of whether differences, one a specimen, are centred on zero.

    If neither method is better, exchanging the two in a specimen is as likely as not: every pattern of signs of the
    specimens' differences is equally probable. p is the share of the 2^n patterns whose mean is at least as far from
    zero as the observed one (Fisher 1935, The Design of Experiments, section 21). It assumes nothing about the
    distribution, and cannot be less than 2 / 2^n: 0.25 for three specimens, 0.031 for six.

    Args:
        specimen_differences: (n,) a difference for each specimen, finite.
        seed: of the drawn patterns where there are more than `SIGN_FLIPS`.
    """
    from scipy.stats import permutation_test

    specimens = len(specimen_differences)
    if specimens == 1:
        return PairedTest(1.0, 1.0, 1)
    result = permutation_test(
        (specimen_differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=SIGN_FLIPS,
        rng=np.random.default_rng(seed),
    )
    smallest = 2 / 2**specimens if 2**specimens <= SIGN_FLIPS else 2 / (SIGN_FLIPS + 1)
    return PairedTest(float(result.pvalue), smallest, specimens)


def paired_test(a: pd.DataFrame, b: pd.DataFrame, seed: int) -> PairedTest:
    """Test of two methods on the same X-rays from the same starts: `sign_flip_test` over specimens.

    A specimen's difference is the median over its X-rays and starts, as one lost X-ray would decide a mean.

    Raises:
        ValueError: the methods were not run on the same X-rays, or from other starts.
    """
    return _test(paired_differences(a, b), seed)


def _test(pairs: pd.DataFrame, seed: int) -> PairedTest:
    return sign_flip_test(pairs.groupby("specimen")["difference"].median().to_numpy(), seed)


def paired_change(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> dict[str, float]:
    """What a change of a method does to mpd on the same X-rays: median difference, its interval, counts, and a test.

    Raises:
        ValueError: the methods were not run on the same X-rays.
    """
    pairs = paired_differences(after, before)
    low, high = specimen_bootstrap(pairs, "difference", np.median, seed)
    test = _test(pairs, seed)
    return {
        "difference_median": _shown(pairs["difference"].median()),
        "difference_ci_low": _shown(low),
        "difference_ci_high": _shown(high),
        "better": int((pairs["difference"] < -CHANGE_MM).sum()),
        "worse": int((pairs["difference"] > CHANGE_MM).sum()),
        "paired_p": test.p_value,
        "paired_p_smallest": test.smallest,
    }
