"""The weight map of a method: which pixels count at a given pose."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from roireg.data.volume import Volume
from roireg.drr import coverage, exclusion
from roireg.drr.weights import dilated_labels
from roireg.geometry.camera import Camera
from roireg.register.settings import WeightSettings

WeightMap = Callable[[Camera, Float[Tensor, "B 4 4"]], Float[Tensor, "B H W"]]


class Labelled(Protocol):
    """What weights are made of: a CT and its labels."""

    @property
    def volume(self) -> Volume: ...

    def label_mask(self, names: Iterable[str], key: str = "label") -> Bool[Tensor, "D H W"]:
        """Voxels of any of the named labels; `key` says who asks."""
        ...


def weight_map(specimen: Labelled, settings: WeightSettings) -> WeightMap | None:
    """The product of the weights that a method asks for; None where every pixel counts.

    Raises:
        InputError: a label in `exclude` is not one of the specimen's.
    """
    parts: list[WeightMap] = []
    if settings.coverage:
        parts.append(lambda camera, pose: coverage(specimen.volume, camera, pose))
    if settings.exclude:
        labels = specimen.label_mask(settings.exclude, "config: weights.*.exclude")
        mask = dilated_labels(labels, settings.exclude_margin_mm, specimen.volume)
        parts.append(lambda camera, pose: exclusion(mask, camera, pose))
    return product(parts) if parts else None


def product(parts: Sequence[WeightMap]) -> WeightMap:
    """The product of weight maps, one at least."""
    return lambda camera, pose: torch.stack([part(camera, pose) for part in parts]).prod(dim=0)
