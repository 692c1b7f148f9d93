"""Registers all X-rays of a specimen by a method, and writes CSV rows and traces (docs/results.md describes them)."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.files import atomic_hdf5
from roireg.geometry.se3 import invert
from roireg.metrics.pose_errors import registration_errors
from roireg.register.fallback import Fallback, better_of_both
from roireg.register.judgement import XrayResult
from roireg.register.levels import Problem
from roireg.register.method import MethodSettings
from roireg.register.registration import batch, check_views, once, optimized, problem_of, start_pose
from roireg.register.trace import Trace
from roireg.register.weights import weight_map
from roireg.seeds import generator


@dataclass(frozen=True)
class Placement:
    """Device and batch size of an optimization; batching only pays off on a GPU.

    Attributes:
        device: device of optimizers that can use a GPU; all others run on the CPU, one X-ray after another.
        xrays: number of X-rays that are optimized at once.
    """

    device: torch.device
    xrays: int


ON_THE_CPU = Placement(torch.device("cpu"), 1)


@dataclass(frozen=True, eq=False)
class ResultRow:
    """Result of one X-ray: its CSV row, its trace of poses `volume_from_camera`, and the mpd (mm) of each iterate."""

    row: dict[str, str | float | int]
    trace: Trace
    mpd_mm: Float[np.ndarray, "N"]


def register_specimen(
    patient: Patient, xrays: Sequence[Xray], method: MethodSettings, seed: int, placement: Placement = ON_THE_CPU
) -> Iterator[ResultRow]:
    """Register X-rays of a specimen, each alone, or jointly in groups of `method.views`.

    `seconds` in the rows is the time of an X-ray's start (including an encoder's estimate) and optimization, without
    reading files or compiling; the time of X-rays that are registered together is divided by their number. Methods with
    the same `init` start from the same poses, so that comparisons are paired.

    Args:
        patient: the CT.
        xrays: X-rays with true poses, from which errors are computed.
        method: the method.
        seed: the config's seed.
        placement: device, and number of X-rays that are optimized at once.

    Yields:
        A result for each X-ray; in another order if several are registered together.

    Raises:
        InputError: the optimizer cannot register several X-rays jointly, or there are fewer X-rays than views.
    """
    check_views(method, method.views)
    if method.views > 1:
        yield from _jointly(patient, xrays, method, seed)
    else:
        yield from _alone(patient, xrays, method, seed, placement)


def _alone(
    patient: Patient, xrays: Sequence[Xray], method: MethodSettings, seed: int, placement: Placement
) -> Iterator[ResultRow]:
    weights = weight_map(patient, method.pixels)
    volume = patient.volume.to(placement.device)
    for number, group in enumerate(batches(xrays, placement.xrays)):
        problem = Problem(group[0].image, group[0].camera, volume, weights, method.step_mm, mask=group[0].mask)
        if number == 0:
            _batch(patient, group, problem, once(method), seed, placement)
        begin = time.perf_counter()
        traces = _batch(patient, group, problem, method, seed, placement)
        seconds = (time.perf_counter() - begin) / len(group)
        for xray, trace in zip(group, traces, strict=True):
            own = replace(problem, xray=xray.image, volume=patient.volume, mask=xray.mask)
            found = better_of_both(patient, [xray], [own], trace, method, _again(patient, [xray], [own], seed))
            (judged,) = found.judged.xrays
            took = seconds + found.seconds + _seconds_before(xray, method)
            yield _result(patient, judged, method, found.trace, took, seed, found.fallback)


def _again(
    patient: Patient, xrays: Sequence[Xray], problems: Sequence[Problem], seed: int
) -> Callable[[MethodSettings], Trace]:
    """The registration of these X-rays by a method that starts elsewhere."""

    def register(method: MethodSettings) -> Trace:
        rng = generator(seed, "fallback", patient.name, xrays[0].name)
        return optimized(patient, xrays, problems, start_pose(patient, xrays, problems, method, rng), method)

    return register


def _batch(
    patient: Patient,
    xrays: Sequence[Xray],
    problem: Problem,
    method: MethodSettings,
    seed: int,
    placement: Placement,
) -> list[Trace]:
    starts = []
    for xray in xrays:
        rng = generator(seed, "initial pose", method.init, patient.name, xray.name)
        own = replace(problem, xray=xray.image, volume=patient.volume, mask=xray.mask)
        starts.append(start_pose(patient, [xray], [own], method, rng))
    return batch(patient, xrays, torch.stack(starts).to(placement.device), problem, method)


def batches(xrays: Sequence[Xray], largest: int) -> list[list[Xray]]:
    """Groups of at most `largest` X-rays with the same camera."""
    by_camera: dict[tuple[float, ...], list[Xray]] = {}
    for xray in xrays:
        camera = (*xray.camera.intrinsics_px.flatten().tolist(), *xray.camera.pixel_spacing_mm, *xray.image.shape)
        by_camera.setdefault(camera, []).append(xray)
    groups = by_camera.values()
    return [group[first : first + largest] for group in groups for first in range(0, len(group), largest)]


def view_groups(xrays: Sequence[Xray], views: int) -> list[list[Xray]]:
    """Groups of `views` X-rays for joint registration, with members as far apart in the list as possible.

    Each X-ray is in one group; if the number of X-rays is not a multiple of `views`, the last groups reuse some. The
    relative poses of a group's cameras are computed from their true poses: a perfectly calibrated rig is assumed.

    Raises:
        InputError: there are fewer X-rays than views.
    """
    if len(xrays) < views:
        what = f"{views} X-rays are registered jointly, and there are {len(xrays)}"
        raise InputError("config: methods.*.views", what, "Reduce it, or use more X-rays")
    count = -(-len(xrays) // views)
    groups = []
    for first in range(count):
        members = [xrays[(first + k * count) % len(xrays)] for k in range(views)]
        lead = members[0]
        rig_from_volume = lead.rig_from_camera @ invert(lead.known_pose)
        groups.append([replace(xray, rig_from_camera=rig_from_volume @ xray.known_pose) for xray in members])
    return groups


def _jointly(patient: Patient, xrays: Sequence[Xray], method: MethodSettings, seed: int) -> Iterator[ResultRow]:
    weights = weight_map(patient, method.pixels)
    done: set[str] = set()
    for group in view_groups(xrays, method.views):
        problems = [problem_of(xray, patient, weights, method.step_mm) for xray in group]
        rng = generator(seed, "initial pose", method.init, patient.name, group[0].name)
        if not done:
            once_start = start_pose(patient, group, problems, once(method), rng)
            optimized(patient, group, problems, once_start, once(method))
            rng = generator(seed, "initial pose", method.init, patient.name, group[0].name)
        begin = time.perf_counter()
        trace = optimized(patient, group, problems, start_pose(patient, group, problems, method, rng), method)
        seconds = (time.perf_counter() - begin) / len(group)
        found = better_of_both(patient, group, problems, trace, method, _again(patient, group, problems, seed))
        took = seconds + found.seconds / len(group) + _seconds_before(group[0], method)
        for one, problem in zip(found.judged.xrays, problems, strict=True):
            if one.xray.name not in done:
                done.add(one.xray.name)
                own = replace(found.trace, poses=found.trace.poses @ problem.rig_from_camera)
                yield _result(patient, one, method, own, took, seed, found.fallback)


def _seconds_before(xray: Xray, method: MethodSettings) -> float:
    """Seconds that were spent on the start before the registration: an encoder's time, otherwise 0."""
    return method.estimates[xray.name].seconds if method.estimates else 0.0


def _result(
    patient: Patient,
    judged: XrayResult,
    method: MethodSettings,
    trace: Trace,
    seconds: float,
    seed: int,
    fallback: Fallback,
) -> ResultRow:
    xray = judged.xray

    def errors(pose: Float[Tensor, "4 4"]) -> dict[str, float]:
        return registration_errors(pose, xray.known_pose, xray.camera, patient.error_points_mm, patient.center_mm)

    mpd_mm = np.array([errors(pose)["mpd_mm"] for pose in trace.poses])
    final, spread = trace.poses[trace.best], judged.spread
    row: dict[str, str | float | int] = {
        "specimen": patient.name,
        "projection": xray.name,
        "method": method.name,
        "init": method.init,
        "similarity": method.similarity,
        "roi": method.roi,
        "optimizer": method.optimizer,
        "weights": method.weights,
        "views": method.views,
        "seed": seed,
        "init_mpd_mm": float(mpd_mm[0]),
        **errors(final),
        "iterations": len(trace.poses) - 1,
        "seconds": seconds,
        "objective": float(trace.objective[trace.best]),
        "verdict": str(judged.verdict.grade),
        "fallback": str(fallback),
        "ncc": judged.evidence.ncc,
        "coverage": judged.evidence.coverage,
        "projection_sd_mm": judged.evidence.projection_sd_mm,
        "across_sd_mm": spread.across_mm,
        "down_sd_mm": spread.down_mm,
        "depth_sd_mm": spread.depth_mm,
        **{f"rotation_{axis}_sd_deg": sd for axis, sd in zip("xyz", spread.rotation_deg, strict=True)},
        **{f"pose_{r}{c}": float(final[r, c]) for r in range(3) for c in range(4)},
    }
    return ResultRow(row, trace, mpd_mm)


def write_traces(path: str | Path, results: list[ResultRow]) -> None:
    """Write the traces to HDF5, atomically, a group for each projection (docs/results.md)."""
    with atomic_hdf5(path) as file:
        for result in results:
            group = file.create_group(str(result.row["projection"]))
            group["poses"] = result.trace.poses.numpy()
            group["objective"] = result.trace.objective.numpy()
            group["mpd_mm"] = result.mpd_mm
            for name, values in result.trace.terms.items():
                group[f"terms/{name}"] = values.numpy()
            group.attrs["best"] = result.trace.best
            group.attrs["method"] = result.row["method"]
