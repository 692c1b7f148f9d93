"""A method on all X-rays of a specimen: rows of the results contract, and traces."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float
from torch import Tensor

from roireg.evaluate import registration_errors
from roireg.files import atomic_path
from roireg.register.adam import AdamSettings, Objective, Trace, register_adam
from roireg.register.initial import PerturbationSettings, pa_start, perturbed_start
from roireg.register.objective import image_objective
from roireg.register.weights import WeightSettings, weight_map
from roireg.seeds import generator
from roireg.similarity import similarity
from roireg.specimen import Specimen, Xray

ERROR_COLUMNS = ("mpd_mm", "mrpd_mm", "tre_mm", "mpd_legacy", "rotation_deg", "translation_mm")


@dataclass(frozen=True)
class MethodSettings:
    """A method: an entry of `methods` in the config, with the entries that it names.

    Attributes:
        name, init, roi, optimizer: names, as they stand in the results.
        similarity: a key of `roireg.similarity.SIMILARITIES`.
        start: None for `T_PA`, or how the truth is perturbed.
        weights: what is left out of the similarity.
        adam: the optimizer's settings.
        step_mm: sampling of the renderer, or None for its default.
    """

    name: str
    init: str
    similarity: str
    roi: str
    optimizer: str
    start: PerturbationSettings | None
    weights: WeightSettings
    adam: AdamSettings
    step_mm: float | None


@dataclass(frozen=True, eq=False)
class Registration:
    """One X-ray's result: a row of the results contract, the trace, and the error (mpd, mm) at each of its poses."""

    row: dict[str, str | float | int]
    trace: Trace
    mpd_mm: np.ndarray


def method_from_config(
    name: str, method: dict, initial_pose: dict, optimizer: dict, step_mm: float | None
) -> MethodSettings:
    """A method from its entry in the config and the entries of the start and the optimizer that it names."""
    adam = {key: value for key, value in optimizer.items() if key != "type"}
    start = None
    if initial_pose["type"] == "perturbed":
        start = PerturbationSettings(initial_pose["rotation_sd_deg"], initial_pose["translation_sd_mm"])
    weights = method["weights"]
    return MethodSettings(
        name=name,
        init=method["init"],
        similarity=method["similarity"],
        roi=method["roi"],
        optimizer=method["optimizer"],
        start=start,
        weights=WeightSettings(weights["coverage"], tuple(weights["exclude"]), weights["exclude_margin_mm"]),
        adam=AdamSettings(**adam),
        step_mm=step_mm,
    )


def start_pose(specimen: Specimen, xray: Xray, method: MethodSettings, seed: int) -> Float[Tensor, "4 4"]:
    """The initial pose; methods of the same `init` start from the same pose, which makes their comparison paired."""
    if method.start is None:
        return pa_start(specimen)
    rng = generator(seed, "initial pose", method.init, specimen.name, xray.name)
    return perturbed_start(specimen, xray, method.start, rng)


def register_specimen(specimen: Specimen, method: MethodSettings, seed: int) -> Iterator[Registration]:
    """Register every X-ray of a specimen.

    `seconds` in the rows is the optimization of one X-ray, without reading files or compiling.

    Args:
        specimen: the patient.
        method: what to do.
        seed: the config's seed.
    """
    measure = similarity(method.similarity)
    weights = weight_map(specimen, method.weights)
    for index, xray in enumerate(specimen.xrays):
        objective = image_objective(xray.image, xray.camera, specimen.volume, measure, weights, method.step_mm)
        initial = start_pose(specimen, xray, method, seed)
        if index == 0:
            _warm_up(objective, initial, specimen, method)
        start = time.perf_counter()
        trace = register_adam(objective, initial, specimen.isocenter_mm, method.adam)
        seconds = time.perf_counter() - start
        yield _result(specimen, xray, method, trace, seconds, seed)


def _warm_up(objective: Objective, initial: Float[Tensor, "4 4"], specimen: Specimen, method: MethodSettings) -> None:
    """One step, so that just-in-time compilation and lazy imports do not count as the first X-ray's time."""
    register_adam(objective, initial, specimen.isocenter_mm, replace(method.adam, iterations=1))


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
    """Traces by projection: `poses` (N, 4, 4), `objective` (N,), `mpd_mm` (N,), index of the `best` iterate."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for result in results:
            group = file.create_group(str(result.row["projection"]))
            group["poses"] = result.trace.poses.numpy()
            group["objective"] = result.trace.objective.numpy()
            group["mpd_mm"] = result.mpd_mm
            group.attrs["best"] = result.trace.best
            group.attrs["method"] = result.row["method"]
