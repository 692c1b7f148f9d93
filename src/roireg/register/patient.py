"""X-rays of a user's own patient to the CT: search, Gauss-Newton, uncertainty, verdict."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from roma import rotmat_to_rotvec
from torch import Tensor

from roireg.data.readers.ct import Patient, expected_pose
from roireg.data.view import View
from roireg.data.volume import Volume
from roireg.geometry.camera import project
from roireg.geometry.se3 import invert, transform_points
from roireg.register.gauss_newton import register_gauss_newton
from roireg.register.levels import Problem, level
from roireg.register.multi_start import multi_start
from roireg.register.settings import GaussNewtonSettings, MultiStartSettings, WeightSettings
from roireg.register.trace import Trace
from roireg.register.uncertainty import Fit, Spread, covariance, fit_at, spread
from roireg.register.verdict import Evidence, Thresholds, Verdict, judge, worst
from roireg.register.weights import WeightMap, weight_map
from roireg.seeds import generator

GAUSS_NEWTON = GaussNewtonSettings(
    levels_px=(32, 64, 128),
    local_sigma_px=(12.0, 8.0, 5.0),
    iterations=20,
    # Tighter than the workflow's: with a second view, the steps that those leave out are most of the error.
    tolerance_rotation_rad=5e-5,
    tolerance_translation_mm=0.01,
    robust="tukey",
)
# From a pose that is nearly right: the finest level twice, as outliers are looked at from the second level on.
NEARBY = replace(GAUSS_NEWTON, levels_px=(128, 128), local_sigma_px=(5.0, 5.0))


@dataclass(frozen=True)
class Search:
    """A round of the search: how many starts, how far they spread (sd), and whether the image may be upside down."""

    starts: int
    rotation_sd_deg: float
    translation_sd_mm: float
    upside_down: bool = False

    def __str__(self) -> str:
        spread_of = f"{self.rotation_sd_deg:g}° and {self.translation_sd_mm:g} mm (sd)"
        return f"{self.starts} starts within {spread_of}" + (", image upside down" if self.upside_down else "")

    def settings(self) -> MultiStartSettings:
        """Those of the search at low resolution."""
        return MultiStartSettings(
            self.starts,
            KEPT,
            START_ITERATIONS,
            self.rotation_sd_deg,
            self.translation_sd_mm,
            START_PX,
            START_SIGMA_PX,
        )


# Each looks farther, if those before it ended in no trusted pose.
ROUNDS = (
    Search(200, 10.0, 25.0),
    Search(200, 10.0, 25.0, upside_down=True),
    Search(600, 15.0, 50.0),
    Search(600, 15.0, 50.0, upside_down=True),
    Search(1500, 20.0, 90.0),
)
MIRRORED = ROUNDS[2]
KEPT, START_ITERATIONS, START_PX, START_SIGMA_PX = 10, 8, 32, 12.0
EXCLUDE_MARGIN_MM = 9.0
THRESHOLDS = Thresholds()
# Of bone's shadow on the detector, by the last step: a descent that ends by its tolerance moves less.
SETTLED_MM = 0.5


@dataclass(frozen=True, eq=False)
class ViewResult:
    """What came of one X-ray.

    Attributes:
        view: the X-ray.
        pose: `volume_from_camera`, mm.
        evidence, verdict: whether to trust it.
        spread: predicted standard deviations.
        bone_points_mm: the points of bone, volume frame, that the X-ray shows.
    """

    view: View
    pose: Float[Tensor, "4 4"]
    evidence: Evidence
    verdict: Verdict
    spread: Spread
    bone_points_mm: Float[Tensor, "N 3"]


@dataclass(frozen=True, eq=False)
class Result:
    """A registration.

    Attributes:
        views: one result each; several were registered jointly.
        rig_pose: `volume_from_rig`, mm.
        covariance: of its twist about the patient's centre, rad and mm, volume axes.
        verdict: as good as that of the worst view.
        trace: poses `volume_from_rig` and objective, step by step, from the start that was chosen.
        rounds: of the search, up to the one that gave the result.
        seconds: without reading files and compiling.
    """

    views: tuple[ViewResult, ...]
    rig_pose: Float[Tensor, "4 4"]
    covariance: Float[Tensor, "6 6"]
    verdict: Verdict
    trace: Trace
    rounds: int
    seconds: float

    @property
    def pose(self) -> Float[Tensor, "4 4"]:
        """`volume_from_camera` of the first view, mm."""
        return self.views[0].pose


def problem_of(view: View, volume: Volume, weights: WeightMap | None) -> Problem:
    """The registration of an X-ray to a CT."""
    return Problem(view.image, view.camera, volume, weights, None, view.rig_from_camera)


def register_xrays(
    patient: Patient,
    views: Sequence[View],
    exclude: Iterable[str] = (),
    exclude_margin_mm: float = EXCLUDE_MARGIN_MM,
    initial: Float[Tensor, "4 4"] | None = None,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> Result:
    """Where the patient was when the X-rays were taken.

    Args:
        patient: the CT.
        views: X-rays; several are registered jointly, by the `rig_from_camera` that they state.
        exclude: labels that may have moved against the rest: pixels in whose ray they are do not count.
        exclude_margin_mm: labels are grown by so much.
        initial: `volume_from_rig` (mm) to try before the search.
        seed: of the random starts.
        report: told what is being done.

    Raises:
        InputError: a label in `exclude` does not exist.
    """
    excluded = tuple(exclude)
    if excluded:
        patient.label_mask(excluded, "--exclude")
    weights = weight_map(patient, WeightSettings(True, excluded, exclude_margin_mm))
    problems = [problem_of(view, patient.volume, weights) for view in views]
    register_gauss_newton(problems, expected_pose(patient), patient.center_mm, replace(GAUSS_NEWTON, iterations=1))
    began = time.perf_counter()
    best: Result | None = None
    rounds: list[Search | None] = [*ROUNDS] if initial is None else [None, *ROUNDS]
    for number, search in enumerate(rounds, start=1):
        upside_down = search is not None and search.upside_down
        posed = [view.upside_down() if upside_down else view for view in views]
        problems = [problem_of(view, patient.volume, weights) for view in posed]
        if search is None:
            report(f"round {number}: the given start")
            start = initial
        else:
            report(f"round {number}: {search}")
            rng = generator(seed, "own patient", str(search))
            start = multi_start(problems, expected_pose(patient), patient.center_mm, search.settings(), rng)
        found = replace(registered_from(patient, posed, problems, start), rounds=number)
        report(f"round {number}: {found.verdict.grade}, {found.verdict.reasons[0]}")
        if best is None or _rank(found) > _rank(best):
            best = found
        if _fits(best):
            break
    if not _fits(best):
        report("not trusted: trying the X-ray flipped left to right")
        best = _also_mirrored(patient, best, weights, seed)
    return replace(best, seconds=time.perf_counter() - began)


def _fits(result: Result) -> bool:
    """Whether searching on is of no use: images agree, whatever else speaks against the pose."""
    return all(
        one.evidence.ncc >= THRESHOLDS.trusted_ncc
        and one.evidence.projection_sd_mm <= THRESHOLDS.trusted_sd_mm
        and one.evidence.counted >= THRESHOLDS.least_counted
        for one in result.views
    )


def _rank(result: Result) -> float:
    """Larger is better: the agreement of the worst view, on enough of the image."""
    seen = [one.evidence for one in result.views]
    return min(one.ncc if one.counted >= THRESHOLDS.least_counted else -1.0 for one in seen)


def registered_from(
    patient: Patient, views: Sequence[View], problems: Sequence[Problem], start: Float[Tensor, "4 4"]
) -> Result:
    """A registration from one start, with its verdict, and no search.

    Args:
        patient: the CT.
        views: X-rays.
        problems: theirs, with the weights that are to be used.
        start: `volume_from_rig`, mm.
    """
    trace = register_gauss_newton(problems, start, patient.center_mm, GAUSS_NEWTON)
    rig_pose = trace.poses[trace.best]
    finest = [level(problem, GAUSS_NEWTON.levels_px[-1], GAUSS_NEWTON.local_sigma_px[-1]) for problem in problems]
    fits = [fit_at(one, rig_pose, patient.center_mm) for one in finest]
    joint = covariance(fits)
    results = [
        _view_result(patient, view, fit, joint, trace, _disagreement_mm(patient, view, problem, views, rig_pose))
        for view, problem, fit in zip(views, problems, fits, strict=True)
    ]
    verdict = worst([one.verdict for one in results])
    return Result(tuple(results), rig_pose, joint, verdict, trace, 1, 0.0)


def _view_result(
    patient: Patient, view: View, fit: Fit, joint: Tensor, trace: Trace, between_views_mm: float | None
) -> ViewResult:
    rig_pose = trace.poses[trace.best]
    pose = rig_pose @ view.rig_from_camera
    shown = visible_bone_points_mm(patient, view, pose)
    predicted = spread(joint, pose, view.camera, patient.center_mm, shown)
    expected = expected_pose(patient)
    moved = transform_points(rig_pose @ invert(expected), patient.center_mm[None])[0] - patient.center_mm
    turned = rotmat_to_rotvec(rig_pose[:3, :3] @ expected[:3, :3].T).norm()
    before = trace.poses[max(trace.best - 1, 0)] @ view.rig_from_camera
    evidence = Evidence(
        ncc=fit.ncc,
        counted=fit.counted,
        projection_sd_mm=predicted.projection_mm,
        converged=shadow_shift_mm(before, pose, view, shown) < SETTLED_MM,
        from_expected_mm=float(moved.norm()),
        turned_deg=math.degrees(float(turned)),
        between_views_mm=between_views_mm,
    )
    return ViewResult(view, pose, evidence, judge(evidence, THRESHOLDS), predicted, shown)


def visible_bone_points_mm(patient: Patient, view: View, pose: Float[Tensor, "4 4"]) -> Float[Tensor, "N 3"]:
    """The patient's reference points whose shadows lie in the image; all of them if none does."""
    pixels = project(patient.bone_points_mm, view.camera, pose)
    size = pixels.new_tensor([view.camera.width, view.camera.height])
    inside = ((pixels >= -0.5) & (pixels <= size - 0.5)).all(-1)
    return patient.bone_points_mm[inside] if bool(inside.any()) else patient.bone_points_mm


def shadow_shift_mm(
    one: Float[Tensor, "4 4"], other: Float[Tensor, "4 4"], view: View, points_mm: Float[Tensor, "N 3"]
) -> float:
    """Mean distance on the detector of the points' shadows under two poses `volume_from_camera`."""
    apart_px = project(points_mm, view.camera, one) - project(points_mm, view.camera, other)
    return float((apart_px * apart_px.new_tensor(view.camera.pixel_spacing_mm)).norm(dim=-1).mean())


def _disagreement_mm(
    patient: Patient, view: View, problem: Problem, views: Sequence[View], rig_pose: Float[Tensor, "4 4"]
) -> float | None:
    """How far this view alone would move its own shadows from where the joint pose has them."""
    if len(views) == 1:
        return None
    trace = register_gauss_newton([problem], rig_pose, patient.center_mm, NEARBY)
    joint, alone = rig_pose @ view.rig_from_camera, trace.poses[trace.best] @ view.rig_from_camera
    return shadow_shift_mm(joint, alone, view, visible_bone_points_mm(patient, view, joint))


def _also_mirrored(patient: Patient, best: Result, weights: WeightMap | None, seed: int) -> Result:
    """The same result, its verdict with what the mirrored images would have given: a frequent mistake."""
    mirrored = [one.view.mirrored() for one in best.views]
    problems = [problem_of(view, patient.volume, weights) for view in mirrored]
    rng = generator(seed, "own patient", "mirrored")
    start = multi_start(problems, expected_pose(patient), patient.center_mm, MIRRORED.settings(), rng)
    other = registered_from(patient, mirrored, problems, start)
    judged = []
    for one, flipped in zip(best.views, other.views, strict=True):
        evidence = replace(one.evidence, mirrored_ncc=flipped.evidence.ncc)
        judged.append(replace(one, evidence=evidence, verdict=judge(evidence, THRESHOLDS)))
    return replace(best, views=tuple(judged), verdict=worst([one.verdict for one in judged]))
