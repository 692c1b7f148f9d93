"""Gauss-Newton on the poses of several bones together, each rendered under its own pose, the shadows summed.

The objective and its model are those of `roireg.register.quadratic`, with six columns for each bone. Pixels count by
how near they are to any of the bones at the poses of a pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.drr import render
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert, se3_log, translation
from roireg.register.bone import Bone, rays_near
from roireg.register.gauss_newton import (
    DAMPING_DOWN,
    DAMPING_UP,
    FIRST_DAMPING,
    LEAST_DAMPING,
    STEPS_PER_PASS,
    damped_step,
    view_weights,
)
from roireg.register.levels import Level
from roireg.register.quadratic import (
    Pixels,
    Quadratic,
    drr_and_jacobian,
    no_contrast_penalty,
    normalised,
    pixels_of,
    quadratic,
    without_outliers,
)

# Residuals within a block of so many pixels a side go together.
BLOCK_PX = 16
# Showing less than this share of what the bones showed at the start is charged.
LEAST_SHOWN = 0.6


@dataclass(frozen=True, eq=False)
class Prior:
    """Where the bones are expected: poses `volume_from_rig` (mm), and standard deviations in rad and mm about them.

    It counts as much as an observation does: as one of the blocks of pixels that are told apart in an X-ray, whose
    residual's variance is that of the images. Where X-rays see a direction well it changes nothing; along a single
    view's central ray it keeps a small bone from running away.
    """

    poses: Float[Tensor, "K 4 4"]
    rotation_sd_rad: float
    translation_sd_mm: float

    def twists(self, bones: Sequence[Bone], poses: Float[Tensor, "B K 4 4"]) -> Float[Tensor, "B P"]:
        """From the expected poses to these, in standard deviations."""
        parts = []
        for k, bone in enumerate(bones):
            there = translation(-bone.center_mm) @ poses[:, k] @ invert(self.poses[k]) @ translation(bone.center_mm)
            parts.append(se3_log(there) / self.sd)
        return torch.cat(parts, dim=1)

    @property
    def sd(self) -> Float[Tensor, "6"]:
        """Of the twist of one bone."""
        return torch.tensor([self.rotation_sd_rad] * 3 + [self.translation_sd_mm] * 3, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class BonesLevel:
    """One X-ray at one resolution.

    Attributes:
        levels: for each bone; they differ in their volumes only.
        bones: what counts.
        margin_mm: of the rays that count.
        reference_weight: mean weight of the pixels at the start, to which that at other poses is compared.
    """

    levels: tuple[Level, ...]
    bones: tuple[Bone, ...]
    margin_mm: float
    reference_weight: float

    def poses_seen(self, poses: Float[Tensor, "B K 4 4"]) -> Float[Tensor, "B K 4 4"]:
        """`volume_from_camera` from `volume_from_rig`, mm."""
        return poses @ self.levels[0].rig_from_camera

    def weight(self, poses: Float[Tensor, "B K 4 4"]) -> Float[Tensor, "B 1 H W"]:
        """Of pixels near any of the bones."""
        seen, camera = self.poses_seen(poses), self.levels[0].camera
        near = [rays_near(bone, camera, seen[:, k], self.margin_mm) for k, bone in enumerate(self.bones)]
        return torch.stack(near).amax(dim=0)[:, None].to(self.levels[0].fixed)

    def pixels(self, poses: Float[Tensor, "B K 4 4"]) -> Pixels:
        """Those that count at the poses."""
        weight = self.weight(poses)
        shown = weight.mean(dim=(1, 2, 3)) / max(self.reference_weight, 1e-9)
        return pixels_of(self.levels[0], weight, (1 - shown / LEAST_SHOWN).clamp_min(0).double())

    def image(self, poses: Float[Tensor, "B K 4 4"]) -> Float[Tensor, "B 1 H W"]:
        """The sum of the bones' shadows."""
        seen = self.poses_seen(poses)
        parts = [render(one.volume, one.camera, seen[:, k], one.step_mm) for k, one in enumerate(self.levels)]
        return torch.stack(parts).sum(dim=0)[:, None]

    def image_and_jacobian(self, poses: Float[Tensor, "B K 4 4"]) -> Float[Tensor, "B C H W"]:
        """That sum, and its derivatives to the six parameters of each bone in turn."""
        seen = self.poses_seen(poses)
        parts = [drr_and_jacobian(one, seen[:, k], self.bones[k].center_mm) for k, one in enumerate(self.levels)]
        total = torch.stack([part[:, :1] for part in parts]).sum(dim=0)
        return torch.cat([total, *(part[:, 1:] for part in parts)], dim=1)


def referenced(level: BonesLevel, poses: Float[Tensor, "K 4 4"]) -> BonesLevel:
    """The level, with the weight of its pixels at the start's poses `volume_from_rig` noted."""
    return replace(level, reference_weight=float(level.weight(poses[None]).mean()))


def bones_objective(levels: Sequence[BonesLevel], poses: Float[Tensor, "B K 4 4"]) -> Float[Tensor, "B"]:
    """One minus NCC on the pixels that count at B sets of poses `volume_from_rig`, the mean over the X-rays."""
    costs = []
    for level in levels:
        pixels = level.pixels(poses)
        image = normalised(level.image(poses), pixels.weight, pixels.fraction, pixels.mass, level.levels[0])
        squares = (pixels.fraction * (image - pixels.fixed).square()).sum(dim=(1, 2, 3)).double()
        costs.append(squares / 2 + no_contrast_penalty(image, pixels) + pixels.coverage_penalty)
    return torch.stack(costs).mean(dim=0)


def moved(bones: Sequence[Bone], poses: Float[Tensor, "B K 4 4"], step: Float[Tensor, "B P"]) -> Tensor:
    """Poses after a twist (rad, mm) of each bone about its centre, six parameters for each in turn."""
    twists = step.reshape(len(step), len(bones), 6)
    return torch.stack([perturb(poses[:, k], twists[:, k], one.center_mm) for k, one in enumerate(bones)], dim=1)


def descend_bones(
    levels: Sequence[BonesLevel],
    poses: Float[Tensor, "B K 4 4"],
    iterations: int,
    tolerance: tuple[float, float],
    robust: bool,
    prior: Prior,
) -> Float[Tensor, "B K 4 4"]:
    """Minimise the objective at one resolution from B sets of poses `volume_from_rig` at once.

    Args:
        levels: of the X-rays.
        poses: starts, mm.
        iterations: most steps.
        tolerance: rad and mm; the descent ends when no entry of any step exceeds it.
        robust: pixels that differ far more than most lose their weight.
        prior: where bones are expected.
    """
    bones = levels[0].bones
    limit = poses.new_tensor(([tolerance[0]] * 3 + [tolerance[1]] * 3) * len(bones))
    damping = torch.full((len(poses),), FIRST_DAMPING, dtype=torch.float64)
    renders = [level.image_and_jacobian(poses) for level in levels]
    taken, ended = 0, False
    while not ended and taken < iterations:
        pixels = []
        for level, rendered in zip(levels, renders, strict=True):
            own = level.pixels(poses)
            pixels.append(without_outliers(level.levels[0], own, rendered) if robust else own)
        parts = _parts(levels, pixels, renders)
        shares = view_weights([part.objective for part in parts])
        weight = prior_weight(pixels, [part.objective for part in parts], shares)
        model = _with_prior(_mean(parts, shares), prior, bones, poses, weight)
        for _ in range(min(STEPS_PER_PASS, iterations - taken)):
            step = damped_step(model, damping)
            tried = moved(bones, poses, step)
            new = [level.image_and_jacobian(tried) for level in levels]
            other = _with_prior(_mean(_parts(levels, pixels, new), shares), prior, bones, tried, weight)
            better = other.objective < model.objective
            poses = _chosen(better, tried, poses)
            renders = [_chosen(better, one, old) for one, old in zip(new, renders, strict=True)]
            model = Quadratic(
                _chosen(better, other.objective, model.objective),
                _chosen(better, other.gradient, model.gradient),
                _chosen(better, other.hessian, model.hessian),
            )
            damping = (damping * torch.where(better, DAMPING_DOWN, DAMPING_UP)).clamp_min(LEAST_DAMPING)
            taken += 1
            ended = bool((step.abs() < limit).all())
            if ended:
                break
    return poses


def _parts(levels: Sequence[BonesLevel], pixels: Sequence[Pixels], renders: Sequence[Tensor]) -> list[Quadratic]:
    return [quadratic(one.levels[0], p, r) for one, p, r in zip(levels, pixels, renders, strict=True)]


def _mean(parts: Sequence[Quadratic], shares: Float[Tensor, "V B"]) -> Quadratic:
    weighted = list(zip(shares, parts, strict=True))
    return Quadratic(
        torch.stack([share * part.objective for share, part in weighted]).sum(dim=0),
        torch.stack([share[:, None] * part.gradient for share, part in weighted]).sum(dim=0),
        torch.stack([share[:, None, None] * part.hessian for share, part in weighted]).sum(dim=0),
    )


def prior_weight(
    pixels: Sequence[Pixels], objectives: Sequence[Float[Tensor, "B"]], shares: Float[Tensor, "V B"]
) -> Float[Tensor, "B"]:
    """What a deviation of the prior by one standard deviation costs, in the unit of the objective.

    A sum of squares of N residuals of variance v is to a mean of them as v / N is to 1.
    """
    parts = []
    for one, objective, share in zip(pixels, objectives, shares, strict=True):
        blocks = (1 / one.fraction.square().sum(dim=(1, 2, 3)).clamp_min(1e-12)).double() / BLOCK_PX**2
        parts.append(share * 2 * objective.clamp_min(1e-4) / blocks.clamp_min(1.0))
    return torch.stack(parts).mean(dim=0)


def _with_prior(
    model: Quadratic, prior: Prior, bones: Sequence[Bone], poses: Float[Tensor, "B K 4 4"], weight: Float[Tensor, "B"]
) -> Quadratic:
    twists, sd = prior.twists(bones, poses), prior.sd.repeat(len(bones))
    return Quadratic(
        model.objective + 0.5 * weight * twists.square().sum(dim=1),
        model.gradient + weight[:, None] * twists / sd,
        model.hessian + weight[:, None, None] * torch.diag(sd.reciprocal().square()),
    )


def _chosen(better: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
