"""Operations on both X-rays and DRRs: scaling to [0, 1] and resampling."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

MIN_CONTRAST = 1e-6


def scaled(image: Float[Tensor, "B H W"], weight: Float[Tensor, "B H W"] | None = None) -> Float[Tensor, "B H W"]:
    """Each image scaled so that its minimum and maximum over pixels of non-zero weight are 0 and 1, as in DiffPose."""
    if weight is None:
        low, high = image.amin(dim=(-2, -1), keepdim=True), image.amax(dim=(-2, -1), keepdim=True)
    else:
        used = weight > 0
        low = image.masked_fill(~used, torch.inf).amin(dim=(-2, -1), keepdim=True)
        high = image.masked_fill(~used, -torch.inf).amax(dim=(-2, -1), keepdim=True)
        nothing = ~used.any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)
        low, high = low.masked_fill(nothing, 0), high.masked_fill(nothing, 1)
    return (image - low) / (high - low).clamp_min(MIN_CONTRAST)


def resized(image: Float[Tensor, "B C H W"], size_px: int) -> Float[Tensor, "B C S S"]:
    """Images resampled to a network's size, with antialiasing; images of that size are returned unchanged."""
    if image.shape[-2:] == (size_px, size_px):
        return image
    return interpolate(image, size=(size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
