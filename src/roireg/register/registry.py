"""The starts, optimizers and ROI terms, by the `type` that an entry of the configuration names.

To add one, write a class of settings and a function, and add an entry to the registry here (docs/extending.md). The
checks and rules of the workflow read these registries too, so each function imports what it needs when it is called:
this module does not import torch.
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
    SearchSettings,
)
from roireg.settings import of_kind

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor

    from roireg.data.estimate import Estimate
    from roireg.data.patient import Patient
    from roireg.data.xray import Xray
    from roireg.register.charts import Chart
    from roireg.register.levels import Problem
    from roireg.register.method import MethodSettings
    from roireg.register.roi import Regions, RoiTerm
    from roireg.register.trace import Trace
    from roireg.register.weights import WeightMap

# What a ROI term changes.
ActsOn = Literal["objective", "weights"]

# Value of a method's `similarity` for optimizers that have their own objective.
BUILTIN = "builtin"
# Value of a method's `roi` for methods without a ROI term.
NO_ROI = "none"


@dataclass(frozen=True)
class RoiTermKind:
    """A type of ROI term.

    Attributes:
        settings: class of its settings, with the fields `type` and `rois`. The fields `fixed`, `moving` and `boxes`, if
            there are any, name segmenters.
        acts_on: `objective` if the term is added to the objective, `weights` if it gives pixel weights.
        make: function from the patient, B X-rays with the same camera, their initial poses `volume_from_camera` (mm)
            and the settings to a `roireg.register.roi.RoiTerm` or, if it acts on the weights, to a
            `roireg.register.weights.WeightMap`.
    """

    settings: type
    acts_on: ActsOn
    make: Callable[[Patient, Sequence[Xray], Float[Tensor, "B 4 4"], Regions], Any]


def _dice(patient: Patient, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], regions: Regions) -> RoiTerm:
    from roireg.register.roi import roi_term

    return roi_term(patient, xrays, initial, regions)


def _mask(patient: Patient, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], regions: Regions) -> WeightMap:
    from roireg.register.roi import roi_weights

    return roi_weights(patient, xrays, initial, regions)


ROI_TERMS = {
    "dice": RoiTermKind(DiceSettings, "objective", _dice),
    "mask": RoiTermKind(MaskSettings, "weights", _mask),
}


@dataclass(frozen=True)
class OptimizerKind:
    """A type of optimizer.

    Attributes:
        settings: class of its settings, with the fields `type` and `iterations`.
        register: function that registers X-rays with the same camera independently, from their initial poses
            `volume_from_camera` `(B, 4, 4)` (mm) to a trace for each.
        register_jointly: function that registers the X-rays of a rig jointly, from one start `volume_from_rig` (mm) to
            one trace; None if the optimizer cannot do this.
        builtin_similarity: True if the optimizer has its own objective; its methods write `similarity: builtin`.
        gpu_pays: True if the workflow's jobs ask for a GPU. All of them run on one where a job has it.
        equal_iterations: True if all iterations take the same time, so that `roireg estimate` can time a few of them.
        roi_terms: the ROI terms it supports, by what they act on.
    """

    settings: type
    register: Callable[[Patient, Sequence[Xray], Float[Tensor, "B 4 4"], Problem, MethodSettings], list[Trace]]
    register_jointly: Callable[[Patient, Sequence[Problem], Float[Tensor, "4 4"], MethodSettings], Trace] | None = None
    builtin_similarity: bool = False
    gpu_pays: bool = False
    equal_iterations: bool = False
    roi_terms: frozenset[ActsOn] = frozenset({"weights"})

    def supports(self, roi_term: str) -> bool:
        """True if the optimizer supports ROI terms of the type `roi_term`."""
        return ROI_TERMS[roi_term].acts_on in self.roi_terms


def _adam(
    patient: Patient, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], problem: Problem, method: MethodSettings
) -> list[Trace]:
    from roireg.metrics.similarity import similarity
    from roireg.register.adam import register_adam
    from roireg.register.objective import image_objective

    search, rois = of_kind(method.search, AdamSettings), None
    if method.regions is not None and method.regions.acts_on == "objective":
        rois = method.regions.make(patient, xrays, initial)
    problems = [replace(problem, xray=xray.image, mask=xray.mask) for xray in xrays]
    objective = image_objective(problems, similarity(method.similarity, search.ncc_epsilon), rois)
    return register_adam(objective, _chart(patient, initial, problem, search), search)


def _chart(patient: Patient, initial: Float[Tensor, "B 4 4"], problem: Problem, search: AdamSettings) -> Chart:
    from roireg.register.charts import PERTURBATION, perturbation_chart, pose_logarithm_chart

    if search.parameters == PERTURBATION:
        return perturbation_chart(initial, patient.center_mm.to(initial.device))
    corner_mm = patient.volume.corner_mm.to(initial.device)
    return pose_logarithm_chart(initial, corner_mm, problem.camera.source_to_detector_mm)


def _gauss_newton(
    patient: Patient, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], problem: Problem, method: MethodSettings
) -> list[Trace]:
    from roireg.register.gauss_newton import register_gauss_newton

    search = of_kind(method.search, GaussNewtonSettings)
    return [
        register_gauss_newton([replace(problem, xray=xray.image, mask=xray.mask)], pose, patient.center_mm, search)
        for xray, pose in zip(xrays, initial.cpu(), strict=True)
    ]


def _gauss_newton_jointly(
    patient: Patient, problems: Sequence[Problem], start: Float[Tensor, "4 4"], method: MethodSettings
) -> Trace:
    from roireg.register.gauss_newton import register_gauss_newton

    return register_gauss_newton(problems, start, patient.center_mm, of_kind(method.search, GaussNewtonSettings))


OPTIMIZERS = {
    "adam": OptimizerKind(
        AdamSettings,
        _adam,
        gpu_pays=True,
        equal_iterations=True,
        roi_terms=frozenset({"objective", "weights"}),
    ),
    "gauss_newton": OptimizerKind(
        GaussNewtonSettings,
        _gauss_newton,
        register_jointly=_gauss_newton_jointly,
        builtin_similarity=True,
    ),
}


@dataclass(frozen=True)
class StartContext:
    """What a start can use.

    Attributes:
        patient: the CT.
        xray: the X-ray; the first one if several are registered jointly.
        problems: the problems of the X-rays, on the CPU.
        rng: random numbers of this X-ray.
        estimates: an encoder's poses by the X-ray's name, if the start names an encoder.
    """

    patient: Patient
    xray: Xray
    problems: Sequence[Problem]
    rng: np.random.Generator
    estimates: Mapping[str, Estimate]

    @property
    def expected(self) -> Float[Tensor, "4 4"]:
        """The expected `volume_from_rig` (mm), known from the device; `T_PA` for X-rays of the workflow."""
        from roireg.data.xray import expected_pose

        return self.in_rig(expected_pose(self.patient, self.xray))

    def in_rig(self, pose: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """Convert `volume_from_camera` of the X-ray to `volume_from_rig`, mm."""
        from roireg.geometry.se3 import invert

        return pose @ invert(self.problems[0].rig_from_camera)


@dataclass(frozen=True)
class StartKind:
    """A type of start: the class of its settings, and the function from them to `volume_from_rig` (mm)."""

    settings: type
    pose: Callable[[Any, StartContext], Float[Tensor, "4 4"]]


def _pa(settings: PaSettings, context: StartContext) -> Float[Tensor, "4 4"]:
    return context.expected


def _perturbed(settings: PerturbationSettings, context: StartContext) -> Float[Tensor, "4 4"]:
    from roireg.register.initial import perturbed_start

    return context.in_rig(perturbed_start(context.patient, context.xray, settings, context.rng))


def _multi_start(settings: MultiStartSettings, context: StartContext) -> Float[Tensor, "4 4"]:
    from roireg.register.multi_start import multi_start

    return multi_start(context.problems, context.expected, context.patient.center_mm, settings, context.rng)


def _encoder(settings: EncoderStartSettings, context: StartContext) -> Float[Tensor, "4 4"]:
    return context.in_rig(context.estimates[context.xray.name].pose)


def _search(settings: SearchSettings, context: StartContext) -> Float[Tensor, "4 4"]:
    """The pose around which `roireg.register.search` searches."""
    return context.expected


STARTS = {
    "pa": StartKind(PaSettings, _pa),
    "perturbed": StartKind(PerturbationSettings, _perturbed),
    "multi_start": StartKind(MultiStartSettings, _multi_start),
    "encoder": StartKind(EncoderStartSettings, _encoder),
    "search": StartKind(SearchSettings, _search),
}


def settings_of(entry: Mapping[str, Any], kinds: Mapping[str, Any]) -> Any:
    """The settings that an entry of the configuration describes, by its `type`.

    Args:
        entry: keys and values, `type` among them; lists stand for tuples.
        kinds: a registry of this module.

    Raises:
        pydantic.ValidationError: a key is unknown, or a value not allowed.
    """
    return kinds[entry["type"]].settings(**entry)
