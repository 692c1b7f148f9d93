"""Figure of convergence: objective and error by iteration."""

import numpy as np
from matplotlib.figure import Figure

from roireg.data.pose_results import TraceRecord
from roireg.figures.style import PALETTE


def convergence(traces: dict[str, list[TraceRecord]]) -> Figure:
    """Objective (top) and error (bottom) by iteration, a column for each method.

    A thin line is one X-ray, the thick line is the median over X-rays.

    Args:
        traces: traces of all X-rays, by the method's label.
    """
    figure = Figure(figsize=(2.8 * len(traces), 4.6), layout="constrained")
    grid = figure.subplots(2, len(traces), squeeze=False, sharex=True, sharey="row")
    for index, (label, records) in enumerate(traces.items()):
        color = PALETTE[index % len(PALETTE)]
        for axes, values in zip(grid[:, index], _curves(records), strict=True):
            axes.plot(values.T, color=color, linewidth=0.5, alpha=0.35)
            axes.plot(np.median(values, axis=0), color=color, linewidth=2)
            axes.grid(alpha=0.3)
        grid[0, index].set_title(f"{label} ({len(records)} X-rays)")
        grid[1, index].set_xlabel("iteration")
        grid[1, index].set_yscale("log")
        grid[1, index].axhline(1, color="black", linewidth=0.8, linestyle=":")
    grid[0, 0].set_ylabel("objective")
    grid[1, 0].set_ylabel("mpd (mm, detector plane)")
    return figure


def _curves(records: list[TraceRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Objective and mpd, each `(X-rays, iterations)`; shorter traces are continued with their last value."""
    length = max(len(record.objective) for record in records)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.pad(values, (0, length - len(values)), mode="edge")

    objective = np.stack([padded(record.objective) for record in records])
    return objective, np.stack([padded(record.mpd_mm) for record in records])
