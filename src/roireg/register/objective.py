"""What registration minimises: a similarity of the X-ray and the DRR, and the Dice of their ROIs."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from roireg.drr import render
from roireg.images import scaled
from roireg.register.adam import Terms
from roireg.register.levels import Problem
from roireg.register.roi import RoiTerm

Similarity = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def image_objective(
    problem: Problem, similarity: Similarity, rois: RoiTerm | None
) -> Callable[[Float[Tensor, "1 4 4"]], Terms]:
    r"""The terms $1 - S$ and $\beta_2 (1 - \mathrm{Dice})$ (paper, section 2.3) as functions of the pose.

    Args:
        problem: the X-ray, the CT, and the pixels that count.
        similarity: S, larger is better, 1 for equal images; an entry of `roireg.similarity.SIMILARITIES`.
        rois: the ROI term, or None for an objective without one.

    Returns:
        From `volume_from_camera` (mm) to `similarity` and `roi`.
    """
    fixed = problem.xray[None]

    def objective(pose: Float[Tensor, "1 4 4"]) -> Terms:
        moving = render(problem.volume, problem.camera, pose, problem.step_mm)
        weight = None if problem.weights is None else problem.weights(problem.camera, pose.detach())
        pixels = None if weight is None else weight[:, None]
        seen, shown = scaled(fixed, weight), scaled(moving, weight)
        terms = {"similarity": 1 - similarity(seen[:, None], shown[:, None], pixels).sum()}
        if rois is not None:
            terms["roi"] = rois.weight * (1 - rois.dice(shown, pose, weight).sum())
        return terms

    return objective
