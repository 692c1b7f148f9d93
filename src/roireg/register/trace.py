"""What every optimizer returns."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Trace:
    """What an optimization did.

    Attributes:
        poses: `(N + 1, 4, 4)` iterates from the initial pose on, `volume_from_camera`.
        objective: `(N + 1,)` value at each of them.
        best: index of the iterate that is the result.
        terms: `(N + 1,)` values of the parts of the objective, by name; empty if it has none.
    """

    poses: Float[Tensor, "N 4 4"]
    objective: Float[Tensor, "N"]
    best: int
    terms: dict[str, Float[Tensor, "N"]] = field(default_factory=dict)
