"""Figures of how encoders learn."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from roireg.figures import PALETTE


def learning_curves(curves: dict[str, list[pd.DataFrame]]) -> Figure:
    """Validation error by epoch: a panel an encoder, a thin line a training, a thick one the median; dashed: T_PA.

    Args:
        curves: histories of all specimens and seeds by the encoder's label.
    """
    figure = Figure(figsize=(2.8 * len(curves), 2.8), layout="constrained")
    grid = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for index, (axes, (label, histories)) in enumerate(zip(grid, curves.items(), strict=True)):
        color = PALETTE[index % len(PALETTE)]
        values = np.stack([history["validation_mpd_mm"] for history in histories])
        epochs = histories[0]["epoch"] + 1
        pa_mm = np.median([history["pa_validation_mpd_mm"].iloc[0] for history in histories])
        axes.plot(epochs, values.T, color=color, linewidth=0.5, alpha=0.5)
        axes.plot(epochs, np.median(values, axis=0), color=color, linewidth=2)
        axes.axhline(pa_mm, color="black", linewidth=0.8, linestyle="--")
        axes.set_title(f"{label} ({len(histories)} trainings)")
        axes.set_xlabel("epoch")
        axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
    grid[0].set_ylabel("median mpd on DRRs not trained on (mm)")
    return figure
