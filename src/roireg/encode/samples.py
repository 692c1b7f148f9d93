"""Training examples of an encoder: drawn from a stored pool of DRRs, or rendered on the fly."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.images import resized
from roireg.errors import InputError
from roireg.training.drrs import EACH_BATCH, DrrPool, Synthesizer


@dataclass(frozen=True, eq=False)
class DrrSet:
    """DRRs at the size of a network, `(N, S, S)` in [0, 1], their poses, `(N, 4, 4)`, and their factors on bone.

    Images are where they were made, poses and factors on the CPU.
    """

    images: Float[Tensor, "N S S"]
    poses: Float[Tensor, "N 4 4"]
    bone_contrasts: Float[Tensor, "N"]


# Function that returns a batch for the number of an epoch and a random generator.
Draw = Callable[[int, np.random.Generator], DrrSet]


def at_size(pool: DrrPool, size_px: int) -> DrrSet:
    """A stored pool, resampled to the size of a network."""
    return DrrSet(resized(pool.images[:, None], size_px)[:, 0], pool.poses.double(), pool.bone_contrasts)


def rendered(synthesizer: Synthesizer, rng: np.random.Generator, count: int) -> DrrSet:
    """`count` new DRRs; with `contrast_per: batch` they all get the same factor on bone."""
    settings = synthesizer.settings
    shared = rng.uniform(*settings.bone_contrast) if settings.contrast_per == EACH_BATCH else None
    samples = [synthesizer.sample(rng, shared) for _ in range(count)]
    poses = torch.stack([sample.pose for sample in samples])
    contrasts = torch.tensor([sample.bone_contrast for sample in samples], dtype=torch.float64)
    return DrrSet(synthesizer.images(samples), poses, contrasts)


def draw_from_pool(pool: DrrSet, batch_size: int, epochs: int, stages: int) -> Draw:
    """Batches from a pool that grows in stages: in the s-th of n stages of equal length, the first s/n of it is used.

    Zhang et al. 2023 call this incremental learning. With one stage, the whole pool is used from the start.

    Raises:
        InputError: there are more stages than DRRs or epochs.
    """
    if stages > min(len(pool.images), epochs):
        fault = f"{stages} stages for {len(pool.images)} DRRs and {epochs} epochs"
        raise InputError("config: encoders.*.stages", fault, "Use fewer stages")

    def draw(epoch: int, rng: np.random.Generator) -> DrrSet:
        stage = min(stages, epoch * stages // epochs + 1)
        picks = rng.integers(len(pool.images) * stage // stages, size=batch_size)
        return DrrSet(pool.images[picks], pool.poses[picks], pool.bone_contrasts[picks])

    return draw


def draw_online(synthesizer: Synthesizer, batch_size: int) -> Draw:
    """Batches of DRRs that are rendered for the batch and used once."""

    def draw(epoch: int, rng: np.random.Generator) -> DrrSet:
        return rendered(synthesizer, rng, batch_size)

    return draw
