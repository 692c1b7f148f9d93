"""A pose that a network estimated; apart from what reads tables of them, so that registration loads no pandas."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Estimate:
    """A pose (`volume_from_camera`, mm) that an encoder estimated, and the seconds that it took."""

    pose: Float[Tensor, "4 4"]
    seconds: float
