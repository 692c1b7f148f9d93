"""The paper's optimizer: Adam on a twist about the isocentre (section 2.2, with DiffPose's step schedule)."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry import perturb
from roireg.register.trace import Trace

# Scalars that add up to what is minimised.
Terms = dict[str, Float[Tensor, ""]]

# Kingma and Ba 2015: decay of the mean gradient and of the mean square, and what keeps the quotient finite.
MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class AdamSettings:
    """Learning rates per iteration, their decay, and when to stop.

    Attributes:
        iterations: at most.
        learning_rate_rotation_rad, learning_rate_translation_mm: of the first iterations.
        decay_every, decay_factor: both rates times the factor, every so many iterations.
        patience: stop after so many iterations in a row without an improvement; None for never.
        min_improvement: of the objective, that counts as one.
    """

    iterations: int
    learning_rate_rotation_rad: float
    learning_rate_translation_mm: float
    decay_every: int
    decay_factor: float
    patience: int | None = None
    min_improvement: float = 0.0


def register_adam(
    objective: Callable[[Float[Tensor, "1 4 4"]], Terms],
    initial_pose: Float[Tensor, "4 4"],
    center_mm: Float[Tensor, "3"],
    settings: AdamSettings,
) -> Trace:
    """Minimise an objective over poses.

    The variable is the twist of `perturb(initial_pose, twist, center_mm)`, so that a step turns about a point in the
    patient whatever the CT's origin is. The step is written out here because `torch.optim` loads torch's compiler when
    it is first used, which takes longer than many registrations.

    Args:
        objective: scalars whose sum is minimised, differentiable in the pose.
        initial_pose: `volume_from_camera`, mm.
        center_mm: centre of rotation, volume frame.
    """
    twist = torch.zeros(1, 6, dtype=initial_pose.dtype)
    rates = twist.new_tensor([settings.learning_rate_rotation_rad] * 3 + [settings.learning_rate_translation_mm] * 3)
    mean, square = torch.zeros_like(twist), torch.zeros_like(twist)
    poses, values = [], []
    parts: dict[str, list[Tensor]] = defaultdict(list)
    reference, improved = math.inf, 0
    for iteration in range(settings.iterations + 1):
        twist.requires_grad_()
        pose = perturb(initial_pose, twist, center_mm)
        terms = objective(pose)
        value = sum(terms.values())
        poses.append(pose.detach()[0])
        values.append(value.detach())
        for name, term in terms.items():
            parts[name].append(term.detach())
        if float(values[-1]) < reference - settings.min_improvement:
            reference, improved = float(values[-1]), iteration
        stuck = settings.patience is not None and iteration - improved >= settings.patience
        if stuck or iteration == settings.iterations:
            break
        (gradient,) = torch.autograd.grad(value, twist)
        step = iteration + 1
        mean = torch.lerp(gradient, mean, MEAN_DECAY)
        square = torch.lerp(gradient**2, square, SQUARE_DECAY)
        direction = (mean / (1 - MEAN_DECAY**step)) / ((square / (1 - SQUARE_DECAY**step)).sqrt() + EPSILON)
        decay = settings.decay_factor ** (iteration // settings.decay_every)
        twist = twist.detach() - decay * rates * direction
    values = torch.stack(values)
    best = int(values.nan_to_num(nan=torch.inf).argmin())
    return Trace(torch.stack(poses), values, best, {name: torch.stack(part) for name, part in parts.items()})
