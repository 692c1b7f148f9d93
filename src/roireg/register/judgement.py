"""Judges a registration from the images alone: evidence, predicted standard deviations, and a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.reach import beyond_reach_mm
from roireg.data.xray import Xray, expected_pose
from roireg.drr import project_mask
from roireg.geometry.camera import Camera, project
from roireg.geometry.se3 import invert, transform_points
from roireg.geometry.so3 import rotation_angle
from roireg.register.gauss_newton import register_gauss_newton
from roireg.register.kicks import kick
from roireg.register.levels import Problem, level
from roireg.register.settings import GaussNewtonSettings
from roireg.register.trace import Trace
from roireg.register.uncertainty import Fit, Spread, covariance, fit_at, residual_covariance, spread
from roireg.register.verdict import Evidence, Grade, Thresholds, Verdict, judge, worst

THRESHOLDS = Thresholds()
# Images are compared at this size, locally normalised in windows of this standard deviation, for every method alike.
SIZE_PX, SIGMA_PX = 128, 5.0
# Bone attenuates more than the median of all that is not air.
BONE_SIZE_PX, DENSER_THAN_TISSUE = 64, 1.2
# Refinement of a nearly correct pose: the finest level twice, because outliers are down-weighted from the second on.
NEARBY = GaussNewtonSettings(
    levels_px=(SIZE_PX, SIZE_PX),
    local_sigma_px=(SIGMA_PX, SIGMA_PX),
    iterations=20,
    tolerance_rotation_rad=5e-5,
    tolerance_translation_mm=0.01,
)
# A registration has converged if its last step moved the projection of bone on the detector by less than this.
CONVERGED_MM = 0.5


@dataclass(frozen=True, eq=False)
class XrayResult:
    """Result of one X-ray.

    Attributes:
        xray: the X-ray.
        pose: `volume_from_camera`, mm.
        evidence, verdict: measures of reliability, and the verdict from them.
        spread: predicted standard deviations.
        bone_points_mm: points of bone that the X-ray shows, volume frame.
        counted: pixels with a weight: measured, and not left out by the method's weights at the pose.
    """

    xray: Xray
    pose: Float[Tensor, "4 4"]
    evidence: Evidence
    verdict: Verdict
    spread: Spread
    bone_points_mm: Float[Tensor, "N 3"]
    counted: Bool[Tensor, "H W"]


@dataclass(frozen=True, eq=False)
class Judgement:
    """Judgement of one or more X-rays that were registered jointly.

    Attributes:
        xrays: the result of each X-ray.
        covariance: predicted covariance of the twist about the patient's centre; rad and mm, volume axes.
        verdict: the worst verdict of the X-rays.
        rival: `volume_from_rig` (mm) of another pose that small kicks ended at, or None.
    """

    xrays: tuple[XrayResult, ...]
    covariance: Float[Tensor, "6 6"]
    verdict: Verdict
    rival: Float[Tensor, "4 4"] | None = None


def judgement(patient: Patient, xrays: Sequence[Xray], problems: Sequence[Problem], trace: Trace) -> Judgement:
    """Judge the best pose of a trace; one that would be trusted is kicked first, and must hold.

    Args:
        patient: the CT.
        xrays: the X-rays that were registered.
        problems: the registration problem of each X-ray, on the CPU, with the weights that were used.
        trace: trace with poses `volume_from_rig` (mm) in the problems' rig.
    """
    rig_pose = trace.poses[trace.best]
    fits = [fit_at(level(problem, SIZE_PX, SIGMA_PX), rig_pose, patient.center_mm) for problem in problems]
    joint, shown_by_residuals = covariance(fits), residual_covariance(fits)
    pairs = [*zip(xrays, problems, strict=True)]
    between_mm = [_disagreement_mm(patient, xray, problem, problems, rig_pose) for xray, problem in pairs]
    results = tuple(
        _of_one(patient, xray, problem, fit, joint, shown_by_residuals, trace, apart)
        for (xray, problem), fit, apart in zip(pairs, fits, between_mm, strict=True)
    )
    judged = Judgement(results, joint, worst([one.verdict for one in results]))
    return judged if judged.verdict.grade is not Grade.TRUSTED else _kicked(patient, problems, rig_pose, judged)


def _kicked(
    patient: Patient, problems: Sequence[Problem], rig_pose: Float[Tensor, "4 4"], judged: Judgement
) -> Judgement:
    cameras = [one.xray.camera for one in judged.xrays]
    found = kick(patient, cameras, problems, rig_pose, judged.xrays[0].bone_points_mm)
    evidence = [replace(one.evidence, held=found.held) for one in judged.xrays]
    if found.rival is not None:
        evidence = [replace(one, rival_mm=found.rival_mm, rival_gain=found.rival_gain) for one in evidence]
    return replace(rejudged(judged, evidence), rival=found.rival)


def rejudged(judged: Judgement, evidence: Sequence[Evidence]) -> Judgement:
    """The judgement with new evidence for each X-ray, and new verdicts from it."""
    results = tuple(
        replace(result, evidence=new, verdict=judge(new, THRESHOLDS))
        for result, new in zip(judged.xrays, evidence, strict=True)
    )
    return replace(judged, xrays=results, verdict=worst([result.verdict for result in results]))


def agreement(judged: Judgement) -> float:
    """By how much images agree: the NCC of the worst X-ray, or -1 where the CT explains too little of one."""
    seen = [one.evidence for one in judged.xrays]
    return min(one.ncc if one.coverage >= THRESHOLDS.least_coverage else -1.0 for one in seen)


def _of_one(
    patient: Patient,
    xray: Xray,
    problem: Problem,
    fit: Fit,
    joint: Float[Tensor, "6 6"],
    shown_by_residuals: Float[Tensor, "6 6"],
    trace: Trace,
    between_views_mm: float | None,
) -> XrayResult:
    pose = trace.poses[trace.best] @ problem.rig_from_camera
    before = trace.poses[max(trace.best - 1, 0)] @ problem.rig_from_camera
    shown = visible_bone_mm(patient, xray.camera, pose)
    predicted, judged = (
        spread(one, pose, xray.camera, patient.center_mm, shown) for one in (joint, shown_by_residuals)
    )
    expected = expected_pose(patient, xray)
    moved = transform_points(pose @ invert(expected), patient.center_mm[None])[0] - patient.center_mm
    turned = rotation_angle(pose[:3, :3] @ expected[:3, :3].T)
    evidence = Evidence(
        ncc=fit.ncc,
        coverage=fit.coverage,
        projection_sd_mm=judged.projection_mm,
        converged=projection_shift_mm(before, pose, xray.camera, shown) < CONVERGED_MM,
        from_expected_mm=beyond_reach_mm(patient, xray, moved),
        turned_deg=math.degrees(float(turned)),
        between_views_mm=between_views_mm,
        bone_shown=shows_bone(patient, problem, pose),
        ct_step_mm=None if patient.step is None else patient.step.shift_mm,
    )
    return XrayResult(
        xray, pose, evidence, judge(evidence, THRESHOLDS), predicted, shown, counted_pixels(problem, pose)
    )


def counted_pixels(problem: Problem, pose: Float[Tensor, "4 4"]) -> Bool[Tensor, "H W"]:
    """Pixels of a problem's image with a weight at a pose `volume_from_camera`, mm."""
    counted = torch.ones_like(problem.xray, dtype=torch.bool) if problem.mask is None else problem.mask
    return counted if problem.weights is None else counted & (problem.weights(problem.camera, pose[None])[0] > 0)


def shows_bone(patient: Patient, problem: Problem, pose: Float[Tensor, "4 4"]) -> bool:
    """Whether a ray that counts, of the picture taken at a pose `volume_from_camera`, meets bone of the CT."""
    if "bone" not in patient.volume.derived:
        values = patient.volume.values
        tissue = values[values > 0]
        dense = values > DENSER_THAN_TISSUE * tissue.median() if len(tissue) else values > 0
        patient.volume.derived["bone"] = patient.volume.with_values(dense.float())
    camera = level(problem, BONE_SIZE_PX, SIGMA_PX).camera
    hit = project_mask(patient.volume.derived["bone"], camera, pose[None])
    counts = hit if problem.weights is None else hit & (problem.weights(camera, pose[None]) > 0)
    return bool(counts.any())


def visible_bone_mm(patient: Patient, camera: Camera, pose: Float[Tensor, "4 4"]) -> Float[Tensor, "N 3"]:
    """The patient's points of bone that are projected into the image; all points if none is."""
    pixels = project(patient.bone_points_mm, camera, pose)
    size = pixels.new_tensor([camera.width, camera.height])
    inside = ((pixels >= -0.5) & (pixels <= size - 0.5)).all(-1)
    return patient.bone_points_mm[inside] if bool(inside.any()) else patient.bone_points_mm


def projection_shift_mm(
    first: Float[Tensor, "4 4"], second: Float[Tensor, "4 4"], camera: Camera, points_mm: Float[Tensor, "N 3"]
) -> float:
    """Mean distance on the detector, mm, between points projected under two poses `volume_from_camera`."""
    offsets_px = project(points_mm, camera, first) - project(points_mm, camera, second)
    return float((offsets_px * offsets_px.new_tensor(camera.pixel_spacing_mm)).norm(dim=-1).mean())


def _disagreement_mm(
    patient: Patient, xray: Xray, problem: Problem, problems: Sequence[Problem], rig_pose: Float[Tensor, "4 4"]
) -> float | None:
    """Distance (mm, detector) by which registering this X-ray alone moves the projection of bone from the joint pose.

    None for a single X-ray.
    """
    if len(problems) == 1:
        return None
    trace = register_gauss_newton([problem], rig_pose, patient.center_mm, NEARBY)
    joint, alone = rig_pose @ problem.rig_from_camera, trace.poses[trace.best] @ problem.rig_from_camera
    return projection_shift_mm(joint, alone, xray.camera, visible_bone_mm(patient, xray.camera, joint))
