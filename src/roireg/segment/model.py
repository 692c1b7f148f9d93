"""A trained segmenter: predicts ROI probabilities of X-rays and DRRs; loaded from safetensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from roireg.data.label_names import normalized
from roireg.errors import InputError
from roireg.segment.network import BoxesOrPrompts, SegmentationNetwork
from roireg.segment.registry import SEGMENTERS
from roireg.segment.save import DESCRIPTION
from roireg.training.model_file import READ_ERRORS, network_of, read_model, unreadable

THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network, and the names of the ROIs of its channels."""

    rois: tuple[str, ...]
    network: SegmentationNetwork

    @property
    def prompted(self) -> bool:
        """True if the network needs bounding boxes as prompts (MedSAM); the U-Net needs none."""
        return self.network.prompted

    def prompts(
        self, boxes_px: Float[Tensor, "B R 4"] | None, size: tuple[int, int], device: torch.device
    ) -> BoxesOrPrompts | None:
        """What `probabilities` takes for boxes in images of a size (height, width), made ready once for many calls."""
        return None if boxes_px is None else self.network.prompts(boxes_px, size, device)

    def probabilities(
        self, image: Float[Tensor, "B H W"], boxes_px: BoxesOrPrompts | None = None
    ) -> Float[Tensor, "B R H W"]:
        """Probability of each ROI at each pixel; differentiable in the image.

        Args:
            image: log attenuation; its scale does not matter.
            boxes_px: `(left, top, right, bottom)` of each ROI, NaN where it is absent, or `prompts` of them; for a
                prompted segmenter.
        """
        return self.network.probabilities(image, boxes_px)


def roi_numbers(probabilities: Float[Tensor, "B R H W"]) -> UInt8[Tensor, "B H W"]:
    """Number of the most probable ROI at each pixel (r + 1 for channel r) if its probability exceeds 1/2; else 0."""
    most, channel = probabilities.max(dim=1)
    return torch.where(most > THRESHOLD, channel + 1, 0).to(torch.uint8)


def load_segmenter(path: str | Path, rois: Sequence[str], device: torch.device) -> Segmenter:
    """Read a file written by `save_segmenter`, for inference: its weights do not require a gradient.

    Args:
        path: the file.
        rois: ROIs that the segmenter must have been trained for, in this order.
        device: device to run on.

    Raises:
        InputError: the file is not a segmenter, is damaged, or was trained for other ROIs.
    """
    try:
        model = read_model(path, DESCRIPTION)
        known = [str(roi) for roi in model.description["rois"]]
        kind = SEGMENTERS[model.description["kind"]]
        network = cast(SegmentationNetwork, network_of(path, model, lambda: kind.build(model, len(known))))
    except READ_ERRORS as error:
        raise unreadable(path, "a segmenter", error) from None
    if [normalized(roi) for roi in known] != [normalized(roi) for roi in rois]:
        fault = f"was trained for other ROIs: {', '.join(known)}"
        raise InputError(str(path), fault, "Use these ROIs, or train a new segmenter")
    return Segmenter(tuple(rois), network.to(device).eval().requires_grad_(False))
