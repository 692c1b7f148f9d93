"""What any segmenter's network offers to those who use it."""

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class SegmentationNetwork(nn.Module):
    """From images to the probability of each ROI; `prompted` says whether it segments what boxes surround."""

    prompted: ClassVar[bool] = False

    @abstractmethod
    def probabilities(
        self, image: Float[Tensor, "B H W"], boxes_px: Float[Tensor, "B R 4"] | None = None
    ) -> Float[Tensor, "B R H W"]:
        """Probability of each ROI; gradients flow to the image.

        Args:
            image: log attenuation; its scale does not matter.
            boxes_px: `(left, top, right, bottom)` of each ROI, NaN where it is absent; for a prompted network.
        """
