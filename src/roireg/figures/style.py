"""Style and helpers of all figures: fonts for print, Okabe and Ito's colour-blind safe palette, scale bars."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from roireg.files import atomic_path

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PANEL_INCH = 2.4
BAR_MM = 50

# Names inside an SVG are random without a salt.
matplotlib.rcParams |= {
    "font.size": 8,
    "axes.titlesize": 8,
    "pdf.fonttype": 42,
    "savefig.bbox": "tight",
    "svg.hashsalt": "roireg",
}
# Files of equal figures are equal bytes only without the date; other formats take no such key.
WITHOUT_DATE = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def save_figure(figure: Figure, paths: Iterable[str | Path], dpi: int) -> None:
    """Save a figure to every path, atomically; the file extension selects the format. Equal figures are equal bytes.

    Texts are written as they stand: a `$` in a name begins no formula.
    """
    ticks = {id(label) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _numbers(axis)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in ticks:
            text.set_parse_math(False)
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=dpi, metadata=WITHOUT_DATE.get(temporary.suffix))


def _numbers(axis: Axis) -> list[Text]:
    """Labels at ticks, unless they were given: those of logarithmic axes are formulas."""
    if isinstance(axis.get_major_formatter(), FixedFormatter):
        return []
    return [*axis.get_majorticklabels(), *axis.get_minorticklabels()]


def scale_bar(axes: Axes, length: float, text: str, color: str = "white") -> None:
    """Draw a bar of `length` (units of the axes) at the bottom left, with its text to the right of it."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    end, level = left + 0.03 * (right - left) + length, bottom + 0.03 * (top - bottom)
    axes.plot([end - length, end], [level, level], color=color, linewidth=2, solid_capstyle="butt")
    axes.annotate(text, (end, level), (4, 0), textcoords="offset points", color=color, fontsize=7, va="center")
