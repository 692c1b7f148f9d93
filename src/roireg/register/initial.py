"""Where an optimization starts."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry import perturb
from roireg.specimen import Specimen, Xray


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
