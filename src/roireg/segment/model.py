"""A trained segmenter: predicts ROI probabilities of X-rays and DRRs; loaded from safetensors."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from roireg.data.label_names import normalized
from roireg.errors import InputError
from roireg.segment.save import DESCRIPTION
from roireg.segment.unet import UNet, UNetSettings

if TYPE_CHECKING:
    from roireg.segment.medsam import Prompts

THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network, and the names of the ROIs of its channels."""

    rois: tuple[str, ...]
    network: nn.Module

    @property
    def prompted(self) -> bool:
        """True if the network needs bounding boxes as prompts (MedSAM); the U-Net needs none."""
        return not isinstance(self.network, UNet)

    def prompts(
        self, boxes_px: Float[Tensor, "B R 4"] | None, size: tuple[int, int], device: torch.device
    ) -> "Float[Tensor, 'B R 4'] | Prompts | None":
        """What `probabilities` takes for boxes in images of a size (height, width), made ready once for many calls."""
        if boxes_px is None or not hasattr(self.network, "prompts"):
            return boxes_px if boxes_px is None else boxes_px.to(device)
        return self.network.prompts(boxes_px, size, device)

    def probabilities(
        self, image: Float[Tensor, "B H W"], boxes_px: "Float[Tensor, 'B R 4'] | Prompts | None" = None
    ) -> Float[Tensor, "B R H W"]:
        """Probability of each ROI at each pixel; differentiable in the image.

        Args:
            image: log attenuation; its scale does not matter.
            boxes_px: `(left, top, right, bottom)` of each ROI, NaN where it is absent, or `prompts` of them; for a
                prompted segmenter.
        """
        return self.network.probabilities(image, boxes_px) if self.prompted else self.network.probabilities(image)


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
        with safe_open(path, framework="pt", device="cpu") as file:
            description = json.loads((file.metadata() or {})[DESCRIPTION])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        known = list(description["rois"])
        network = _network(description["kind"], description["architecture"], len(known))
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        fault = f"cannot be read as a segmenter ({type(error).__name__})"
        raise InputError(str(path), fault, "Train it again, with `roireg` or the workflow") from None
    if [normalized(roi) for roi in known] != [normalized(roi) for roi in rois]:
        fault = f"was trained for other ROIs: {', '.join(known)}"
        raise InputError(str(path), fault, "Use these ROIs, or train a new segmenter")
    return Segmenter(tuple(rois), network.to(device).eval().requires_grad_(False))


def _network(kind: str, architecture: dict[str, Any], rois: int) -> nn.Module:
    if kind == "unet":
        return UNet(UNetSettings(architecture["image_size_px"], tuple(architecture["widths"])), rois)
    if kind != "medsam":
        raise ValueError(f"unknown kind {kind!r}")
    from roireg.segment.medsam import MedSamSettings, build_medsam

    return build_medsam(MedSamSettings(architecture["variant"], None, None, ""))
