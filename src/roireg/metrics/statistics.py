"""Statistics of many registrations: success rates, intervals and tests. A registration without a result is a failure.

X-rays of one specimen have the CT, the networks and the bones in common, and registrations of one X-ray from several
starts have the X-ray in common, so neither are independent. Specimens are, so intervals and tests are over specimens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

THRESHOLDS_MM = (1, 2, 5, 10)
# These columns identify a registration of one method; `init` names how the initial pose was made, with its seed.
PAIRED_BY = ["specimen", "projection", "init"]
# Changes of mpd smaller than this count as neither better nor worse.
CHANGE_MM = 0.1
# Error that stands for a registration without a result (NaN) in rankings; larger than any real error.
FAILED_MM = 1e9
LARGEST_ERROR_MM = 1e6
# All sign flips are enumerated for up to 16 specimens (2^16 flips); with more, this many are drawn at random.
SIGN_FLIPS = 2**16


@dataclass(frozen=True)
class PairedTest:
    """Result of a two-sided test of two methods.

    Attributes:
        p_value: in (0, 1].
        smallest: the smallest p-value that can be reached with this number of specimens: 2 / 2^specimens.
        specimens: number of specimens.
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
    """Fraction of errors below `threshold`; a failure (NaN) counts as not below."""
    return float(np.mean(np.nan_to_num(errors, nan=np.inf) < threshold))


def specimen_bootstrap(
    table: pd.DataFrame, column: str, statistic: Callable[[np.ndarray], float], seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95% percentile interval of a statistic, by bootstrap over specimens.

    X-rays of one specimen are not independent, so whole specimens are resampled. With fewer than about ten specimens
    the interval is too narrow, and if all values are equal it has no width.

    Args:
        table: rows with the columns `specimen` and `column`.
        column: the column whose statistic is wanted.
        statistic: function of an array of values.
        seed: seed of the resampling.
        resamples: number of bootstrap samples.
    """
    rng = np.random.default_rng(seed)
    groups = [group[column].to_numpy() for _, group in table.groupby("specimen", sort=True)]
    draws = rng.integers(len(groups), size=(resamples, len(groups)))
    values = [statistic(np.concatenate([groups[i] for i in draw])) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def summarize(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """Statistics of one method over its X-rays: those that the paper reports, and quantiles and intervals.

    A registration without a result (NaN) counts as a failure in every rate, ranks behind all others in every quantile,
    and makes means and standard deviations undefined (NaN).

    Args:
        table: registrations of one method (columns of `roireg.register.run`).
        seed: seed of the bootstrap.
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
    """Registrations of two methods joined by X-ray and start; `difference` is mpd of `a` minus mpd of `b`, in mm.

    If neither registration has a result the difference is 0; if one has none it is about +/- `FAILED_MM`.

    Raises:
        ValueError: the methods were not run on the same X-rays from the same starts.
    """
    joined = a.merge(b, on=PAIRED_BY, suffixes=("_a", "_b"), validate="one_to_one")
    if len(joined) != len(a) or len(joined) != len(b):
        raise ValueError("a paired test needs both methods on the same X-rays")
    return joined.assign(difference=failures_last(joined["mpd_mm_a"]) - failures_last(joined["mpd_mm_b"]))


def sign_flip_test(specimen_differences: np.ndarray, seed: int) -> PairedTest:
    """Two-sided sign-flip (permutation) test of whether the specimens' differences are centred on zero.

    If neither method is better, each specimen's difference is as likely positive as negative, so all 2^n patterns of
    signs are equally probable. p is the fraction of patterns whose mean is at least as far from zero as the observed
    mean (Fisher 1935, The Design of Experiments, section 21). The test does not assume a distribution. Its p is never
    below 2 / 2^n: 0.25 for three specimens, 0.031 for six.

    Args:
        specimen_differences: `(n,)`, one finite difference for each specimen.
        seed: seed of the random patterns that are used if there are more than `SIGN_FLIPS`.
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
    """`sign_flip_test` over specimens of two methods on the same X-rays from the same starts.

    The difference of a specimen is the median over its X-rays and starts; a mean would be dominated by one failed
    registration.

    Raises:
        ValueError: the methods were not run on the same X-rays from the same starts.
    """
    return _test(paired_differences(a, b), seed)


def _test(pairs: pd.DataFrame, seed: int) -> PairedTest:
    return sign_flip_test(pairs.groupby("specimen")["difference"].median().to_numpy(), seed)


def paired_change(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> dict[str, float]:
    """Change of mpd between two methods on the same X-rays: median difference with its interval, counts, and a test.

    Args:
        before, after: registrations of the two methods; differences are `after` minus `before`.
        seed: seed of the bootstrap and of the test.

    Raises:
        ValueError: the methods were not run on the same X-rays from the same starts.
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
