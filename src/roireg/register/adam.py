"""The paper's optimizer: Adam on a twist about the isocentre (section 2.2, with DiffPose's step schedule)."""

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


@dataclass(frozen=True)
class AdamSettings:
    """Learning rates per iteration, and their decay: times `decay_factor` every `decay_every` iterations."""

    iterations: int
    learning_rate_rotation_rad: float
    learning_rate_translation_mm: float
    decay_every: int
    decay_factor: float


def register_adam(
    objective: Callable[[Float[Tensor, "1 4 4"]], Terms],
    initial_pose: Float[Tensor, "4 4"],
    center_mm: Float[Tensor, "3"],
    settings: AdamSettings,
) -> Trace:
    """Minimise an objective over poses.

    The variable is the twist of `perturb(initial_pose, twist, center_mm)`, so that a step turns about a point in the
    patient whatever the CT's origin is.

    Args:
        objective: scalars whose sum is minimised, differentiable in the pose.
        initial_pose: `volume_from_camera`, mm.
        center_mm: centre of rotation, volume frame.
    """
    rotation = torch.zeros(1, 3, dtype=initial_pose.dtype, requires_grad=True)
    translation = torch.zeros(1, 3, dtype=initial_pose.dtype, requires_grad=True)
    optimizer = torch.optim.Adam(
        [
            {"params": [rotation], "lr": settings.learning_rate_rotation_rad},
            {"params": [translation], "lr": settings.learning_rate_translation_mm},
        ]
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, settings.decay_every, settings.decay_factor)
    poses, values = [], []
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for iteration in range(settings.iterations + 1):
        pose = perturb(initial_pose, torch.cat([rotation, translation], dim=-1), center_mm)
        terms = objective(pose)
        value = sum(terms.values())
        poses.append(pose.detach()[0])
        values.append(value.detach())
        for name, term in terms.items():
            parts[name].append(term.detach())
        if iteration == settings.iterations:
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    values = torch.stack(values)
    best = int(values.nan_to_num(nan=torch.inf).argmin())
    return Trace(torch.stack(poses), values, best, {name: torch.stack(part) for name, part in parts.items()})
