"""The interface that segmentation networks share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Prompts:
    """Boxes of ROIs in images of one size, ready for the network: which there are is known without asking the device.

    Attributes:
        boxes: those that are there, on the network's input grid.
        images, rois: of which image each is, and of which ROI.
        shape: number of images, and of ROIs.
        size: height and width of the images.
    """

    boxes: Float[Tensor, "N 4"]
    images: Int64[Tensor, "N"]
    rois: Int64[Tensor, "N"]
    shape: tuple[int, int]
    size: tuple[int, int]


# Boxes `(left, top, right, bottom)` of each ROI, NaN where it is absent; or what a network has made of them.
BoxesOrPrompts = Float[Tensor, "B R 4"] | Prompts


class SegmentationNetwork(nn.Module):
    """Predicts the probability of each ROI; `prompted` is true for a network that needs bounding boxes."""

    prompted: ClassVar[bool] = False

    def prompts(self, boxes_px: Float[Tensor, "B R 4"], size: tuple[int, int], device: torch.device) -> BoxesOrPrompts:
        """What `probabilities` takes for boxes in images of a size (height, width), made ready for many calls."""
        return boxes_px.to(device)

    @abstractmethod
    def probabilities(
        self, image: Float[Tensor, "B H W"], boxes_px: BoxesOrPrompts | None = None
    ) -> Float[Tensor, "B R H W"]:
        """Probability of each ROI at each pixel; differentiable in the image.

        Args:
            image: log attenuation; its scale does not matter.
            boxes_px: for a prompted network.
        """
