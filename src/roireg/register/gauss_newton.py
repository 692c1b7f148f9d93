"""Gauss-Newton on the weighted NCC of locally normalised images, coarse to fine, with Levenberg-Marquardt damping."""

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

# Number of steps with constant pixel weights; then the weights are updated.
STEPS_PER_PASS = 2
FIRST_DAMPING, LEAST_DAMPING, DAMPING_DOWN, DAMPING_UP = 1e-1, 1e-3, 0.1, 10.0
SMALLEST_CURVATURE = 1e-12
SMALLEST_OBJECTIVE = 1e-4

# Function that updates the pixels' weights from the residual at the start of a pass.
Reweighting = Callable[[Level, Pixels, ImageAndJacobian], Pixels]
REWEIGHTINGS: dict[str, Reweighting] = {"none": lambda level, pixels, rendered: pixels, "tukey": without_outliers}


@dataclass(frozen=True, eq=False)
class State:
    """State of B descents: poses, DRRs with their derivatives, the quadratic model of the objective, and damping."""

    poses: Float[Tensor, "B 4 4"]
    renders: tuple[ImageAndJacobian, ...]
    model: Quadratic
    damping: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class Path:
    """Iterates of B descents: initial poses and poses after each step, and the objective at each of them."""

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
    """Minimise the objective at one resolution level, from B initial poses at once.

    Pixel weights depend on the pose, so the objective would jump whenever a pixel's weight changes. Therefore a pass
    makes a few steps with the weights of its first pose: the objective never rises within a pass, and a step cannot
    lower it by hiding pixels. The next pass updates the weights.

    Args:
        levels: the X-rays at one resolution; the objective is their mean, weighted by `view_weights`. Everything that
            has an image's size is computed on their device, which is waited for once for each step.
        poses: initial poses, `volume_from_rig`, mm, on the CPU.
        center_mm: centre of rotation, volume frame.
        iterations: largest number of steps.
        tolerance: rad and mm; the descent ends when no entry of any step exceeds it.
        reweighting: updates the pixels' weights from the residual at the start of a pass.

    Returns:
        The iterates, on the CPU.
    """
    renders = _renders(levels, poses, center_mm)
    device = levels[0].fixed.device
    poses, center = poses.to(device), center_mm.to(device)
    rigs = [level.rig_from_camera.to(device) for level in levels]
    damping = torch.full((len(poses),), FIRST_DAMPING, dtype=torch.float64, device=device)
    path: list[tuple[Tensor, Tensor]] = []
    ended = False
    while not ended and len(path) <= iterations:
        pixels = [
            reweighting(level, pixels_at(level, poses @ rig_from_camera), rendered)
            for level, rig_from_camera, rendered in zip(levels, rigs, renders, strict=True)
        ]
        parts = [quadratic(*part) for part in zip(levels, pixels, renders, strict=True)]
        weights = view_weights([part.objective for part in parts])
        state = State(poses, renders, _mean(parts, weights), damping)
        path = path or [(state.poses, state.model.objective)]
        for _ in range(min(STEPS_PER_PASS, iterations + 1 - len(path))):
            step = damped_step(state.model, state.damping)
            trial = perturb(state.poses, step, center)
            # The only read of a step: the renderer takes poses from the CPU.
            seen = torch.cat([trial.flatten(1), step], dim=1).cpu()
            trial_renders = _renders(levels, seen[:, :16].reshape(-1, 4, 4), center_mm)
            state = _step(levels, pixels, weights, state, trial, trial_renders)
            path.append((state.poses, state.model.objective))
            ended = bool((seen[:, 16:].abs() < tolerance).all())
            if ended:
                break
        poses, renders, damping = state.poses, state.renders, state.damping
    return Path(torch.stack([p for p, _ in path]).cpu(), torch.stack([o for _, o in path]).cpu())


def _renders(
    levels: Sequence[Level], poses: Float[Tensor, "B 4 4"], center_mm: Float[Tensor, "3"]
) -> tuple[ImageAndJacobian, ...]:
    """The DRR and its derivative at each X-ray's pose; poses and centre are on the CPU."""
    return tuple(drr_and_jacobian(level, poses @ level.rig_from_camera, center_mm) for level in levels)


def view_weights(objectives: Sequence[Float[Tensor, "B"]]) -> Float[Tensor, "V B"]:
    """Weights of several X-rays, proportional to the inverse variance of their residuals, with sum 1.

    This is maximum likelihood if each X-ray has its own noise level: an X-ray with overlapping bones, or through more
    of the patient, fits worse and must not dominate a clear one.
    """
    precision = torch.stack(list(objectives)).clamp_min(SMALLEST_OBJECTIVE).reciprocal()
    return precision / precision.sum(dim=0)


def _mean(parts: Sequence[Quadratic], weights: Float[Tensor, "V B"]) -> Quadratic:
    """Weighted mean of the models of several X-rays; a twist of the patient is common to all of them."""
    return Quadratic(
        objective=sum(weight * part.objective for weight, part in zip(weights, parts, strict=True)),
        gradient=sum(weight[:, None] * part.gradient for weight, part in zip(weights, parts, strict=True)),
        hessian=sum(weight[:, None, None] * part.hessian for weight, part in zip(weights, parts, strict=True)),
    )


def damped_step(model: Quadratic, damping: Float[Tensor, "B"]) -> Float[Tensor, "B P"]:
    """The twist that minimises the model after its diagonal is scaled by 1 + `damping` (Marquardt; unit-free)."""
    diagonal = damping[:, None] * model.hessian.diagonal(dim1=1, dim2=2) + SMALLEST_CURVATURE
    # Not `solve`, which waits for the device to look for singular matrices; the damping leaves none.
    return torch.linalg.solve_ex(model.hessian + torch.diag_embed(diagonal), -model.gradient)[0]


def _step(
    levels: Sequence[Level],
    pixels: Sequence[Pixels],
    weights: Float[Tensor, "V B"],
    state: State,
    poses: Float[Tensor, "B 4 4"],
    renders: Sequence[ImageAndJacobian],
) -> State:
    """Accept those of the new poses that lower the objective; reject the others, and increase their damping."""
    model = _mean([quadratic(*part) for part in zip(levels, pixels, renders, strict=True)], weights)
    better = model.objective < state.model.objective

    def accepted(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return State(
        accepted(poses, state.poses),
        tuple(accepted(*pair) for pair in zip(renders, state.renders, strict=True)),
        Quadratic(
            accepted(model.objective, state.model.objective),
            accepted(model.gradient, state.model.gradient),
            accepted(model.hessian, state.model.hessian),
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
        problems: X-rays with the CT and pixel weights; several X-rays are registered jointly, on the device of the CT.
        initial_pose: `volume_from_rig`, mm, on the CPU; for a single X-ray the rig may be its camera.
        center_mm: centre of rotation, volume frame.
        settings: levels and tolerances.

    Returns:
        The initial pose and the iterates of all levels, on the CPU. The last iterate is the result. The objective may
        rise between levels and between passes, because they compare different pixels.
    """
    largest = max(max(problem.xray.shape) for problem in problems)
    sizes_px = [min(size, largest) for size in settings.levels_px]
    rotation, translation = settings.tolerance_rotation_rad, settings.tolerance_translation_mm
    tolerance = initial_pose.new_tensor([rotation] * 3 + [translation] * 3)
    paths: list[Path] = []
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
    # The first pose of a level is the last one of the level before; keep it once.
    first, *others = paths
    steps = torch.cat([first.poses[:, 0], *(path.poses[1:, 0] for path in others)])
    objective = torch.cat([first.objective[:, 0], *(path.objective[1:, 0] for path in others)])
    return Trace(steps, objective, best=len(objective) - 1)
