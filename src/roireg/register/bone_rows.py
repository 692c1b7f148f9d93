"""Registers bones of a specimen from poses of the whole CT, and makes CSV rows (docs/results.md describes them).

The whole CT is registered with such bones left out. From its pose each bone is looked for near where the CT shows it:
the bones together; and what they moved against as a bone too, alone and together with them, so that the two can be
compared on the same X-rays.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.label_names import normalized
from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.geometry.camera import project
from roireg.geometry.se3 import invert
from roireg.metrics.pose_errors import registration_errors
from roireg.register.bone import JOINED_BY, Bone, bone_of, labels_of
from roireg.register.bone_judgement import BoneResult
from roireg.register.bone_registration import BoneSettings
from roireg.register.bones import registered
from roireg.register.verdict import Grade

Row = dict[str, str | float | int]
# Of a bone without a result.
NO_POSE = torch.full((4, 4), math.nan, dtype=torch.float64)


@dataclass(frozen=True)
class BoneGroup:
    """Bones that are refined together, by name; a name may be that of several labels, joined by `+`."""

    names: tuple[str, ...]

    def others(self, name: str) -> str:
        """The bones with which one is refined, in words; empty if it is alone."""
        return ", ".join(one for one in self.names if one != name)


def bone_groups(names: Sequence[str], base: Sequence[str]) -> tuple[BoneGroup, ...]:
    """What is registered of each X-ray: the bones; what they moved against, alone and with them.

    Args:
        names: bones that moved on their own.
        base: labels that moved together and against which they moved; empty for none.
    """
    bones = (BoneGroup(tuple(names)),)
    if not base:
        return bones
    body = JOINED_BY.join(base)
    return (*bones, BoneGroup((body,)), BoneGroup((body, *names)))


def joint_mm(patient: Patient, joints: Mapping[str, str | None], name: str) -> Float[Tensor, "3"] | None:
    """The landmark (volume frame) about which a bone turns; None if no joint is given for it.

    Raises:
        InputError: the patient has no such landmark.
    """
    landmark = {normalized(bone): one for bone, one in joints.items()}.get(normalized(name))
    if landmark is None:
        return None
    if landmark not in patient.landmark_names:
        known = ", ".join(patient.landmark_names) or "none"
        what = f"the specimen {patient.name} has no landmark {landmark!r}"
        raise InputError(f"config: bones.joints: {name}", what, f"Its landmarks: {known}; or write null")
    return patient.landmarks_mm[patient.landmark_names.index(landmark)]


def register_specimen_bones(
    patient: Patient,
    xrays: Iterable[Xray],
    starts: Mapping[str, Float[Tensor, "4 4"]],
    groups: Sequence[BoneGroup],
    seed: int,
    settings: BoneSettings | None = None,
    joints: Mapping[str, str | None] | None = None,
) -> Iterator[list[Row]]:
    """Register bones in each X-ray alone.

    `seconds` is the time of a group, divided by the number of its bones; the first X-ray's includes compiling.

    Args:
        patient: the CT, at the resolution at which it is stored.
        xrays: with the true poses of patient and bones, from which errors are computed.
        starts: poses `volume_from_camera` (mm) of the whole CT by X-ray; X-rays without one are left out.
        groups: bones, those of a group refined together.
        seed: of the random poses.
        settings: how; the defaults if not given.
        joints: landmark about which a bone turns, by name of the bone; others turn about their middle.

    Yields:
        The rows of an X-ray: one for each bone of each group.

    Raises:
        InputError: a label or a landmark is unknown.
    """
    settings = BoneSettings() if settings is None else settings
    names = dict.fromkeys(name for group in groups for name in group.names)
    centers = {name: joint_mm(patient, joints or {}, name) for name in names}
    bones = {name: bone_of(patient, name, settings.end_margin_mm, centers[name]) for name in names}
    for xray in xrays:
        if xray.name not in starts:
            continue
        # Before anything is registered: a fault in the names is told at once.
        truths = {name: xray.known_pose_of(labels_of(name)) for name in names}
        rows: list[Row] = []
        for group in groups:
            own, start = [bones[name] for name in group.names], starts[xray.name]
            began = time.perf_counter()
            results = _results(own, xray, start, settings, seed)
            seconds = (time.perf_counter() - began) / len(own)
            for bone, result in zip(own, results, strict=True):
                place: Row = {"specimen": patient.name, "projection": xray.name, "bone": bone.name}
                place |= {"together_with": group.others(bone.name), "seed": seed}
                rows.append(
                    {
                        **place,
                        **_errors(bone, xray, truths[bone.name], start, result),
                        "seconds": seconds,
                        **_judged(result),
                    }
                )
        yield rows


def _results(
    bones: Sequence[Bone], xray: Xray, start: Float[Tensor, "4 4"], settings: BoneSettings, seed: int
) -> Sequence[BoneResult | None]:
    """A result for each bone; None for all if there is no start, or one at which they lie outside the picture."""
    if not bool(torch.isfinite(start).all()):
        return [None] * len(bones)
    try:
        return registered(bones, [xray], start @ invert(xray.rig_from_camera), settings, seed)
    except InputError:
        return [None] * len(bones)


def _errors(
    bone: Bone, xray: Xray, truth: Float[Tensor, "4 4"], start: Float[Tensor, "4 4"], result: BoneResult | None
) -> Row:
    """Errors at the bone's points, of the start and of the result."""

    def errors(pose: Float[Tensor, "4 4"]) -> dict[str, float]:
        return registration_errors(pose, truth, xray.camera, bone.points_mm, bone.center_mm)

    shadows = project(bone.points_mm, xray.camera, truth)
    size = shadows.new_tensor([xray.camera.width, xray.camera.height])
    inside = ((shadows >= -0.5) & (shadows <= size - 0.5)).all(dim=-1)
    before = errors(start)
    return {
        "in_picture": float(inside.double().mean()),
        "init_mpd_mm": before["mpd_mm"],
        "init_tre_mm": before["tre_mm"],
        **errors(NO_POSE if result is None else result.views[0].pose),
    }


def _judged(result: BoneResult | None) -> Row:
    """Verdict, predicted standard deviations and pose `volume_from_camera`; those of a failure without a result."""
    if result is None:
        sd = dict.fromkeys([f"{name}_sd_mm" for name in ("projection", "across", "down", "depth")], math.nan)
        turn = dict.fromkeys([f"rotation_{axis}_sd_deg" for axis in "xyz"], math.nan)
        return {"verdict": str(Grade.FAILED), "ncc": math.nan, "held": math.nan, **sd, **turn, **_pose(NO_POSE)}
    (view,) = result.views
    return {
        "verdict": str(result.verdict.grade),
        "ncc": view.ncc,
        "held": result.held,
        "projection_sd_mm": view.spread.projection_mm,
        "across_sd_mm": view.spread.across_mm,
        "down_sd_mm": view.spread.down_mm,
        "depth_sd_mm": view.spread.depth_mm,
        **{f"rotation_{axis}_sd_deg": sd for axis, sd in zip("xyz", view.spread.rotation_deg, strict=True)},
        **_pose(view.pose),
    }


def _pose(pose: Float[Tensor, "4 4"]) -> dict[str, float]:
    return {f"pose_{r}{c}": float(pose[r, c]) for r in range(3) for c in range(4)}
