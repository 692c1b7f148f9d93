"""What the images alone say of the poses of bones: NCC near each, predicted standard deviations, and a verdict.

The covariance is that of `roireg.register.uncertainty`, with the prior's information, and two things more: what a
shift of all edges by a fraction of a voxel would do (the CT's blur, the beam's hardening and the threshold of a label
move them alike: to a single view that is a change of depth), and how far apart small kicks end that fit nearly as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.xray import Xray
from roireg.geometry.se3 import invert, se3_log, transform_points, translation
from roireg.register.bone import Bone, depth_mm
from roireg.register.bone_descent import (
    BLOCK_PX,
    BonesLevel,
    Prior,
    bones_objective,
    descend_bones,
    moved,
    prior_weight,
)
from roireg.register.bone_registration import BoneSettings, FoundBones
from roireg.register.gauss_newton import view_weights
from roireg.register.kicks import SIGNS
from roireg.register.quadratic import normalised, without_outliers
from roireg.register.uncertainty import INFLATION, Spread, spread
from roireg.register.verdict import Grade, Verdict

# By how much edges may be displaced alike, in voxels of the CT.
EDGE_VOXELS = 0.15
# Kicks: along each axis.
KICK_DEG, KICK_MM = 2.0, 2.0
# Ends that cost no more than this share of the residual above the best fit as well.
AS_GOOD = 0.05
# Mean distance of points; in the direction that X-rays see.
SAME_PLACE_MM = 1.0
TRUSTED_NCC, FAILED_NCC = 0.5, 0.3
TRUSTED_SD_MM, FAILED_SD_MM = 0.5, 1.5
LEAST_HELD = 0.5
LEAST_SHOWN = 0.5
BEYOND_PRIOR = 3.0


@dataclass(frozen=True, eq=False)
class BoneInView:
    """A bone in one X-ray: pose `volume_from_camera` (mm), NCC of the pixels near it, predicted standard deviations."""

    xray: Xray
    pose: Float[Tensor, "4 4"]
    ncc: float
    spread: Spread


@dataclass(frozen=True, eq=False)
class BoneResult:
    """A bone's pose `volume_from_rig` (mm), how it looks in each X-ray, whether to trust it, and the evidence.

    Attributes:
        held: share of small kicks after which it came back.
        shown: share of what it showed at the start that lies in the pictures.
        from_start: in standard deviations of what the start was taken to be right to, the largest of six.
    """

    bone: Bone
    rig_pose: Float[Tensor, "4 4"]
    views: tuple[BoneInView, ...]
    covariance: Float[Tensor, "6 6"]
    held: float
    shown: float
    from_start: float
    verdict: Verdict


def judged_bones(
    found: FoundBones, xrays: Sequence[Xray], prior: Prior, settings: BoneSettings
) -> tuple[BoneResult, ...]:
    """Judge the poses of bones, each by the pixels near it."""
    levels = found.finest
    bones = levels[0].bones
    full = _covariance(levels, found.poses, prior)
    held, ends, costs = _kicked(levels, found.poses, prior, settings)
    results = []
    for k, bone in enumerate(bones):
        own = slice(6 * k, 6 * k + 6)
        covariance = full[own, own] + _scatter_of_ends(bone, found.poses[k], ends[:, k], costs)
        views = tuple(
            _in_view(level, xray, bone, k, found.poses, covariance) for level, xray in zip(levels, xrays, strict=True)
        )
        shown = min(float(level.weight(found.poses[None]).mean()) / level.reference_weight for level in levels)
        from_start = float(prior.twists(bones, found.poses[None])[0, own].abs().max())
        verdict = _verdict(views, held[k], shown, from_start)
        results.append(BoneResult(bone, found.poses[k], views, covariance, held[k], shown, from_start, verdict))
    return tuple(results)


def _in_view(
    level: BonesLevel, xray: Xray, bone: Bone, k: int, poses: Float[Tensor, "K 4 4"], covariance: Float[Tensor, "6 6"]
) -> BoneInView:
    alone = BonesLevel((level.levels[k],), (bone,), level.margin_mm, level.reference_weight)
    near = alone.pixels(poses[None, k : k + 1])
    image = normalised(level.image(poses[None]), near.weight, near.fraction, near.mass, level.levels[0])
    ncc = float((near.fraction * image * near.fixed).sum())
    pose = poses[k] @ xray.rig_from_camera
    return BoneInView(xray, pose, ncc, spread(covariance, pose, xray.camera, bone.center_mm, bone.points_mm))


def _covariance(levels: Sequence[BonesLevel], poses: Float[Tensor, "K 4 4"], prior: Prior) -> Float[Tensor, "P P"]:
    informations, scatters, pulls, pixels, objectives = [], [], [], [], []
    for level in levels:
        rendered = level.image_and_jacobian(poses[None])
        kept = without_outliers(level.levels[0], level.pixels(poses[None]), rendered)
        own = normalised(rendered, kept.weight, kept.fraction, kept.mass, level.levels[0])[0].double()
        share, residual, columns = kept.fraction[0, 0].double(), own[0] - kept.fixed[0, 0], own[1:]
        blocks = _block_sums(share * residual * columns)
        informations.append((share * columns).flatten(1) @ columns.flatten(1).T)
        scatters.append(blocks @ blocks.T)
        pixel = level.levels[0].camera.pixel_spacing_mm[0]
        shift_px = _edge_shift_mm(level) * _magnification(level, poses) / pixel
        pulls.append((share * columns * shift_px * _slope(own[0])).flatten(1).sum(dim=1))
        pixels.append(kept)
        objectives.append((0.5 * (share * residual.square()).sum())[None])
    shares = view_weights(objectives)
    weight = float(prior_weight(pixels, objectives, shares)[0])
    expected = torch.diag(prior.sd.repeat(len(levels[0].bones)).reciprocal().square()) * weight
    views = list(zip(shares[:, 0], informations, scatters, pulls, strict=True))
    information = torch.stack([share * one for share, one, _, _ in views]).sum(dim=0) + expected
    scatter = torch.stack([share**2 * one for share, _, one, _ in views]).sum(dim=0) + weight * expected
    pull = torch.stack([share * one for share, _, _, one in views]).sum(dim=0)
    inverse = torch.linalg.inv(information)
    systematic = inverse @ pull
    return INFLATION**2 * inverse @ scatter @ inverse + torch.outer(systematic, systematic)


def _edge_shift_mm(level: BonesLevel) -> float:
    return EDGE_VOXELS * max(float(bone.volume.spacing_mm.max()) for bone in level.bones)


def _magnification(level: BonesLevel, poses: Float[Tensor, "K 4 4"]) -> float:
    seen = level.poses_seen(poses[None])[0]
    depths = [depth_mm(bone, pose) for bone, pose in zip(level.bones, seen, strict=True)]
    return level.levels[0].camera.source_to_detector_mm / fmean(depths)


def _slope(image: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Of a picture, per pixel: what a shift of its edges outwards adds."""
    down, across = torch.gradient(image)
    return (down.square() + across.square()).sqrt()


def _block_sums(values: Float[Tensor, "C H W"]) -> Float[Tensor, "C N"]:
    height, width = values.shape[1:]
    padded = torch.nn.functional.pad(values, (0, -width % BLOCK_PX, 0, -height % BLOCK_PX))
    return padded.unfold(1, BLOCK_PX, BLOCK_PX).unfold(2, BLOCK_PX, BLOCK_PX).sum(dim=(-1, -2)).flatten(1)


def _kicked(
    levels: Sequence[BonesLevel], poses: Float[Tensor, "K 4 4"], prior: Prior, settings: BoneSettings
) -> tuple[list[float], Float[Tensor, "B K 4 4"], Float[Tensor, "B"]]:
    """Share of kicks after which each bone came back, where they ended, and by what share of its residual more each
    costs than the pose itself."""
    bones = levels[0].bones
    step = torch.tensor([math.radians(KICK_DEG)] * 3 + [KICK_MM] * 3, dtype=torch.float64)
    kicks = (torch.tensor(SIGNS, dtype=torch.float64) * step).repeat(1, len(bones))
    starts = moved(bones, poses.expand(len(kicks), *poses.shape), kicks)
    tolerance = settings.tolerance_rotation_rad, settings.tolerance_translation_mm
    ends = descend_bones(levels, starts, settings.iterations, tolerance, True, prior)
    costs = bones_objective(levels, torch.cat([poses[None], ends]))
    held = []
    for k, bone in enumerate(bones):
        apart = torch.stack([_across_mm(levels, bone, poses[k], end) for end in ends[:, k]])
        held.append(float((apart < SAME_PLACE_MM).double().mean()))
    return held, ends, (costs[1:] - costs[0]) / costs[0].clamp_min(1e-6)


def _across_mm(levels: Sequence[BonesLevel], bone: Bone, one: Tensor, other: Tensor) -> Float[Tensor, ""]:
    """Mean distance of the bone's points between two poses, at right angles to the rays: the largest of the X-rays."""
    found = []
    for level in levels:
        ends = [invert(pose @ level.levels[0].rig_from_camera) for pose in (one, other)]
        points = [transform_points(end, bone.points_mm) for end in ends]
        found.append((points[0] - points[1])[:, :2].norm(dim=-1).mean())
    return torch.stack(found).max()


def _scatter_of_ends(
    bone: Bone, pose: Float[Tensor, "4 4"], ends: Float[Tensor, "B 4 4"], costs: Float[Tensor, "B"]
) -> Float[Tensor, "6 6"]:
    """Of kicks that fit nearly as well, about the pose."""
    there = translation(-bone.center_mm) @ ends @ invert(pose) @ translation(bone.center_mm)
    twists = se3_log(there)[costs < AS_GOOD]
    return twists.T @ twists / len(costs)


def _verdict(views: Sequence[BoneInView], held: float, shown: float, from_start: float) -> Verdict:
    failed, check = [], []
    ncc, sd_mm = min(one.ncc for one in views), max(one.spread.projection_mm for one in views)
    if ncc < FAILED_NCC:
        failed.append(f"near the bone the X-ray does not look like it (NCC {ncc:.2f})")
    elif ncc < TRUSTED_NCC:
        check.append(f"near the bone the X-ray looks only roughly like it (NCC {ncc:.2f})")
    if shown < LEAST_SHOWN:
        failed.append(f"only {shown:.0%} of the bone's shadow at the start is still in the picture")
    if not sd_mm <= FAILED_SD_MM:
        failed.append(f"the X-ray hardly says where the bone's shadow lies (sd {sd_mm:.2f} mm)")
    elif sd_mm > TRUSTED_SD_MM:
        check.append(f"the bone's shadow is uncertain (sd {sd_mm:.2f} mm on the detector)")
    if held < LEAST_HELD:
        check.append(f"it came back from {held:.0%} of small kicks only: is there a better pose beside it?")
    if from_start > BEYOND_PRIOR:
        check.append(f"it went {from_start:.1f} standard deviations away from the start: was that nearly right?")
    if failed:
        return Verdict(Grade.FAILED, tuple(failed + check))
    if check:
        return Verdict(Grade.CHECK, tuple(check))
    return Verdict(Grade.TRUSTED, (f"NCC {ncc:.2f}, the bone's shadow to {sd_mm:.2f} mm (sd)",))
