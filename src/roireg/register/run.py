"""A method on all X-rays of a specimen: rows of the results contract, and traces."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.specimen import Specimen, Xray
from roireg.files import atomic_path
from roireg.metrics.pose_errors import registration_errors
from roireg.register.levels import Problem
from roireg.register.method import MethodSettings
from roireg.register.registry import OPTIMIZERS, STARTS, Search
from roireg.register.roi import roi_weights
from roireg.register.trace import Trace
from roireg.register.weights import product, weight_map
from roireg.seeds import generator

ERROR_COLUMNS = ("mpd_mm", "mrpd_mm", "tre_mm", "mpd_legacy", "rotation_deg", "translation_mm")


@dataclass(frozen=True)
class Where:
    """The device of an optimization, and how many X-rays are registered together: several pay on a GPU alone.

    Optimizers that `roireg.register.registry` says to be on the CPU work there, one X-ray after another.
    """

    device: torch.device
    xrays: int


ON_THE_CPU = Where(torch.device("cpu"), 1)


@dataclass(frozen=True, eq=False)
class Registration:
    """One X-ray's result: a row of the results contract, the trace, and the error (mpd, mm) at each of its poses."""

    row: dict[str, str | float | int]
    trace: Trace
    mpd_mm: np.ndarray


def register_specimen(
    specimen: Specimen, method: MethodSettings, seed: int, where: Where = ON_THE_CPU
) -> Iterator[Registration]:
    """Register every X-ray of a specimen.

    `seconds` in the rows is one X-ray's search for a start (an encoder's reading of it included) and its optimization,
    or its share of them where X-rays are registered together, without reading files or compiling.
    Methods of the same `init` start from the same pose, which makes their comparison paired.

    Args:
        specimen: the patient.
        method: what to do.
        seed: the config's seed.
        where: the device, and how many X-rays are registered together.

    Yields:
        A result for each X-ray; not in their order if several are registered together.
    """
    weights = weight_map(specimen, method.pixels)
    volume = specimen.volume.to(where.device)
    for number, xrays in enumerate(batches(specimen.xrays, where.xrays)):
        problem = Problem(xrays[0].image, xrays[0].camera, volume, weights, method.step_mm)
        if number == 0:
            # One step, so that just-in-time compilation and lazy imports do not count as the first X-ray's time.
            once = replace(method, search=replace(method.search, iterations=1))
            _register(specimen, xrays, problem, once, seed, where)
        start = time.perf_counter()
        traces = _register(specimen, xrays, problem, method, seed, where)
        seconds = (time.perf_counter() - start) / len(xrays)
        for xray, trace in zip(xrays, traces, strict=True):
            yield _result(specimen, xray, method, trace, seconds + _seconds_before(xray, method), seed)


def batches(xrays: Sequence[Xray], largest: int) -> list[list[Xray]]:
    """X-rays in groups of one camera, of at most so many."""
    by_camera: dict[tuple, list[Xray]] = {}
    for xray in xrays:
        camera = (*xray.camera.intrinsics_px.flatten().tolist(), *xray.camera.pixel_spacing_mm, *xray.image.shape)
        by_camera.setdefault(camera, []).append(xray)
    groups = by_camera.values()
    return [group[first : first + largest] for group in groups for first in range(0, len(group), largest)]


def _register(
    specimen: Specimen, xrays: Sequence[Xray], problem: Problem, method: MethodSettings, seed: int, where: Where
) -> list[Trace]:
    starts = []
    for xray in xrays:
        rng = generator(seed, "initial pose", method.init, specimen.name, xray.name)
        # Starts are searched for on the CPU.
        own = replace(problem, xray=xray.image, volume=specimen.volume)
        search = Search(specimen, xray, own, rng, method.estimates)
        starts.append(STARTS[method.start.type].pose(method.start, search))
    initial = torch.stack(starts).to(where.device)
    if method.regions is not None and method.regions.acts_on == "weights":
        shown = roi_weights(specimen, xrays, initial, method.regions)
        problem = replace(problem, weights=product([weights for weights in (problem.weights, shown) if weights]))
    return OPTIMIZERS[method.search.type].register(specimen, xrays, initial, problem, method)


def _seconds_before(xray: Xray, method: MethodSettings) -> float:
    """What finding the start took before the registration began: an encoder's time, nothing otherwise."""
    return method.estimates[xray.name].seconds if method.estimates else 0.0


def _result(
    specimen: Specimen, xray: Xray, method: MethodSettings, trace: Trace, seconds: float, seed: int
) -> Registration:
    def errors(pose: Float[Tensor, "4 4"]) -> dict[str, float]:
        return registration_errors(pose, xray.pose, xray.camera, specimen.landmarks_mm, specimen.isocenter_mm)

    mpd_mm = np.array([errors(pose)["mpd_mm"] for pose in trace.poses])
    final = trace.poses[trace.best]
    row = {
        "specimen": specimen.name,
        "projection": xray.name,
        "method": method.name,
        "init": method.init,
        "similarity": method.similarity,
        "roi": method.roi,
        "optimizer": method.optimizer,
        "weights": method.weights,
        "seed": seed,
        "init_mpd_mm": float(mpd_mm[0]),
        **errors(final),
        "iterations": len(trace.poses) - 1,
        "seconds": seconds,
        "objective": float(trace.objective[trace.best]),
        **{f"pose_{r}{c}": float(final[r, c]) for r in range(3) for c in range(4)},
    }
    return Registration(row, trace, mpd_mm)


def write_traces(path: str | Path, results: list[Registration]) -> None:
    """Traces by projection: `poses` (N, 4, 4), `objective` (N,) and its `terms`, `mpd_mm` (N,), index of `best`."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for result in results:
            group = file.create_group(str(result.row["projection"]))
            group["poses"] = result.trace.poses.numpy()
            group["objective"] = result.trace.objective.numpy()
            group["mpd_mm"] = result.mpd_mm
            for name, values in result.trace.terms.items():
                group[f"terms/{name}"] = values.numpy()
            group.attrs["best"] = result.trace.best
            group.attrs["method"] = result.row["method"]
