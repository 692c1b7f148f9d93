"""A panel of a figure with an image; apart from the style, so that plots of numbers load no torch."""

import torch
from matplotlib.axes import Axes


def panel(axes: Axes, image: torch.Tensor) -> None:
    """Show an image without ticks, its grey range from the 1st to the 99th percentile of pixels above the minimum.

    The minimum is the value of rays that miss the CT; the percentiles leave out the brightest metal.
    """
    inside = image[image > image.min()]
    low, high = torch.quantile(inside, torch.tensor([0.01, 0.99])).tolist() if len(inside) else (0.0, 1.0)
    axes.imshow(image.numpy(), cmap="gray", interpolation="bilinear", vmin=low, vmax=high)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)
