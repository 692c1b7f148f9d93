"""The weight map of a method: which pixels count at a given pose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.drr import coverage, exclusion
from roireg.drr.weights import dilated_labels
from roireg.geometry import Camera
from roireg.specimen import Specimen

WeightMap = Callable[[Camera, Float[Tensor, "B 4 4"]], Float[Tensor, "B H W"]]


@dataclass(frozen=True)
class WeightSettings:
    """What a method leaves out: rays past the CT's ends; rays within `exclude_margin_mm` of the labels in `exclude`."""

    coverage: bool
    exclude: tuple[str, ...]
    exclude_margin_mm: float


def weight_map(specimen: Specimen, settings: WeightSettings) -> WeightMap | None:
    """The product of the weights that a method asks for; None where every pixel counts.

    Raises:
        InputError: a label in `exclude` is not one of the specimen's.
    """
    parts: list[WeightMap] = []
    if settings.coverage:
        parts.append(lambda camera, pose: coverage(specimen.volume, camera, pose))
    if settings.exclude:
        labels = specimen.label_mask(settings.exclude, "config: methods.*.weights.exclude")
        mask = dilated_labels(labels, settings.exclude_margin_mm, specimen.volume)
        parts.append(lambda camera, pose: exclusion(mask, camera, pose))
    return product(parts) if parts else None


def product(parts: Sequence[WeightMap]) -> WeightMap:
    """The product of weight maps, one at least."""
    return lambda camera, pose: torch.stack([part(camera, pose) for part in parts]).prod(dim=0)
