"""What registration minimises: one minus a similarity of the X-ray and the DRR, on the pixels that count."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from roireg.drr import render
from roireg.geometry import Camera
from roireg.images import scaled
from roireg.register.weights import WeightMap
from roireg.volume import Volume

Similarity = Callable[[Tensor, Tensor, Tensor | None], Tensor]


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
