"""A start without a network: random poses around `T_PA` are scored at low resolution, and the best are refined."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.poses import perturb
from roireg.register.gauss_newton import REWEIGHTINGS, descend
from roireg.register.levels import Level, Problem, level
from roireg.register.quadratic import objective
from roireg.register.settings import MultiStartSettings

# Large tolerances: a start only has to be in the basin of attraction of the optimum.
TOLERANCE = (2e-3, 2e-3, 2e-3, 0.4, 0.4, 0.4)


def multi_start(
    problems: Sequence[Problem],
    pa_pose: Float[Tensor, "4 4"],
    center_mm: Float[Tensor, "3"],
    settings: MultiStartSettings,
    rng: np.random.Generator,
    along_mm: Float[Tensor, "3"] | None = None,
) -> Float[Tensor, "4 4"]:
    """The best of many random poses, `volume_from_rig`, mm.

    Args:
        problems: X-rays with the CT and pixel weights; several X-rays are registered jointly.
        pa_pose: expected pose `volume_from_rig` (mm), around which poses are drawn, such as `T_PA`.
        center_mm: centre of rotation, volume frame.
        settings: numbers of poses, and standard deviations.
        rng: random generator.
        along_mm: starts are also spread evenly from minus this vector to it, volume frame: along a long CT.
    """
    sd = np.repeat([np.deg2rad(settings.rotation_sd_deg), settings.translation_sd_mm], 3)
    twists = torch.from_numpy(rng.normal(size=(settings.starts, 6)) * sd)
    if along_mm is not None and bool(along_mm.any()):
        twists[:, 3:] += torch.from_numpy(rng.uniform(-1, 1, size=(settings.starts, 1))) * along_mm
    coarse = [level(problem, settings.size_px, settings.local_sigma_px) for problem in problems]
    poses = perturb(pa_pose.expand(settings.starts, 4, 4), twists, center_mm)
    kept = poses[mean_objective(coarse, poses).argsort()[: settings.keep]]
    path = descend(coarse, kept, center_mm, settings.iterations, kept.new_tensor(TOLERANCE), REWEIGHTINGS["none"])
    # The objective is evaluated with the pixel weights of each pose, so that it includes the penalty on coverage.
    return path.poses[-1][mean_objective(coarse, path.poses[-1]).argmin()]


def mean_objective(levels: Sequence[Level], poses: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B"]:
    """Mean objective over the X-rays, at B poses `volume_from_rig`."""
    return torch.stack([objective(level, poses @ level.rig_from_camera) for level in levels]).mean(dim=0)
