"""The trace of an optimization, which every optimizer returns."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Trace:
    """The iterates of an optimization.

    Attributes:
        poses: pose of each iterate, mm; the first is the initial pose. `volume_from_camera`, or `volume_from_rig` where
            the function that returns the trace says so.
        objective: objective at each iterate; lower is better.
        best: index of the iterate that is the result.
        terms: terms of the objective at each iterate, by name; empty if the objective has a single term.
    """

    poses: Float[Tensor, "N 4 4"]
    objective: Float[Tensor, "N"]
    best: int
    terms: dict[str, Float[Tensor, "N"]] = field(default_factory=dict)
