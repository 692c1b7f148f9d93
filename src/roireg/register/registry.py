"""The kinds of starts, optimizers and ROI terms, by the `type` of an entry in the configuration.

A new kind is a class of settings (`roireg.register.settings`), a function, and its row here. The checks and the rules
of the workflow read these tables too, so what a row runs is imported when it runs: this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from roireg.register.settings import (
    AdamSettings,
    DiceSettings,
    EncoderStartSettings,
    GaussNewtonSettings,
    MaskSettings,
    MultiStartSettings,
    PaSettings,
    PerturbationSettings,
)

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor

    from roireg.data.results import Estimate
    from roireg.data.specimen import Specimen, Xray
    from roireg.register.charts import Chart
    from roireg.register.levels import Problem
    from roireg.register.method import MethodSettings
    from roireg.register.trace import Trace


@dataclass(frozen=True)
class RoiTermKind:
    """What a ROI term is: its settings, and whether it is added to the `objective` or gives `weights` to pixels."""

    settings: type
    acts_on: Literal["objective", "weights"]


ROI_TERMS = {
    "dice": RoiTermKind(DiceSettings, "objective"),
    "mask": RoiTermKind(MaskSettings, "weights"),
}


@dataclass(frozen=True)
class OptimizerKind:
    """What an optimizer is.

    Attributes:
        settings: of an entry.
        register: X-rays of one camera from their `(B, 4, 4)` initial poses to a trace each.
        builtin_similarity: it has an objective of its own, so a method writes `similarity: builtin`.
        on_gpu: it can use a GPU, and optimizes several X-rays together there.
        equal_iterations: every iteration costs the same, so that a few tell what all will cost.
        roi_terms: the types of ROI terms that go with it.
    """

    settings: type
    register: Callable[[Specimen, Sequence[Xray], Float[Tensor, "B 4 4"], Problem, MethodSettings], list[Trace]]
    builtin_similarity: bool
    on_gpu: bool
    equal_iterations: bool
    roi_terms: frozenset[str]


def _adam(
    specimen: Specimen, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], problem: Problem, method: MethodSettings
) -> list[Trace]:
    from roireg.metrics.similarity import similarity
    from roireg.register.adam import register_adam
    from roireg.register.objective import image_objective
    from roireg.register.roi import roi_term

    rois = None
    if method.regions is not None and method.regions.acts_on == "objective":
        rois = roi_term(specimen, xrays, initial, method.regions)
    problems = [replace(problem, xray=xray.image) for xray in xrays]
    objective = image_objective(problems, similarity(method.similarity, method.search.ncc_epsilon), rois)
    return register_adam(objective, _chart(specimen, initial, problem, method.search), method.search)


def _chart(specimen: Specimen, initial: Float[Tensor, "B 4 4"], problem: Problem, search: AdamSettings) -> Chart:
    from roireg.register.charts import PERTURBATION, perturbation_chart, pose_logarithm_chart

    if search.parameters == PERTURBATION:
        return perturbation_chart(initial, specimen.isocenter_mm.to(initial.device))
    corner_mm = specimen.volume.corner_mm.to(initial.device)
    return pose_logarithm_chart(initial, corner_mm, problem.camera.source_to_detector_mm)


def _gauss_newton(
    specimen: Specimen, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], problem: Problem, method: MethodSettings
) -> list[Trace]:
    from roireg.register.gauss_newton import register_gauss_newton

    return [
        register_gauss_newton([replace(problem, xray=xray.image)], pose, specimen.isocenter_mm, method.search)
        for xray, pose in zip(xrays, initial, strict=True)
    ]


OPTIMIZERS = {
    "adam": OptimizerKind(
        AdamSettings,
        _adam,
        builtin_similarity=False,
        on_gpu=True,
        equal_iterations=True,
        roi_terms=frozenset({"dice", "mask"}),
    ),
    "gauss_newton": OptimizerKind(
        GaussNewtonSettings,
        _gauss_newton,
        builtin_similarity=True,
        on_gpu=False,
        equal_iterations=False,
        roi_terms=frozenset({"mask"}),
    ),
}


@dataclass(frozen=True)
class Search:
    """What a start may look at.

    Attributes:
        specimen: the patient.
        xray: the X-ray to be registered.
        problem: its image, its camera, the CT and the pixels that count, on the CPU.
        rng: of this X-ray.
        estimates: an encoder's poses by the X-ray's name, where the start names an encoder.
    """

    specimen: Specimen
    xray: Xray
    problem: Problem
    rng: np.random.Generator
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class StartKind:
    """What a start is: its settings, and the function from them to `volume_from_camera` (mm) of one X-ray."""

    settings: type
    pose: Callable[[Any, Search], Float[Tensor, "4 4"]]


def _pa(settings: PaSettings, search: Search) -> Float[Tensor, "4 4"]:
    return search.specimen.pa_pose


def _perturbed(settings: PerturbationSettings, search: Search) -> Float[Tensor, "4 4"]:
    from roireg.register.initial import perturbed_start

    return perturbed_start(search.specimen, search.xray, settings, search.rng)


def _multi_start(settings: MultiStartSettings, search: Search) -> Float[Tensor, "4 4"]:
    from roireg.register.multi_start import multi_start

    specimen = search.specimen
    return multi_start([search.problem], specimen.pa_pose, specimen.isocenter_mm, settings, search.rng)


def _encoder(settings: EncoderStartSettings, search: Search) -> Float[Tensor, "4 4"]:
    return search.estimates[search.xray.name].pose


STARTS = {
    "pa": StartKind(PaSettings, _pa),
    "perturbed": StartKind(PerturbationSettings, _perturbed),
    "multi_start": StartKind(MultiStartSettings, _multi_start),
    "encoder": StartKind(EncoderStartSettings, _encoder),
}


def settings_of(entry: Mapping[str, Any], kinds: Mapping[str, Any]) -> Any:
    """The settings that an entry of the configuration describes, by its `type`.

    Args:
        entry: keys and values, `type` among them; lists stand for tuples.
        kinds: one of the tables of this module.

    Raises:
        pydantic.ValidationError: a key is unknown, or a value not allowed.
    """
    return kinds[entry["type"]].settings(**entry)
