"""Where an optimization starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.results import Estimate
from roireg.data.specimen import Specimen, Xray
from roireg.geometry.poses import perturb
from roireg.register.levels import Problem
from roireg.register.multi_start import MultiStartSettings, multi_start


@dataclass(frozen=True)
class PaSettings:
    """`T_PA` has none."""


@dataclass(frozen=True)
class PerturbationSettings:
    """Spread of perturbed starts, per axis."""

    rotation_sd_deg: float
    translation_sd_mm: float


def pa_start(specimen: Specimen) -> Float[Tensor, "4 4"]:
    """`T_PA`: nothing is known but that the view is posterior-anterior."""
    return specimen.pa_pose


def perturbed_start(
    specimen: Specimen, xray: Xray, settings: PerturbationSettings, rng: np.random.Generator
) -> Float[Tensor, "4 4"]:
    """The TRUTH, perturbed about the isocentre by normal deviates: a probe of the capture range, not a method."""
    twist = rng.normal(size=6) * np.repeat([np.deg2rad(settings.rotation_sd_deg), settings.translation_sd_mm], 3)
    return perturb(xray.pose, torch.from_numpy(twist), specimen.isocenter_mm)


@dataclass(frozen=True)
class EncoderSettings:
    """Poses that a trained encoder read from the X-rays.

    Attributes:
        encoder: its name.
        estimates: by the X-ray's name.
    """

    encoder: str
    estimates: Mapping[str, Estimate] = field(default_factory=dict, repr=False)


StartSettings = PaSettings | PerturbationSettings | MultiStartSettings | EncoderSettings
STARTS: dict[type, Callable[..., Float[Tensor, "4 4"]]] = {
    PaSettings: lambda specimen, xray, problem, settings, rng: pa_start(specimen),
    PerturbationSettings: lambda specimen, xray, problem, settings, rng: perturbed_start(specimen, xray, settings, rng),
    MultiStartSettings: lambda specimen, xray, problem, settings, rng: multi_start(
        [problem], specimen.pa_pose, specimen.isocenter_mm, settings, rng
    ),
    EncoderSettings: lambda specimen, xray, problem, settings, rng: settings.estimates[xray.name].pose,
}


def start_pose(
    specimen: Specimen, xray: Xray, problem: Problem, settings: StartSettings, rng: np.random.Generator
) -> Float[Tensor, "4 4"]:
    """The initial pose of one X-ray's registration, by the kind of start that the settings describe."""
    return STARTS[type(settings)](specimen, xray, problem, settings, rng)


def seconds_before(xray: Xray, settings: StartSettings) -> float:
    """What finding the start took before the registration began: an encoder's time, nothing otherwise."""
    return settings.estimates[xray.name].seconds if isinstance(settings, EncoderSettings) else 0.0
