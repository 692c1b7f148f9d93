"""Registers X-rays of one patient to the CT by any method; used by the command, the workflow and the benchmarks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.geometry.se3 import invert
from roireg.register.fallback import better_of_both
from roireg.register.judgement import Judgement, XrayResult, judgement
from roireg.register.levels import Problem
from roireg.register.method import MethodSettings, search_method
from roireg.register.registry import OPTIMIZERS, STARTS, StartContext
from roireg.register.trace import Trace
from roireg.register.verdict import Verdict
from roireg.register.weights import WeightMap, product, weight_map
from roireg.seeds import generator


@dataclass(frozen=True, eq=False)
class Registration:
    """Result of a registration of one or more X-rays.

    Attributes:
        method: name of the method.
        judged: pose, evidence, verdict and predicted standard deviations of each X-ray.
        rig_pose: `volume_from_rig`, mm.
        trace: iterates from the chosen start: poses `volume_from_rig` (mm) and objective.
        rounds: number of the search round that gave the result; 1 for methods without rounds.
        seconds: run time without reading files and just-in-time compilation.
    """

    method: str
    judged: Judgement
    rig_pose: Float[Tensor, "4 4"]
    trace: Trace
    rounds: int
    seconds: float

    @property
    def xrays(self) -> tuple[XrayResult, ...]:
        """The result of each X-ray."""
        return self.judged.xrays

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the X-rays."""
        return self.judged.verdict

    @property
    def pose(self) -> Float[Tensor, "4 4"]:
        """`volume_from_camera` of the first X-ray, mm."""
        return self.xrays[0].pose


def problem_of(xray: Xray, patient: Patient, weights: WeightMap | None, step_mm: float | None = None) -> Problem:
    """The problem of registering an X-ray to the patient's CT, with the pose `volume_from_rig` as unknown."""
    return Problem(xray.image, xray.camera, patient.volume, weights, step_mm, xray.rig_from_camera, xray.mask)


def register_xrays(
    patient: Patient,
    xrays: Sequence[Xray],
    method: MethodSettings | None = None,
    seed: int = 0,
    initial: Float[Tensor, "4 4"] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Registration:
    """Find the pose of the patient relative to the X-rays' cameras by one method, on the CPU.

    Args:
        patient: the CT.
        xrays: one X-ray, or several that are registered jointly, with relative poses given by `rig_from_camera`.
        method: the method; None for `search_method()`.
        seed: random seed.
        initial: initial pose `volume_from_rig` (mm): replaces the method's start, or is tried before a search's rounds.
        report: called with messages about the progress.

    Raises:
        InputError: the patient lacks a ROI or a label that the method excludes, or there are several X-rays and the
            optimizer cannot register them jointly.
    """
    method = search_method() if method is None else method
    check_views(method, len(xrays))
    weights = weight_map(patient, method.pixels)
    problems = [problem_of(xray, patient, weights, method.step_mm) for xray in xrays]
    if method.start.type == "search":
        from roireg.register.search import search

        return search(patient, xrays, method, weights, seed, initial, report)
    rng = generator(seed, "initial pose", method.init, patient.name, xrays[0].name)
    start = start_pose(patient, xrays, problems, method, rng) if initial is None else initial
    optimized(patient, xrays, problems, start, once(method))
    began = time.perf_counter()
    trace = optimized(patient, xrays, problems, start, method)
    seconds = time.perf_counter() - began

    def again(other: MethodSettings) -> Trace:
        return optimized(patient, xrays, problems, start_pose(patient, xrays, problems, other, rng), other)

    found = better_of_both(patient, xrays, problems, trace, method, again)
    trace, seconds = found.trace, seconds + found.seconds
    return Registration(method.name, found.judged, trace.poses[trace.best], trace, 1, seconds)


def registration_of(
    patient: Patient,
    xrays: Sequence[Xray],
    problems: Sequence[Problem],
    trace: Trace,
    method: MethodSettings,
    seconds: float,
) -> Registration:
    """Judge a trace of poses `volume_from_rig` (mm), and return it as a registration."""
    judged = judgement(patient, xrays, problems, trace)
    return Registration(method.name, judged, trace.poses[trace.best], trace, 1, seconds)


def check_views(method: MethodSettings, count: int) -> None:
    """Check that a method can register `count` X-rays jointly.

    Raises:
        InputError: its optimizer registers X-rays one by one only.
    """
    if count > 1 and OPTIMIZERS[method.search.type].register_jointly is None:
        joint = [name for name, kind in OPTIMIZERS.items() if kind.register_jointly]
        what = f"an optimizer of type {method.search.type} registers one X-ray alone, and there are {count}"
        raise InputError(f"method {method.name}", what, f"Use one of type {', '.join(joint)}, or one X-ray")


def once(method: MethodSettings) -> MethodSettings:
    """The method with one iteration, for a warm-up run that does just-in-time compilation and lazy imports."""
    return replace(method, search=replace(method.search, iterations=1))


def start_pose(
    patient: Patient,
    xrays: Sequence[Xray],
    problems: Sequence[Problem],
    method: MethodSettings,
    rng: np.random.Generator,
) -> Float[Tensor, "4 4"]:
    """The initial pose of a method, `volume_from_rig` (mm) in the rig of the problems, which are on the CPU."""
    context = StartContext(patient, xrays[0], problems, rng, method.estimates)
    return STARTS[method.start.type].pose(method.start, context)


def optimized(
    patient: Patient,
    xrays: Sequence[Xray],
    problems: Sequence[Problem],
    start: Float[Tensor, "4 4"],
    method: MethodSettings,
) -> Trace:
    """Run the method's optimizer from a start `volume_from_rig` (mm); the trace has poses `volume_from_rig`."""
    kind = OPTIMIZERS[method.search.type]
    if kind.register_jointly is not None:
        if method.regions is not None:
            poses = torch.stack([start @ problem.rig_from_camera for problem in problems])
            roi_map = method.regions.make(patient, xrays, poses)
            problems = [replace(problem, weights=_both(problem.weights, roi_map)) for problem in problems]
        return kind.register_jointly(patient, problems, start, method)
    rig_from_camera = problems[0].rig_from_camera
    alone = replace(problems[0], rig_from_camera=torch.eye(4, dtype=torch.float64))
    (trace,) = batch(patient, xrays, (start @ rig_from_camera)[None], alone, method)
    return replace(trace, poses=trace.poses @ invert(rig_from_camera))


def batch(
    patient: Patient,
    xrays: Sequence[Xray],
    starts: Float[Tensor, "B 4 4"],
    problem: Problem,
    method: MethodSettings,
) -> list[Trace]:
    """Register X-rays with the same camera independently, each from its own start.

    Args:
        patient: the CT.
        xrays: X-rays with the same camera.
        starts: initial poses `volume_from_camera`, mm, on the device to use.
        problem: the problem of any of the X-rays, with its CT on that device.
        method: the method.

    Returns:
        A trace for each X-ray, with poses `volume_from_camera`, mm.
    """
    if method.regions is not None and method.regions.acts_on == "weights":
        roi_map = method.regions.make(patient, xrays, starts)
        problem = replace(problem, weights=_both(problem.weights, roi_map))
    return OPTIMIZERS[method.search.type].register(patient, xrays, starts, problem, method)


def _both(weights: WeightMap | None, roi_map: WeightMap) -> WeightMap:
    return roi_map if weights is None else product([weights, roi_map])
