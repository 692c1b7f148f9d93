"""Formats numbers as text for the cells of Markdown and LaTeX tables."""

import math

NONE = "–"


def number(value: float, digits: int) -> str:
    """A number, or a dash if it is undefined, such as a mean that includes a registration without a result."""
    return NONE if math.isnan(value) else f"{value:.{digits}f}"


def spread(summary: dict[str, float], column: str, digits: int) -> str:
    """Mean ± standard deviation of a column of `summarize`."""
    mean, sd = (number(summary[f"{column}_{key}"], digits) for key in ("mean", "sd"))
    return mean if mean == NONE else f"{mean} ± {sd}"


def success(summary: dict[str, float]) -> str:
    """Fraction of registrations with mpd below 1 mm, with its interval."""
    low, high = summary["srr_1mm_ci_low"], summary["srr_1mm_ci_high"]
    return f"{summary['srr_1mm']:.0%} ({low:.0%} to {high:.0%})"


def change(result: dict[str, float]) -> str:
    """Median difference in mm, with its interval, of a result of `paired_change`."""
    interval = f"{result['difference_ci_low']:+.2f} to {result['difference_ci_high']:+.2f}"
    return f"{result['difference_median']:+.2f} ({interval})"


def p_value(p: float, smallest: float) -> str:
    """A p-value and the smallest one possible."""
    return f"{p:.2g} ({smallest:.2g})"


def runs(summary: dict[str, float]) -> str:
    """Number of registrations, and how many of them have no result."""
    failures = summary["failures"]
    return f"{summary['xrays']}" + (f", {failures} without a result" if failures else "")
