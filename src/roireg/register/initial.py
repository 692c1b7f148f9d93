"""An initial pose at a known distance from the truth, to test optimizers."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.geometry.poses import perturb
from roireg.register.settings import PerturbationSettings


def perturbed_start(
    patient: Patient, xray: Xray, settings: PerturbationSettings, rng: np.random.Generator
) -> Float[Tensor, "4 4"]:
    """The TRUE pose with a normally distributed perturbation about the isocentre; for measuring capture ranges only."""
    twist = rng.normal(size=6) * np.repeat([np.deg2rad(settings.rotation_sd_deg), settings.translation_sd_mm], 3)
    return perturb(xray.true_pose, torch.from_numpy(twist), patient.center_mm)
