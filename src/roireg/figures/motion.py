"""Motion over the frames of a sequence: translation and rotation since the first one, and the verdict on each."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from roireg.figures.style import PALETTE, save_figure

DPI = 200
SIZE_INCH = (6.0, 4.2)
AXES = ("x", "y", "z")
QUANTITIES = ("translation (mm)", "rotation (°)")
MARKERS = {"trusted": "o", "check": "^"}


def motion_figure(rows: pd.DataFrame) -> Figure:
    """Two panels for each body of a sequence: its translation (mm) and rotation (degrees), by frame.

    Frames that failed are grey, and what was found there is not drawn.

    Args:
        rows: columns `frame`, `body`, `verdict`, `motion_{x,y,z}_mm`, `motion_{x,y,z}_deg`, one row a frame and body.
    """
    bodies = list(dict.fromkeys(rows["body"]))
    figure = Figure(figsize=(SIZE_INCH[0], SIZE_INCH[1] * len(bodies)), layout="constrained")
    grid = figure.subplots(2 * len(bodies), 1, sharex=True, squeeze=False)[:, 0]
    for number, body in enumerate(bodies):
        own = rows[rows["body"] == body]
        for axes, unit, what in zip(grid[2 * number : 2 * number + 2], ("mm", "deg"), QUANTITIES, strict=True):
            for color, axis in zip(PALETTE, AXES, strict=False):
                values = own[f"motion_{axis}_{unit}"].where(own["verdict"] != "failed")
                axes.plot(own["frame"], values, color=color, linewidth=1, label=axis)
                for grade, marker in MARKERS.items():
                    kept = own["verdict"] == grade
                    axes.scatter(own["frame"][kept], values[kept], color=color, marker=marker, s=14)
            for frame in own["frame"][own["verdict"] == "failed"]:
                axes.axvspan(frame - 0.4, frame + 0.4, color="0.85", linewidth=0)
            axes.set_ylabel(what)
            axes.set_title(body if unit == "mm" else "")
    grid[0].legend(title="axis of the first camera", ncols=3)
    grid[-1].set_xlabel("frame (circle: trusted, triangle: check, grey: failed, not shown)")
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def write_motion(path: str | Path, rows: pd.DataFrame) -> None:
    """Save `motion_figure`; the ending gives the format."""
    save_figure(motion_figure(rows), [path], DPI)
