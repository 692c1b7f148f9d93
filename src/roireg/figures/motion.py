"""Motion over the frames of a sequence: translation and rotation since the first one, and the verdict on each."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from roireg.figures.style import PALETTE, save_figure

DPI = 200
SIZE_INCH = (6.0, 4.2)
AXES = ("x", "y", "z")
QUANTITIES = ("translation (mm)", "rotation (°)")
MARKERS = {"trusted": "o", "check": "^"}


def motion_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Two panels for each body of a sequence: its translation (mm) and rotation (degrees), by frame.

    Frames that failed are grey, and what was found there is not drawn.

    Args:
        rows: with `frame`, `body`, `verdict`, `motion_{x,y,z}_mm`, `motion_{x,y,z}_deg`, one row a frame and body.
    """
    bodies = list(dict.fromkeys(row["body"] for row in rows))
    figure = Figure(figsize=(SIZE_INCH[0], SIZE_INCH[1] * len(bodies)), layout="constrained")
    grid = figure.subplots(2 * len(bodies), 1, sharex=True, squeeze=False)[:, 0]
    for number, body in enumerate(bodies):
        own = [row for row in rows if row["body"] == body]
        frames, verdicts = [row["frame"] for row in own], [row["verdict"] for row in own]
        for axes, unit, what in zip(grid[2 * number : 2 * number + 2], ("mm", "deg"), QUANTITIES, strict=True):
            for color, axis in zip(PALETTE, AXES, strict=False):
                values = [math.nan if row["verdict"] == "failed" else row[f"motion_{axis}_{unit}"] for row in own]
                axes.plot(frames, values, color=color, linewidth=1, label=axis)
                for grade, marker in MARKERS.items():
                    kept = [index for index, verdict in enumerate(verdicts) if verdict == grade]
                    at, height = [frames[index] for index in kept], [values[index] for index in kept]
                    axes.scatter(at, height, color=color, marker=marker, s=14)
            for frame in (row["frame"] for row in own if row["verdict"] == "failed"):
                axes.axvspan(frame - 0.4, frame + 0.4, color="0.85", linewidth=0)
            axes.set_ylabel(what)
            axes.set_title(body if unit == "mm" else "")
    grid[0].legend(title="axis of the first camera", ncols=3)
    grid[-1].set_xlabel("frame (circle: trusted, triangle: check, grey: failed, not shown)")
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def write_motion(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Save `motion_figure`; the ending gives the format."""
    save_figure(motion_figure(rows), [path], DPI)
