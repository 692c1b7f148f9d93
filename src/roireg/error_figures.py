"""Figures of errors: how many X-rays end below an error, and from how far away."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from roireg.figures import PALETTE
from roireg.summary import specimen_bootstrap, success_rate

SUCCESS_MM = 1.0
STYLES = ("-", "--", "-.", ":")


def cumulative_errors(rows: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """Share of X-rays whose error (mpd) is below x, by method; an X-ray without a result never is.

    Args:
        rows: registrations of all methods.
        labels: label by method name, in the order of the legend.
    """
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for index, (method, label) in enumerate(labels.items()):
        errors = rows.loc[rows["method"] == method, "mpd_mm"].to_numpy()
        known = np.sort(errors[np.isfinite(errors)])
        shares = np.arange(1, len(known) + 1) / len(errors)
        style = STYLES[index // len(PALETTE) % len(STYLES)]
        axes.step(known, shares, style, where="post", color=PALETTE[index % len(PALETTE)], linewidth=1.4, label=label)
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
    """Share of X-rays that end below 1 mm, by the error where they began, with 95% bootstraps over specimens.

    Args:
        rows: registrations of all methods.
        labels: label by method name, in the order of the legend.
        edges_mm: of the intervals of initial error (mpd), rising; starts beyond them are left out.
        seed: of the bootstrap.
    """
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    shift = 0.8 / len(labels)
    counts: list[int] = []
    for index, (method, label) in enumerate(labels.items()):
        own = rows[rows["method"] == method]
        where = pd.cut(own["init_mpd_mm"], edges_mm, right=False, labels=False)
        inside = [own[where == number] for number in range(len(edges_mm) - 1)]
        counts = counts or [len(group) for group in inside]
        for number, group in enumerate(inside):
            if group.empty:
                continue
            share = success_rate(group["mpd_mm"].to_numpy(), SUCCESS_MM)
            low, high = specimen_bootstrap(group, "mpd_mm", lambda x: success_rate(x, SUCCESS_MM), seed)
            x = number + (index - (len(labels) - 1) / 2) * shift
            color = PALETTE[index % len(PALETTE)]
            axes.bar(x, share, shift, color=color, label=label if number == _first(inside) else None)
            axes.plot([x, x], [low, high], color="black", linewidth=1)
    axes.set_xticks(
        range(len(counts)),
        [f"{low:g} to {high:g}\n({count})" for low, high, count in zip(edges_mm, edges_mm[1:], counts, strict=False)],
    )
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"mpd at the start (mm; in brackets: starts of {next(iter(labels.values()))})")
    axes.set_ylabel(f"mpd below {SUCCESS_MM:g} mm at the end")
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside right upper")
    return figure


def _first(groups: list[pd.DataFrame]) -> int:
    """Index of the first interval that holds a start."""
    return next(index for index, group in enumerate(groups) if not group.empty)
