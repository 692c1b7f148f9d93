"""The Dice coefficient of masks: of hard ones for tables and verdicts, of soft and weighted ones for registration."""

from jaxtyping import Bool, Float
from torch import Tensor

Masks = Float[Tensor, "*B H W"] | Bool[Tensor, "*B H W"]


def dice_of_each(
    one: Masks, other: Masks, weight: Float[Tensor, "*#B H W"] | float = 1.0, *, eps: float = 0.0
) -> Float[Tensor, "*B"]:
    r"""Dice coefficient of each mask with its counterpart, in [0, 1].

    $$\frac{2 \sum w M \hat M}{\sum w (M + \hat M) + \epsilon}$$

    Args:
        one, other: true or false, or probabilities.
        weight: of the pixels.
        eps: keeps the gradient finite where both are empty; with 0 the coefficient is NaN there.
    """
    overlap = (weight * one * other).sum((-2, -1))
    return 2 * overlap / ((weight * one).sum((-2, -1)) + (weight * other).sum((-2, -1)) + eps)
