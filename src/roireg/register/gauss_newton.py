"""Gauss-Newton on locally normalised, weighted NCC: coarse to fine, damped as by Levenberg and Marquardt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.poses import perturb
from roireg.register.levels import Level, Problem, level
from roireg.register.quadratic import (
    ImageAndJacobian,
    Pixels,
    Quadratic,
    drr_and_jacobian,
    pixels_at,
    quadratic,
    without_outliers,
)
from roireg.register.settings import GaussNewtonSettings
from roireg.register.trace import Trace

# Steps before weights are looked at anew.
STEPS_PER_PASS = 2
FIRST_DAMPING, LEAST_DAMPING, DAMPING_DOWN, DAMPING_UP = 1e-1, 1e-3, 0.1, 10.0
SMALLEST_CURVATURE = 1e-12
SMALLEST_OBJECTIVE = 1e-4

# What becomes of the pixels' weights, given the DRR at the start of a pass.
Reweighting = Callable[[Level, Pixels, ImageAndJacobian], Pixels]
REWEIGHTINGS: dict[str, Reweighting] = {"none": lambda level, pixels, rendered: pixels, "tukey": without_outliers}


@dataclass(frozen=True, eq=False)
class State:
    """B descents: where they are, the DRRs there with their derivatives, the objective's model, the damping."""

    poses: Float[Tensor, "B 4 4"]
    renders: tuple[ImageAndJacobian, ...]
    model: Quadratic
    damping: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class Path:
    """`(N + 1, B, 4, 4)` poses of B descents, at first and after each step, and the `(N + 1, B)` objective there."""

    poses: Float[Tensor, "N B 4 4"]
    objective: Float[Tensor, "N B"]


def descend(
    levels: Sequence[Level],
    poses: Float[Tensor, "B 4 4"],
    center_mm: Float[Tensor, "3"],
    iterations: int,
    tolerance: Float[Tensor, "6"],
    reweighting: Reweighting,
) -> Path:
    """Minimise the objective at one level from B poses at once.

    Which pixels count depends on the pose, and the objective would jump with each that comes or goes. So a pass takes
    a few steps on the pixels of its first pose: on them the objective never rises, and a step that would hide pixels
    gains nothing. The next pass looks anew which pixels count.

    Args:
        levels: the X-rays at one resolution; what is minimised is their mean, weighted by `view_shares`.
        poses: starts, `volume_from_rig`, mm.
        center_mm: centre of rotation, volume frame.
        iterations: most steps.
        tolerance: rad and mm; the descent ends when no entry of any step exceeds it.
        reweighting: how the pixels' weights follow from the residual at the start of a pass.
    """
    renders = _renders(levels, poses, center_mm)
    damping = torch.full((len(poses),), FIRST_DAMPING, dtype=torch.float64)
    path: list[tuple[Tensor, Tensor]] = []
    ended = False
    while not ended and len(path) <= iterations:
        pixels = [
            reweighting(level, pixels_at(level, poses @ level.rig_from_camera), rendered)
            for level, rendered in zip(levels, renders, strict=True)
        ]
        parts = [quadratic(*part) for part in zip(levels, pixels, renders, strict=True)]
        shares = view_shares([part.objective for part in parts])
        state = State(poses, renders, _mean(parts, shares), damping)
        path = path or [(state.poses, state.model.objective)]
        for _ in range(min(STEPS_PER_PASS, iterations + 1 - len(path))):
            step = damped_step(state.model, state.damping)
            state = _step(levels, pixels, shares, state, step, center_mm)
            path.append((state.poses, state.model.objective))
            ended = bool((step.abs() < tolerance).all())
            if ended:
                break
        poses, renders, damping = state.poses, state.renders, state.damping
    return Path(torch.stack([p for p, _ in path]), torch.stack([o for _, o in path]))


def _renders(
    levels: Sequence[Level], poses: Float[Tensor, "B 4 4"], center_mm: Float[Tensor, "3"]
) -> tuple[ImageAndJacobian, ...]:
    return tuple(drr_and_jacobian(level, poses @ level.rig_from_camera, center_mm) for level in levels)


def view_shares(objectives: Sequence[Float[Tensor, "B"]]) -> Float[Tensor, "V B"]:
    """How much each of several X-rays counts: by the inverse of its own residual's variance, the sum being 1.

    That is maximum likelihood where each X-ray has a noise of its own: a view across bones that overlap, or through
    more of the patient, fits worse and must not outvote a clear one.
    """
    precision = torch.stack(list(objectives)).clamp_min(SMALLEST_OBJECTIVE).reciprocal()
    return precision / precision.sum(dim=0)


def _mean(parts: Sequence[Quadratic], shares: Float[Tensor, "V B"]) -> Quadratic:
    """Over the X-rays: a twist of the patient moves him alike in all of them."""
    return Quadratic(
        objective=sum(share * part.objective for share, part in zip(shares, parts, strict=True)),
        gradient=sum(share[:, None] * part.gradient for share, part in zip(shares, parts, strict=True)),
        hessian=sum(share[:, None, None] * part.hessian for share, part in zip(shares, parts, strict=True)),
    )


def damped_step(model: Quadratic, damping: Float[Tensor, "B"]) -> Float[Tensor, "B P"]:
    """The twist to the minimum of the model, its diagonal raised by `damping` (Marquardt: free of units)."""
    diagonal = damping[:, None] * model.hessian.diagonal(dim1=1, dim2=2) + SMALLEST_CURVATURE
    return torch.linalg.solve(model.hessian + torch.diag_embed(diagonal), -model.gradient)


def _step(
    levels: Sequence[Level],
    pixels: Sequence[Pixels],
    shares: Float[Tensor, "V B"],
    state: State,
    step: Float[Tensor, "B 6"],
    center_mm: Float[Tensor, "3"],
) -> State:
    """Take the steps that lower the objective; the others stay, and will be damped more."""
    poses = perturb(state.poses, step, center_mm)
    renders = _renders(levels, poses, center_mm)
    model = _mean([quadratic(*part) for part in zip(levels, pixels, renders, strict=True)], shares)
    better = model.objective < state.model.objective

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return State(
        chosen(poses, state.poses),
        tuple(chosen(*pair) for pair in zip(renders, state.renders, strict=True)),
        Quadratic(
            chosen(model.objective, state.model.objective),
            chosen(model.gradient, state.model.gradient),
            chosen(model.hessian, state.model.hessian),
        ),
        (state.damping * torch.where(better, DAMPING_DOWN, DAMPING_UP)).clamp_min(LEAST_DAMPING),
    )


def register_gauss_newton(
    problems: Sequence[Problem],
    initial_pose: Float[Tensor, "4 4"],
    center_mm: Float[Tensor, "3"],
    settings: GaussNewtonSettings,
) -> Trace:
    """Minimise one minus the NCC of the locally normalised X-ray and DRR over poses.

    Args:
        problems: X-rays, the CT, and the pixels that count; several X-rays are registered jointly.
        initial_pose: `volume_from_rig`, mm; for an X-ray alone that is `volume_from_camera`.
        center_mm: centre of rotation, volume frame.
        settings: levels, tolerances.

    Returns:
        The initial pose and the iterates of all levels in turn. Each level, and each pass of it, compares other pixels,
        so that the objective may rise from one to the next; the last iterate is the result.
    """
    largest = max(max(problem.xray.shape) for problem in problems)
    sizes_px = [min(size, largest) for size in settings.levels_px]
    rotation, translation = settings.tolerance_rotation_rad, settings.tolerance_translation_mm
    tolerance = initial_pose.new_tensor([rotation] * 3 + [translation] * 3)
    paths = []
    poses = initial_pose[None]
    for size_px, sigma_px in zip(sizes_px, settings.local_sigma_px, strict=True):
        path = descend(
            [level(problem, size_px, sigma_px) for problem in problems],
            poses,
            center_mm,
            settings.iterations,
            tolerance * sizes_px[-1] / size_px,
            REWEIGHTINGS[settings.robust if paths else "none"],
        )
        paths.append(path)
        poses = path.poses[-1]
    # A level begins where the one before it ended.
    first, *others = paths
    steps = torch.cat([first.poses[:, 0], *(path.poses[1:, 0] for path in others)])
    objective = torch.cat([first.objective[:, 0], *(path.objective[1:, 0] for path in others)])
    return Trace(steps, objective, best=len(objective) - 1)
