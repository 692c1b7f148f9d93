"""The paper's optimizer: Adam on the six parameters of a pose (section 2.2, with DiffPose's step schedule)."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.register.charts import Chart
from roireg.register.settings import AdamSettings
from roireg.register.trace import Trace

# Terms by name, whose sum is the objective; one value for each of B poses.
Terms = dict[str, Float[Tensor, "B"]]

# Adam's constants (Kingma and Ba 2015): decay rates of the two moments, and the term that keeps the quotient finite.
MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8


def register_adam(
    objective: Callable[[Float[Tensor, "B 4 4"]], Terms], chart: Chart, settings: AdamSettings
) -> list[Trace]:
    """Minimise an objective over poses, for B independent X-rays at once.

    The Adam step is implemented here because `torch.optim` loads torch's compiler on first use, which takes longer than
    many registrations.

    Args:
        objective: returns the terms whose sum is minimised: for each of B poses a value that depends on that pose only.
        chart: parametrisation of the poses, and the initial parameters, on the device of the objective.
        settings: learning rates, number of iterations, and stopping rule.

    Returns:
        A trace for each X-ray, on the CPU; the same as if each X-ray were registered alone.
    """
    twist = chart.start.clone()
    rates = twist.new_tensor([settings.learning_rate_rotation_rad] * 3 + [settings.learning_rate_translation_mm] * 3)
    mean, square = torch.zeros_like(twist), torch.zeros_like(twist)
    poses, values = [], []
    parts: dict[str, list[Tensor]] = defaultdict(list)
    progress = Progress(settings, len(twist))
    for iteration in range(settings.iterations + 1):
        twist.requires_grad_()
        pose = chart.pose(twist)
        terms = objective(pose)
        value = sum(terms.values())
        poses.append(pose.detach())
        values.append(value.detach())
        for name, term in terms.items():
            parts[name].append(term.detach())
        progress.add(values[-1])
        if progress.ended:
            break
        (gradient,) = torch.autograd.grad(value.sum(), twist)
        step = iteration + 1
        mean = torch.lerp(gradient, mean, MEAN_DECAY)
        square = torch.lerp(gradient**2, square, SQUARE_DECAY)
        direction = (mean / (1 - MEAN_DECAY**step)) / ((square / (1 - SQUARE_DECAY**step)).sqrt() + EPSILON)
        decay = settings.decay_factor ** (iteration // settings.decay_every)
        twist = twist.detach() - decay * rates * direction
    by_name = {name: torch.stack(part).cpu() for name, part in parts.items()}
    return [
        _trace(torch.stack(poses)[:count, xray].cpu(), torch.stack(values)[:count, xray].cpu(), by_name, xray)
        for xray, count in enumerate(progress.counts)
    ]


def _trace(poses: Tensor, values: Tensor, terms: dict[str, Tensor], xray: int) -> Trace:
    best = int(values.nan_to_num(nan=torch.inf).argmin())
    return Trace(poses, values, best, {name: term[: len(poses), xray] for name, term in terms.items()})


class Progress:
    """Tracks which X-rays of a batch are still being optimised.

    Attributes:
        counts: for each X-ray, the number of iterates in its trace.
    """

    def __init__(self, settings: AdamSettings, xrays: int) -> None:
        self.settings = settings
        self.counts = [0] * xrays
        self._reference = [math.inf] * xrays
        self._improved = [0] * xrays
        self._active = set(range(xrays))

    def add(self, objective: Float[Tensor, "B"]) -> None:
        """Take the objective at the next iterate of each; it is read only where an X-ray may stop for it."""
        if self.settings.patience is None:
            self.counts = [count + 1 for count in self.counts]
            if self.counts[0] > self.settings.iterations:
                self._going.clear()
            return
        values = objective.tolist()
        for xray in list(self._going):
            iteration = self.counts[xray]
            self.counts[xray] += 1
            if values[xray] < self._reference[xray] - self.settings.min_improvement:
                self._reference[xray], self._improved[xray] = values[xray], iteration
            stuck = iteration - self._improved[xray] >= self.settings.patience
            if stuck or iteration == self.settings.iterations:
                self._active.remove(xray)

    @property
    def ended(self) -> bool:
        """True once every X-ray has stopped."""
        return not self._active
