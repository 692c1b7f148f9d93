"""Figures of errors: the cumulative distribution of errors, and the success rate by initial error."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from roireg.figures.style import PALETTE
from roireg.metrics.statistics import specimen_bootstrap, success_rate

SUCCESS_MM = 1.0
STYLES = ("-", "--", "-.", ":")


def cumulative_errors(rows: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """Fraction of X-rays with an error (mpd) below x, by method. An X-ray without a result counts as infinite error.

    Args:
        rows: registrations of all methods.
        labels: label by method name, in legend order.
    """
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for index, (method, label) in enumerate(labels.items()):
        errors = rows.loc[rows["method"] == method, "mpd_mm"].to_numpy()
        known = np.sort(errors[np.isfinite(errors)])
        fractions = np.arange(1, len(known) + 1) / len(errors)
        style = STYLES[index // len(PALETTE) % len(STYLES)]
        color = PALETTE[index % len(PALETTE)]
        axes.step(known, fractions, style, where="post", color=color, linewidth=1.4, label=label)
    axes.axvline(SUCCESS_MM, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("mpd (mm, detector plane)")
    axes.set_ylabel("X-rays below")
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper")
    return figure


def capture_range(rows: pd.DataFrame, labels: dict[str, str], edges_mm: Sequence[float], seed: int) -> Figure:
    """Fraction of X-rays with a final error below 1 mm, by initial error, with 95% bootstrap intervals over specimens.

    Args:
        rows: registrations of all methods.
        labels: label by method name, in legend order.
        edges_mm: rising edges of the intervals of initial error (mpd); starts outside of all intervals are left out.
        seed: seed of the bootstrap.
    """

    def success(errors: np.ndarray) -> float:
        return success_rate(errors, SUCCESS_MM)

    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(labels)
    intervals = list(pairwise(edges_mm))
    for index, (method, label) in enumerate(labels.items()):
        own = rows[rows["method"] == method]
        inside = [own[own["init_mpd_mm"].between(low, high, inclusive="left")] for low, high in intervals]
        if index == 0:
            counts = [len(group) for group in inside]
        known = {number: group for number, group in enumerate(inside) if not group.empty}
        x = np.array(list(known)) + (index - (len(labels) - 1) / 2) * width
        fractions = [success(group["mpd_mm"].to_numpy()) for group in known.values()]
        limits = [specimen_bootstrap(group, "mpd_mm", success, seed) for group in known.values()]
        axes.bar(x, fractions, width, color=PALETTE[index % len(PALETTE)], label=label)
        axes.vlines(x, *np.reshape(limits, (-1, 2)).T, color="black", linewidth=1)
    axes.set_xticks(
        range(len(intervals)),
        [f"{low:g} to {high:g}\n({count})" for (low, high), count in zip(intervals, counts, strict=True)],
    )
    axes.set_xlim(-0.5, len(intervals) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"mpd at the start (mm; in brackets: starts of {next(iter(labels.values()))})")
    axes.set_ylabel(f"mpd below {SUCCESS_MM:g} mm at the end")
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside right upper")
    return figure
