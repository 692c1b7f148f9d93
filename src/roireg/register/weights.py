"""Pixel weights of a method, as a function of the pose."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.drr import coverage, exclusion
from roireg.drr.weights import dilated_labels
from roireg.geometry.camera import Camera
from roireg.register.settings import WeightSettings

WeightMap = Callable[[Camera, Float[Tensor, "B 4 4"]], Float[Tensor, "B H W"]]


def weight_map(patient: Patient, settings: WeightSettings) -> WeightMap | None:
    """The product of the pixel weights that a method uses; None for equal weights.

    Raises:
        InputError: a label in `exclude` is not one of the patient's.
    """
    parts: list[WeightMap] = []
    if settings.coverage:
        parts.append(lambda camera, pose: coverage(patient.volume, camera, pose))
    if settings.exclude:
        labels = patient.label_mask(settings.exclude, "config: weights.*.exclude")
        mask = dilated_labels(labels, settings.exclude_margin_mm, patient.volume)
        parts.append(lambda camera, pose: exclusion(mask, camera, pose))
    return product(parts) if parts else None


def product(parts: Sequence[WeightMap]) -> WeightMap:
    """The product of one or more weight maps."""
    return lambda camera, pose: torch.stack([part(camera, pose) for part in parts]).prod(dim=0)
