"""The objective of registration with Adam: similarity of X-ray and DRR, and Dice of their ROIs."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.images import scaled
from roireg.drr import render
from roireg.register.adam import Terms
from roireg.register.levels import Problem
from roireg.register.roi import RoiTerm

Similarity = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def image_objective(
    problems: Sequence[Problem], similarity: Similarity, rois: RoiTerm | None
) -> Callable[[Float[Tensor, "B 4 4"]], Terms]:
    r"""The terms $1 - S$ and $\beta_2 (1 - \mathrm{Dice})$ (paper, section 2.3) as functions of the poses of X-rays.

    Args:
        problems: X-rays with the same camera, CT and pixel weights.
        similarity: S; larger is better, 1 for equal images; see `roireg.metrics.similarity.SIMILARITIES`.
        rois: the ROI term of these X-rays, or None.

    Returns:
        A function from poses `volume_from_camera` (mm), one for each X-ray, to the terms `similarity` and `roi`.
    """
    first = problems[0]
    fixed = torch.stack([problem.xray for problem in problems]).to(first.volume.values.device)

    def objective(pose: Float[Tensor, "B 4 4"]) -> Terms:
        moving = render(first.volume, first.camera, pose, first.step_mm)
        weight = None if first.weights is None else first.weights(first.camera, pose.detach())
        pixels = None if weight is None else weight[:, None]
        xray, drr = scaled(fixed, weight), scaled(moving, weight)
        terms = {"similarity": 1 - similarity(xray[:, None], drr[:, None], pixels)}
        if rois is not None:
            terms["roi"] = rois.weight * (1 - rois.dice(drr, pose, weight))
        return terms

    return objective
