"""What registration minimises: a similarity of the X-ray and the DRR, and the Dice of their ROIs."""

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
        problems: X-rays, the CT, and the pixels that count; all of one camera, CT and weight map.
        similarity: S, larger is better, 1 for equal images; an entry of `roireg.metrics.similarity.SIMILARITIES`.
        rois: the ROI term of these X-rays, or None for an objective without one.

    Returns:
        From `volume_from_camera` (mm), one for each X-ray, to `similarity` and `roi`.
    """
    one = problems[0]
    fixed = torch.stack([problem.xray for problem in problems]).to(one.volume.values.device)
    masks = measured_weights(problems, fixed)

    def objective(pose: Float[Tensor, "B 4 4"]) -> Terms:
        moving = render(one.volume, one.camera, pose, one.step_mm)
        weight = None if one.weights is None else one.weights(one.camera, pose.detach())
        if masks is not None:
            weight = masks if weight is None else weight * masks
        pixels = None if weight is None else weight[:, None]
        seen, shown = scaled(fixed, weight), scaled(moving, weight)
        terms = {"similarity": 1 - similarity(seen[:, None], shown[:, None], pixels)}
        if rois is not None:
            terms["roi"] = rois.weight * (1 - rois.dice(shown, pose, weight))
        return terms

    return objective


def measured_weights(problems: Sequence[Problem], like: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"] | None:
    """1 for the X-rays' pixels that are measurements, 0 for the others; None where all are."""
    if all(problem.mask is None for problem in problems):
        return None
    whole = torch.ones_like(like[0], dtype=torch.bool)
    return torch.stack([whole if one.mask is None else one.mask.to(whole.device) for one in problems]).to(like)
