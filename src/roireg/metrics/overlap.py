"""The Dice coefficient, of binary masks (tables, verdicts) and of soft masks with pixel weights (registration)."""

from jaxtyping import Bool, Float
from torch import Tensor

Masks = Float[Tensor, "*B H W"] | Bool[Tensor, "*B H W"]


def dice_of_each(
    first: Masks, second: Masks, weight: Float[Tensor, "*#B H W"] | float = 1.0, *, eps: float = 0.0
) -> Float[Tensor, "*B"]:
    r"""Dice coefficient, in [0, 1], of each mask of `first` with the mask at the same place in `second`.

    $$\frac{2 \sum w M \hat M}{\sum w (M + \hat M) + \epsilon}$$

    Args:
        first, second: booleans or probabilities.
        weight: weight of each pixel.
        eps: keeps the gradient finite if both masks are empty; with 0 the coefficient of empty masks is NaN.
    """
    overlap = (weight * first * second).sum((-2, -1))
    return 2 * overlap / ((weight * first).sum((-2, -1)) + (weight * second).sum((-2, -1)) + eps)
