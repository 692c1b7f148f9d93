"""Does a pose hold? It is kicked a little, to several sides, and registered again from there.

A registration that began far away may have come to rest in a valley beside the right one, with images that agree
nearly as well. Seen from the valley alone nothing tells; from a little outside, some descents end elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.geometry.camera import Camera, project
from roireg.geometry.poses import camera_twist, perturb
from roireg.register.gauss_newton import REWEIGHTINGS, descend
from roireg.register.levels import Level, Problem, level
from roireg.register.multi_start import mean_objective

# Sizes of the images and windows of their normalisation, coarse to fine.
COARSE, FINE = (64, 8.0), (128, 5.0)
ITERATIONS = 12
TOLERANCE = (1e-3, 1e-3, 1e-3, 0.2, 0.2, 0.2)
# Along the axes of the first X-ray's camera. Depth is what one view confounds, so kicks go farther there.
TURN_DEG, SHIFT_MM, DEPTH_MM = 3.0, 5.0, 12.0
# Rows are kicks; columns turn about and move along x, y, z. Each parameter goes both ways equally often.
SIGNS = (
    (1, 1, 1, 1, 1, 1),
    (-1, 1, -1, 1, -1, -1),
    (1, -1, -1, -1, 1, -1),
    (-1, -1, 1, -1, -1, 1),
    (1, 1, -1, -1, -1, 1),
    (-1, -1, 1, 1, 1, -1),
)
# On the detector: what lies nearer is the same place.
SAME_PLACE_MM = 2.0


@dataclass(frozen=True, eq=False)
class Kicked:
    """What came of the kicks.

    Attributes:
        held: share of the kicks after which the registration came back.
        rival: the best of the other places where they ended, `volume_from_rig` (mm), or None.
        rival_mm: how far on the detector it moves bone's shadows, the mean over points; 0 without a rival.
        rival_gain: NCC at the rival less that at the pose, both after a descent at the same size; -1 without a rival.
    """

    held: float
    rival: Float[Tensor, "4 4"] | None
    rival_mm: float
    rival_gain: float


def kick(
    patient: Patient,
    cameras: Sequence[Camera],
    problems: Sequence[Problem],
    rig_pose: Float[Tensor, "4 4"],
    points_mm: Float[Tensor, "N 3"],
) -> Kicked:
    """Register again from six poses around one.

    Args:
        patient: the CT.
        cameras: of the X-rays, as large as they are stored.
        problems: theirs, on the CPU.
        rig_pose: `volume_from_rig`, mm.
        points_mm: of bone, volume frame.
    """
    step = torch.tensor([math.radians(TURN_DEG)] * 3 + [SHIFT_MM, SHIFT_MM, DEPTH_MM], dtype=torch.float64)
    along_camera = torch.tensor(SIGNS, dtype=torch.float64) * step
    twists = camera_twist(along_camera, rig_pose @ problems[0].rig_from_camera)
    starts = perturb(rig_pose.expand(len(twists), 4, 4), twists, patient.center_mm)
    coarse = _levels(problems, *COARSE)
    # The pose itself descends too, so that all are compared at rest.
    ends = _descended(coarse, torch.cat([rig_pose[None], starts]), patient.center_mm)
    apart = shadow_distance_mm(cameras, problems, ends[:1], ends, points_mm)
    away = (apart > SAME_PLACE_MM).nonzero().flatten()
    held = 1 - len(away) / len(starts)
    if len(away) == 0:
        return Kicked(held, None, 0.0, -1.0)
    best = away[mean_objective(coarse, ends[away]).argmin()]
    fine = _levels(problems, *FINE)
    pair = _descended(fine, torch.stack([rig_pose, ends[best]]), patient.center_mm)
    rival_mm = float(shadow_distance_mm(cameras, problems, pair[:1], pair[1:], points_mm))
    own, other = mean_objective(fine, pair).tolist()
    if rival_mm <= SAME_PLACE_MM:
        return Kicked(held + 1 / len(starts), None, 0.0, -1.0)
    return Kicked(held, pair[1], rival_mm, own - other)


def _levels(problems: Sequence[Problem], size_px: int, sigma_px: float) -> list[Level]:
    return [level(problem, size_px, sigma_px) for problem in problems]


def _descended(levels: Sequence[Level], poses: Float[Tensor, "B 4 4"], center_mm: Tensor) -> Float[Tensor, "B 4 4"]:
    path = descend(levels, poses, center_mm, ITERATIONS, poses.new_tensor(TOLERANCE), REWEIGHTINGS["tukey"])
    return path.poses[-1]


def shadow_distance_mm(
    cameras: Sequence[Camera],
    problems: Sequence[Problem],
    one: Float[Tensor, "A 4 4"],
    other: Float[Tensor, "B 4 4"],
    points_mm: Float[Tensor, "N 3"],
) -> Float[Tensor, "B"]:
    """Mean distance on the detector of the points' shadows under poses `volume_from_rig`: the largest of the X-rays."""
    apart = []
    for camera, problem in zip(cameras, problems, strict=True):
        shadows = [project(points_mm, camera, poses @ problem.rig_from_camera) for poses in (one, other)]
        apart.append(((shadows[0] - shadows[1]) * shadows[0].new_tensor(camera.pixel_spacing_mm)).norm(dim=-1).mean(-1))
    return torch.stack(apart).amax(dim=0)
