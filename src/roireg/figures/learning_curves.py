"""Figure of the encoders' learning curves."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from roireg.figures.style import PALETTE

TICKS_MM = (2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)


def learning_curves(curves: dict[str, list[pd.DataFrame]]) -> Figure:
    """Validation error by epoch, a panel for each encoder.

    The dashed line is the error of the PA pose `T_PA`, where registration starts without an encoder; the dotted line is
    a third of it.

    Args:
        curves: training histories of all specimens and seeds, by the encoder's label.
    """
    figure = Figure(figsize=(max(3.2, 2.8 * len(curves)), 3.2), layout="constrained")
    grid = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for index, (axes, (label, histories)) in enumerate(zip(grid, curves.items(), strict=True)):
        color = PALETTE[index % len(PALETTE)]
        values = np.stack([history["validation_mpd_mm"] for history in histories])
        epochs = histories[0]["epoch"] + 1
        pa_mm = np.median([history["pa_validation_mpd_mm"].iloc[0] for history in histories])
        one, *_ = axes.plot(epochs, values.T, color=color, linewidth=0.5, alpha=0.5)
        (middle,) = axes.plot(epochs, np.median(values, axis=0), color=color, linewidth=2)
        reference = axes.axhline(pa_mm, color="black", linewidth=0.8, linestyle="--")
        third = axes.axhline(pa_mm / 3, color="black", linewidth=0.8, linestyle=":")
        axes.set_title(f"{label} ({len(histories)} trainings)")
        axes.set_xlabel("epoch")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(TICKS_MM))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.grid(alpha=0.3, which="both")
    grid[0].set_ylabel("median mpd on DRRs not trained on (mm)")
    figure.legend(
        [one, middle, reference, third],
        ["one training", "median", "T_PA", "a third of it"],
        loc="outside lower center",
        ncols=4 if len(curves) > 1 else 2,
        fontsize="small",
    )
    return figure
