"""Batches of augmented examples. A batch depends only on its number, so that training can be resumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from roireg.placement import sent
from roireg.seeds import generator
from roireg.segment.augment import SegmenterAugmentation, augmentation, augmented, mirrored, mirrored_numbers
from roireg.segment.examples import Examples, drawn
from roireg.training.recipe import Length, Recipe


@dataclass(frozen=True)
class SegmenterLoss:
    """Loss of a U-Net: one minus the mean Dice of background and ROIs, plus weighted cross-entropy.

    Attributes:
        squared_dice: whether masks and probabilities are squared in Dice's denominator (Milletari et al. 2016).
        cross_entropy: weight of the cross-entropy; the Dice term has weight 1.
    """

    squared_dice: bool = False
    cross_entropy: float = 1.0


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training of a segmenter."""

    recipe: Recipe
    length: Length
    batch_size: int
    augment: SegmenterAugmentation
    loss: SegmenterLoss = SegmenterLoss()


@dataclass(frozen=True)
class Fold:
    """Identity of a training, which determines its random numbers: seed, segmenter, and the specimen left out."""

    seed: int
    segmenter: str
    left_out: str

    def generator(self, *names: str) -> np.random.Generator:
        """The random generator of this fold for one purpose, given by `names`."""
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
    """A function that returns the batch of a given number."""
    transform = augmentation(settings.augment, sources[0].images.shape[-1])
    probability = settings.augment.mirror_probability
    twins = mirrored_numbers(rois) if probability > 0 else torch.arange(len(rois) + 1, dtype=torch.uint8)

    def batch(number: int) -> Batch:
        rng = fold.generator("batch", str(number))
        examples = mirrored(*drawn(sources, settings.batch_size, rng), twins, probability, rng)
        images, numbers = augmented(transform, *examples, rng)
        return Batch(sent(images, device), numbers, rng)

    return batch
