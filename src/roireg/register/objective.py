"""What registration minimises: one minus a similarity of the X-ray and the DRR, on the pixels that count."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.drr import render
from roireg.geometry import Camera
from roireg.register.weights import WeightMap
from roireg.volume import Volume

Similarity = Callable[[Tensor, Tensor, Tensor | None], Tensor]
MIN_CONTRAST = 1e-6


def scaled(image: Float[Tensor, "B H W"], weight: Float[Tensor, "B H W"] | None) -> Float[Tensor, "B H W"]:
    """Per-image min-max to [0, 1] over the pixels of non-zero weight, as DiffPose normalises both images."""
    if weight is None:
        low, high = image.amin(dim=(-2, -1), keepdim=True), image.amax(dim=(-2, -1), keepdim=True)
    else:
        counted = weight > 0
        low = image.masked_fill(~counted, torch.inf).amin(dim=(-2, -1), keepdim=True)
        high = image.masked_fill(~counted, -torch.inf).amax(dim=(-2, -1), keepdim=True)
        nothing = ~counted.any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)
        low, high = low.masked_fill(nothing, 0), high.masked_fill(nothing, 1)
    return (image - low) / (high - low).clamp_min(MIN_CONTRAST)


def image_objective(
    xray: Float[Tensor, "H W"],
    camera: Camera,
    volume: Volume,
    similarity: Similarity,
    weights: WeightMap | None,
    step_mm: float | None,
) -> Callable[[Float[Tensor, "1 4 4"]], Float[Tensor, ""]]:
    """`1 - similarity` as a function of the pose (`volume_from_camera`).

    Args:
        xray: the fixed image.
        camera: its detector.
        volume: attenuation in 1/mm.
        similarity: larger is better, 1 for equal images; an entry of `roireg.similarity.SIMILARITIES`.
        weights: map of weights at a pose, or None for all pixels alike.
        step_mm: sampling of the renderer.
    """
    fixed = xray[None]

    def objective(pose: Float[Tensor, "1 4 4"]) -> Float[Tensor, ""]:
        moving = render(volume, camera, pose, step_mm)
        if weights is None:
            return 1 - similarity(scaled(fixed, None)[:, None], scaled(moving, None)[:, None], None).sum()
        weight = weights(camera, pose.detach())
        return 1 - similarity(scaled(fixed, weight)[:, None], scaled(moving, weight)[:, None], weight[:, None]).sum()

    return objective
