"""What all figures share: readable in print, colour-blind safe (Okabe and Ito's palette), with units."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roireg.files import atomic_path

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PANEL_INCH = 2.4
BAR_MM = 50

matplotlib.rcParams |= {"font.size": 8, "axes.titlesize": 8, "pdf.fonttype": 42, "savefig.bbox": "tight"}


def save_figure(figure: Figure, paths: Iterable[str | Path], dpi: int) -> None:
    """Save a figure under every name, each whole or not at all; the ending gives the format."""
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=dpi)


def scale_bar(axes: Axes, length: float, text: str, color: str = "white") -> None:
    """A bar of `length`, in units of the axes, at the bottom left, and its text to the right of it."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    end, level = left + 0.03 * (right - left) + length, bottom + 0.03 * (top - bottom)
    axes.plot([end - length, end], [level, level], color=color, linewidth=2, solid_capstyle="butt")
    axes.annotate(text, (end, level), (4, 0), textcoords="offset points", color=color, fontsize=7, va="center")


def panel(axes: Axes, image: torch.Tensor) -> None:
    """An image without axes; its grey range leaves out rays beyond the CT and the brightest metal."""
    seen = image[image > image.min()]
    low, high = torch.quantile(seen, torch.tensor([0.01, 0.99])).tolist() if len(seen) else (0.0, 1.0)
    axes.imshow(image.numpy(), cmap="gray", interpolation="bilinear", vmin=low, vmax=high)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)
