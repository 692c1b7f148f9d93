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
    SearchSettings,
)

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor

    from roireg.data.patient import Patient
    from roireg.data.results import Estimate
    from roireg.data.xray import Xray
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
        register: X-rays of one camera, each alone, from their `(B, 4, 4)` initial poses to a trace each.
        register_jointly: X-rays of one rig from one start `volume_from_rig` (mm) to one trace; None if it cannot.
        builtin_similarity: it has an objective of its own, so a method writes `similarity: builtin`.
        on_gpu: it can use a GPU, and optimizes several X-rays together there.
        equal_iterations: every iteration costs the same, so that a few tell what all will cost.
        roi_terms: the types of ROI terms that go with it.
    """

    settings: type
    register: Callable[[Patient, Sequence[Xray], Float[Tensor, "B 4 4"], Problem, MethodSettings], list[Trace]]
    register_jointly: Callable[[Patient, Sequence[Problem], Float[Tensor, "4 4"], MethodSettings], Trace] | None
    builtin_similarity: bool
    on_gpu: bool
    equal_iterations: bool
    roi_terms: frozenset[str]


def _adam(
    patient: Patient, xrays: Sequence[Xray], initial: Float[Tensor, "B 4 4"], problem: Problem, method: MethodSettings
) -> list[Trace]:
    from roireg.metrics.similarity import similarity
    from roireg.register.adam import register_adam
    from roireg.register.objective import image_objective
    from roireg.register.roi import roi_term

    rois = None
    if method.regions is not None and method.regions.acts_on == "objective":
        rois = roi_term(patient, xrays, initial, method.regions)
    problems = [replace(problem, xray=xray.image, mask=xray.mask) for xray in xrays]
    objective = image_objective(problems, similarity(method.similarity, method.search.ncc_epsilon), rois)
    return register_adam(objective, _chart(patient, initial, problem, method.search), method.search)


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

    return [
        register_gauss_newton(
            [replace(problem, xray=xray.image, mask=xray.mask)], pose, patient.center_mm, method.search
        )
        for xray, pose in zip(xrays, initial, strict=True)
    ]


def _gauss_newton_jointly(
    patient: Patient, problems: Sequence[Problem], start: Float[Tensor, "4 4"], method: MethodSettings
) -> Trace:
    from roireg.register.gauss_newton import register_gauss_newton

    return register_gauss_newton(problems, start, patient.center_mm, method.search)


OPTIMIZERS = {
    "adam": OptimizerKind(
        AdamSettings,
        _adam,
        register_jointly=None,
        builtin_similarity=False,
        on_gpu=True,
        equal_iterations=True,
        roi_terms=frozenset({"dice", "mask"}),
    ),
    "gauss_newton": OptimizerKind(
        GaussNewtonSettings,
        _gauss_newton,
        register_jointly=_gauss_newton_jointly,
        builtin_similarity=True,
        on_gpu=False,
        equal_iterations=False,
        roi_terms=frozenset({"mask"}),
    ),
}


@dataclass(frozen=True)
class StartContext:
    """What a start may look at.

    Attributes:
        patient: the CT.
        xray: the X-ray to be registered; the first one of several that are registered jointly.
        problems: of the X-rays, on the CPU.
        rng: of this X-ray.
        estimates: an encoder's poses by the X-ray's name, where the start names an encoder.
    """

    patient: Patient
    xray: Xray
    problems: Sequence[Problem]
    rng: np.random.Generator
    estimates: Mapping[str, Estimate]

    @property
    def expected(self) -> Float[Tensor, "4 4"]:
        """`volume_from_rig` (mm) as the device states it: for the workflow's X-rays, that of `T_PA`."""
        from roireg.data.xray import expected_pose

        return self.in_rig(expected_pose(self.patient, self.xray))

    def in_rig(self, pose: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """`volume_from_rig` from `volume_from_camera` of the X-ray, mm."""
        from roireg.geometry.se3 import invert

        return pose @ invert(self.problems[0].rig_from_camera)


@dataclass(frozen=True)
class StartKind:
    """What a start is: its settings, and the function from them to `volume_from_rig` (mm)."""

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
    """Where the rounds of `roireg.register.search` begin."""
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
        kinds: one of the tables of this module.

    Raises:
        pydantic.ValidationError: a key is unknown, or a value not allowed.
    """
    return kinds[entry["type"]].settings(**entry)
