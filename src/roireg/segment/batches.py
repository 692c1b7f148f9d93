"""Batches of augmented examples, each a function of its number alone, so that training can be resumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from roireg.seeds import generator
from roireg.segment.augment import SegmenterAugmentation, augmentation, augmented, mirrored, mirrored_numbers
from roireg.segment.examples import Examples, drawn
from roireg.training.loop import Length, Recipe


@dataclass(frozen=True)
class SegmenterLoss:
    """What a U-Net minimises: one minus the mean Dice of background and ROIs, plus cross-entropy.

    Attributes:
        squared_dice: whether masks and probabilities are squared in the Dice's denominators (Milletari et al. 2016).
        cross_entropy: its weight beside the Dice's 1.
    """

    squared_dice: bool = False
    cross_entropy: float = 1.0


@dataclass(frozen=True)
class TrainingSettings:
    """How a segmenter is trained."""

    recipe: Recipe
    length: Length
    batch_size: int
    augment: SegmenterAugmentation
    loss: SegmenterLoss = SegmenterLoss()


@dataclass(frozen=True)
class Fold:
    """What random numbers depend on: the config's seed, the segmenter, and the specimen that is left out."""

    seed: int
    segmenter: str
    left_out: str

    def generator(self, *names: str) -> np.random.Generator:
        """A generator for one purpose in this fold."""
        return generator(self.seed, self.segmenter, self.left_out, *names)


@dataclass(frozen=True, eq=False)
class Batch:
    """`(B, H, W)` images in [0, 1] on the device, ROI numbers on the CPU, and a generator for what else is random."""

    images: Float[Tensor, "B H W"]
    rois: UInt8[Tensor, "B H W"]
    rng: np.random.Generator


def batches(
    sources: Sequence[Examples], rois: Sequence[str], settings: TrainingSettings, fold: Fold, device: torch.device
) -> Callable[[int], Batch]:
    """A function from the number of a batch to the batch."""
    transform = augmentation(settings.augment, sources[0].images.shape[-1])
    probability = settings.augment.mirror_probability
    twins = mirrored_numbers(rois) if probability > 0 else torch.arange(len(rois) + 1, dtype=torch.uint8)

    def batch(number: int) -> Batch:
        rng = fold.generator("batch", str(number))
        examples = mirrored(*drawn(sources, settings.batch_size, rng), twins, probability, rng)
        images, numbers = augmented(transform, *examples, rng)
        return Batch(images.to(device), numbers, rng)

    return batch
