"""A method on all X-rays of a specimen: rows of the results contract, and traces."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.results import Estimate
from roireg.data.specimen import Specimen, Xray
from roireg.files import atomic_path
from roireg.metrics.pose_errors import registration_errors
from roireg.metrics.similarity import similarity
from roireg.register.adam import AdamSettings, register_adam
from roireg.register.charts import PERTURBATION, Chart, perturbation_chart, pose_logarithm_chart
from roireg.register.gauss_newton import GaussNewtonSettings, register_gauss_newton
from roireg.register.initial import (
    EncoderSettings,
    PaSettings,
    PerturbationSettings,
    StartSettings,
    seconds_before,
    start_pose,
)
from roireg.register.levels import Problem
from roireg.register.multi_start import MultiStartSettings
from roireg.register.objective import image_objective
from roireg.register.roi import (
    ROI_TYPES,
    DiceSettings,
    MaskSettings,
    RoiTermSettings,
    roi_term,
    roi_weights,
    segmenter_names,
)
from roireg.register.trace import Trace
from roireg.register.weights import WeightSettings, product, weight_map
from roireg.seeds import generator
from roireg.segment.model import Segmenter

ERROR_COLUMNS = ("mpd_mm", "mrpd_mm", "tre_mm", "mpd_legacy", "rotation_deg", "translation_mm")


OptimizerSettings = AdamSettings | GaussNewtonSettings
# By `type` of an entry in the config.
START_TYPES = {
    "pa": PaSettings,
    "perturbed": PerturbationSettings,
    "multi_start": MultiStartSettings,
    "encoder": EncoderSettings,
}
OPTIMIZER_TYPES = {"adam": AdamSettings, "gauss_newton": GaussNewtonSettings}


@dataclass(frozen=True)
class MethodSettings:
    """A method: an entry of `methods` in the config, with the entries that it names.

    Attributes:
        name, init, roi, optimizer: names, as they stand in the results.
        similarity: a key of `roireg.metrics.similarity.SIMILARITIES`, or `own` for an optimizer that has an objective.
        start: where to begin.
        weights: what is left out of the similarity.
        search: the optimizer's settings.
        regions: the ROIs' part, or None.
        step_mm: sampling of the renderer, or None for its default.
    """

    name: str
    init: str
    similarity: str
    roi: str
    optimizer: str
    start: StartSettings
    weights: WeightSettings
    search: OptimizerSettings
    regions: RoiTermSettings | None
    step_mm: float | None


@dataclass(frozen=True)
class Where:
    """The device of an optimization, and how many X-rays are registered together: several pay on a GPU alone.

    Gauss-Newton works on the CPU, one X-ray after another.
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


def method_from_config(
    name: str,
    method: dict,
    initial_pose: dict,
    optimizer: dict,
    roi_term: dict | None,
    rois: list[str],
    step_mm: float | None,
) -> MethodSettings:
    """A method from its entry in the config and the entries of start, optimizer and ROI term that it names.

    Args:
        name: the method's.
        method, initial_pose, optimizer, roi_term: entries of the config; `roi_term` None for a method without ROIs.
        rois: all that segmenters know, in their order.
        step_mm: sampling of the renderer, or None for its default.
    """
    weights = method["weights"]
    return MethodSettings(
        name=name,
        init=method["init"],
        similarity=method["similarity"],
        roi=method["roi"],
        optimizer=method["optimizer"],
        start=settings_of(initial_pose, START_TYPES),
        weights=WeightSettings(weights["coverage"], tuple(weights["exclude"]), weights["exclude_margin_mm"]),
        search=settings_of(optimizer, OPTIMIZER_TYPES),
        regions=None if roi_term is None else regions_from_config(roi_term, rois),
        step_mm=step_mm,
    )


def regions_from_config(entry: dict[str, Any], rois: list[str]) -> RoiTermSettings:
    """A ROI term from its entry in the config and the names of all ROIs; an empty `rois` of the entry means all."""
    return settings_of({**entry, "rois": rois, "used": entry["rois"] or rois}, ROI_TYPES)


def settings_of(entry: dict[str, Any], types: dict[str, type]) -> Any:
    """The settings that an entry of the config describes, by its `type`."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key != "type"}
    return types[entry["type"]](**values)


def starting_from(method: MethodSettings, estimates: Mapping[str, Estimate]) -> MethodSettings:
    """The method with an encoder's estimates, by the X-ray's name, to start from.

    Raises:
        ValueError: it does not start from an encoder.
    """
    if not isinstance(method.start, EncoderSettings):
        raise ValueError(f"method {method.name} does not start from an encoder")
    return replace(method, start=replace(method.start, estimates=estimates))


def guided_by(method: MethodSettings, segmenters: Mapping[str, Segmenter]) -> MethodSettings:
    """The method with the segmenters, by name, that its ROI term needs.

    Raises:
        ValueError: one is missing, or the method has no ROI term.
    """
    if method.regions is None:
        raise ValueError(f"method {method.name} has no ROI term")
    missing = [name for name in segmenter_names(method.regions) if name not in segmenters]
    if missing:
        raise ValueError(f"method {method.name} needs the segmenters {', '.join(missing)}")
    return replace(method, regions=replace(method.regions, segmenters=segmenters))


def _adam(
    specimen: Specimen, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], problem: Problem, method: MethodSettings
) -> list[Trace]:
    rois = None
    if isinstance(method.regions, DiceSettings):
        rois = roi_term(specimen, xrays, initial, method.regions)
    problems = [replace(problem, xray=xray.image) for xray in xrays]
    objective = image_objective(problems, similarity(method.similarity, method.search.ncc_epsilon), rois)
    return register_adam(objective, _chart(specimen, initial, problem, method.search), method.search)


def _chart(specimen: Specimen, initial: Float[Tensor, "B 4 4"], problem: Problem, search: AdamSettings) -> Chart:
    if search.parameters == PERTURBATION:
        return perturbation_chart(initial, specimen.isocenter_mm.to(initial.device))
    corner_mm = specimen.volume.corner_mm.to(initial.device)
    return pose_logarithm_chart(initial, corner_mm, problem.camera.source_to_detector_mm)


def _gauss_newton(
    specimen: Specimen, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], problem: Problem, method: MethodSettings
) -> list[Trace]:
    return [
        register_gauss_newton([replace(problem, xray=xray.image)], pose, specimen.isocenter_mm, method.search)
        for xray, pose in zip(xrays, initial, strict=True)
    ]


OPTIMIZERS: dict[type, Callable[..., list[Trace]]] = {AdamSettings: _adam, GaussNewtonSettings: _gauss_newton}


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
    weights = weight_map(specimen, method.weights)
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
            yield _result(specimen, xray, method, trace, seconds + seconds_before(xray, method.start), seed)


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
        starts.append(start_pose(specimen, xray, own, method.start, rng))
    initial = torch.stack(starts).to(where.device)
    if isinstance(method.regions, MaskSettings):
        shown = roi_weights(specimen, xrays, initial, method.regions)
        problem = replace(problem, weights=product([weights for weights in (problem.weights, shown) if weights]))
    return OPTIMIZERS[type(method.search)](specimen, xrays, initial, problem, method)


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
