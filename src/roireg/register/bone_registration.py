"""Bones of a CT to one or several X-rays, from poses that are nearly right: each bone its own pose, all together.

Everything follows the bones' size and what detector and CT resolve: the part of the picture that is looked at, the
sizes of the images, and how near to a bone a ray must pass to count.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.geometry.camera import Camera, project
from roireg.register.bone import Bone, depth_mm
from roireg.register.bone_descent import BonesLevel, Prior, bones_objective, descend_bones, moved, referenced
from roireg.register.levels import Problem, level
from roireg.seeds import generator

LEAST_WINDOW_PX = 16


@dataclass(frozen=True)
class BoneSettings:
    """How bones are registered.

    Attributes:
        margin_mm: rays that pass a bone within so much count.
        margin_px: or within so many pixels, where that is more: coarse images look farther.
        levels_px: longer side of the images, coarse to fine.
        local_sigma_px: Gaussian window of their local normalisation: what other anatomy casts is smooth within it.
        starts: random poses about the start of each bone that are tried at the coarsest level.
        rotation_sd_deg, translation_sd_mm: their spread about and along each axis. The start is taken to be right to
            twice that (standard deviation).
        reach: factor on that spread, but not on what the start is taken to be right to.
        keep: how many of the best are refined.
        iterations: most steps at each level.
        tolerance_rotation_rad, tolerance_translation_mm: a level ends when a step is smaller.
        around_mm: of the picture, beyond the bones' shadows, at their depth.
        voxels_per_pixel: of the CT, at most; finer pixels than that show nothing more.
    """

    margin_mm: float = 3.0
    margin_px: float = 4.0
    levels_px: tuple[int, ...] = (48, 96, 192)
    local_sigma_px: tuple[float, ...] = (5.0, 5.0, 5.0)
    starts: int = 64
    rotation_sd_deg: float = 3.0
    translation_sd_mm: float = 3.0
    reach: float = 1.0
    keep: int = 4
    iterations: int = 15
    tolerance_rotation_rad: float = 2e-4
    tolerance_translation_mm: float = 0.02
    around_mm: float = 12.0
    voxels_per_pixel: float = 2.0

    def prior(self, starts: Float[Tensor, "K 4 4"]) -> Prior:
        """What the starts `volume_from_rig` (mm) say of the poses."""
        return Prior(starts, 2 * math.radians(self.rotation_sd_deg), 2 * self.translation_sd_mm)

    def wider(self) -> "BoneSettings":
        """For a second attempt: more starts, farther away. What the start is taken to be right to stays."""
        return replace(self, starts=4 * self.starts, keep=2 * self.keep, reach=2.0)

    @property
    def end_margin_mm(self) -> float:
        """Rays within so much of an end that was sawn off do not count."""
        return 2 * self.margin_mm


@dataclass(frozen=True, eq=False)
class FoundBones:
    """Poses `volume_from_rig` (mm) of K bones, the finest level, with which they are judged, and seconds."""

    poses: Float[Tensor, "K 4 4"]
    levels: tuple[tuple[BonesLevel, ...], ...]
    seconds: float

    @property
    def finest(self) -> tuple[BonesLevel, ...]:
        """The X-rays at the largest size."""
        return self.levels[-1]


def find_bones(
    bones: Sequence[Bone],
    xrays: Sequence[Xray],
    starts: Float[Tensor, "K 4 4"],
    settings: BoneSettings,
    seed: int = 0,
) -> FoundBones:
    """The poses of bones from poses nearby.

    Args:
        bones: each with its own pose; their shadows add.
        xrays: of one rig.
        starts: `volume_from_rig` of each bone, mm.
        settings: how.
        seed: of the random poses.

    Raises:
        InputError: at their starts no bone lies in an X-ray.
    """
    began = time.perf_counter()
    windows = [window_of(bones, xray, starts, settings) for xray in xrays]
    pyramid = tuple(
        tuple(_level(bones, xray, starts, settings, index) for xray in windows)
        for index in range(len(settings.levels_px))
    )
    poses, prior = starts[None], settings.prior(starts)
    for k in range(len(bones)):
        tried = _around(bones, poses[0], k, settings, seed)
        order = bones_objective(pyramid[0], tried).argsort()[: settings.keep]
        kept = torch.cat([poses[:1], tried[order]])
        kept = _descended(pyramid, 0, kept, settings, prior)
        poses = kept[bones_objective(pyramid[0], kept).argsort()]
    for index in range(1, len(pyramid)):
        poses = _descended(pyramid, index, poses[: max(settings.keep // 2**index, 1)], settings, prior)
        poses = poses[bones_objective(pyramid[index], poses).argsort()]
    return FoundBones(poses[0], pyramid, time.perf_counter() - began)


def _descended(
    pyramid: Sequence[Sequence[BonesLevel]],
    index: int,
    poses: Float[Tensor, "B K 4 4"],
    settings: BoneSettings,
    prior: Prior,
) -> Float[Tensor, "B K 4 4"]:
    coarser = 2.0 ** (len(pyramid) - 1 - index)
    tolerance = settings.tolerance_rotation_rad * coarser, settings.tolerance_translation_mm * coarser
    return descend_bones(pyramid[index], poses, settings.iterations, tolerance, index > 0, prior)


def _around(
    bones: Sequence[Bone], poses: Float[Tensor, "K 4 4"], moving: int, settings: BoneSettings, seed: int
) -> Float[Tensor, "B K 4 4"]:
    """Random poses of one bone, the others where they are."""
    rng = generator(seed, "bone", bones[moving].name)
    step = torch.zeros(settings.starts, 6 * len(bones), dtype=torch.float64)
    sd = [math.radians(settings.rotation_sd_deg)] * 3 + [settings.translation_sd_mm] * 3
    step[:, 6 * moving : 6 * moving + 6] = torch.from_numpy(rng.normal(size=(settings.starts, 6)) * sd * settings.reach)
    return moved(bones, poses.expand(settings.starts, *poses.shape), step)


def pixel_mm(bones: Sequence[Bone], camera: Camera, poses: Float[Tensor, "K 4 4"]) -> float:
    """Of a pixel at the depth of the bones, at poses `volume_from_camera`."""
    depth = fmean(depth_mm(bone, pose) for bone, pose in zip(bones, poses, strict=True))
    return min(camera.pixel_spacing_mm) * depth / camera.source_to_detector_mm


def window_of(bones: Sequence[Bone], xray: Xray, starts: Float[Tensor, "K 4 4"], settings: BoneSettings) -> Xray:
    """The part of an X-ray about the bones' shadows.

    Raises:
        InputError: they lie outside the X-ray.
    """
    seen = starts @ xray.rig_from_camera
    shadows = torch.cat([project(bone.points_mm, xray.camera, pose) for bone, pose in zip(bones, seen, strict=True)])
    around = settings.around_mm / pixel_mm(bones, xray.camera, seen)
    height, width = xray.image.shape
    (left, top), (right, bottom) = ((shadows.amin(0) - around).floor(), (shadows.amax(0) + around).ceil())
    columns = slice(max(int(left), 0), min(int(right) + 1, width))
    rows = slice(max(int(top), 0), min(int(bottom) + 1, height))
    if min(columns.stop - columns.start, rows.stop - rows.start) < LEAST_WINDOW_PX:
        names = ", ".join(bone.name for bone in bones)
        raise InputError(xray.name, f"{names} lies outside the picture at the start", "Give a better --initial")
    camera = xray.camera.window(rows, columns)
    return replace(xray, image=xray.image[rows, columns].contiguous(), camera=camera)


def _level(
    bones: Sequence[Bone], xray: Xray, starts: Float[Tensor, "K 4 4"], settings: BoneSettings, index: int
) -> BonesLevel:
    seen = starts @ xray.rig_from_camera
    voxel = min(float(bone.volume.spacing_mm.min()) for bone in bones)
    finest = max(pixel_mm(bones, xray.camera, seen), voxel / settings.voxels_per_pixel)
    side_mm = max(xray.image.shape) * pixel_mm(bones, xray.camera, seen)
    size_px = min(settings.levels_px[index], max(round(side_mm / finest), LEAST_WINDOW_PX))
    sigma_px = settings.local_sigma_px[index]
    problems = [Problem(xray.image, xray.camera, bone.volume, None, None, xray.rig_from_camera) for bone in bones]
    levels = tuple(level(problem, size_px, sigma_px) for problem in problems)
    margin_mm = max(settings.margin_mm, settings.margin_px * pixel_mm(bones, levels[0].camera, seen))
    return referenced(BonesLevel(levels, tuple(bones), margin_mm, 1.0), starts)
