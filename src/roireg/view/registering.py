"""Registers what is open: by the search, from the present pose, or not at all, to judge the present pose."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.xray import OTHER_POLARITY, Xray
from roireg.geometry.se3 import invert
from roireg.register.judgement import XrayResult, agreement
from roireg.register.method import MethodSettings, search_method, with_exclusion
from roireg.register.registration import Registration, problem_of, register_xrays, registration_of
from roireg.register.settings import PaSettings
from roireg.register.trace import Trace
from roireg.register.weights import weight_map
from roireg.view.geometry import at_position_of, camera_entries
from roireg.view.sources import RecordSource, View, with_entries
from roireg.view.state import Found, State, with_pose
from roireg.workflow.named_method import method_from_a_pose

NAMES = {"search": "search", "refine": "refined from here", "judge": "placed by hand"}
SEED = 0
HERE = "from here"


def from_here_method(state: State) -> MethodSettings:
    """The search's optimizer and pixel weights alone: Gauss-Newton from a given pose."""
    return replace(search_method(state.exclude), name=HERE, init="given", start=PaSettings())


def searched(state: State, report: Callable[[str], None]) -> Registration:
    """By rounds of random starts around the pose that the device states, as `roireg register` does."""
    return register_xrays(state.known_patient, _xrays(state), search_method(state.exclude), SEED, None, report)


def refined(state: State, report: Callable[[str], None]) -> Registration:
    """From the present pose, by the method that is chosen."""
    report("from the present pose")
    method = from_here_method(state)
    if state.method:
        method = with_exclusion(method_from_a_pose(state.method, state.config), [*state.exclude] or None)
    return register_xrays(state.known_patient, _xrays(state), method, SEED, state.rig_pose, report)


def judged(state: State, report: Callable[[str], None]) -> Registration:
    """The present pose as it is, with a verdict on it."""
    report("judging the present pose")
    return registration_at(state, state.rig_pose)


JOBS: dict[str, Callable[[State, Callable[[str], None]], Registration]] = {
    "search": searched,
    "refine": refined,
    "judge": judged,
}


def registration_at(state: State, rig_pose: Float[Tensor, "4 4"]) -> Registration:
    """A pose `volume_from_rig` (mm) as the result of a registration that did not move it."""
    patient, method = state.known_patient, replace(from_here_method(state), name="by hand")
    weights = weight_map(patient, method.pixels)
    problems = [problem_of(xray, patient, weights, method.step_mm) for xray in _xrays(state)]
    trace = Trace(rig_pose[None], torch.zeros(1, dtype=torch.float64), 0)
    return registration_of(patient, _xrays(state), problems, trace, method, 0.0)


def found_by(job: str, registration: Registration) -> Found:
    """A result as an entry of the list."""
    verdict, trace = registration.verdict, registration.trace
    return Found(
        name=registration.method if job == "refine" and registration.method != HERE else NAMES[job],
        rig_pose=registration.rig_pose,
        grade=str(verdict.grade),
        reasons=verdict.reasons,
        seconds=registration.seconds,
        objective=tuple(trace.objective[: trace.best + 1].tolist()) if job != "judge" else (),
        ncc=agreement(registration.judged),
        registration=registration,
    )


def with_result(state: State, found: Found) -> State:
    """The state with an entry added to the list, at its pose.

    A search may have found that X-rays are upside down, or that their polarity is the other one; they are from then on.
    """
    if found.registration is not None:
        before = state.view(0).shown.rig_from_camera
        views = tuple(_as_found(*pair) for pair in zip(state.views, found.registration.xrays, strict=True))
        state = _rebased(replace(state, views=views), before @ invert(views[0].shown.rig_from_camera))
    return with_pose(replace(state, found=(*state.found, found)), found.rig_pose)


def _as_found(view: View, result: XrayResult) -> View:
    found, shown, registered = result.xray, view.shown, view.registered
    if not torch.equal(found.rig_from_camera, registered.rig_from_camera):
        shown, registered = shown.upside_down(), registered.upside_down()
    if OTHER_POLARITY in found.warnings and OTHER_POLARITY not in registered.warnings:
        shown, registered = shown.with_other_polarity(), registered.with_other_polarity()
    if shown is view.shown:
        return view
    if isinstance(view.source, RecordSource):
        return View(view.source, shown, registered)
    entries = at_position_of(camera_entries(view.source, shown), shown)
    return View(with_entries(view.source, entries, view.source.crop_px), shown, registered)


def _rebased(state: State, old_from_new: Float[Tensor, "4 4"]) -> State:
    """The state with all poses of the rig expressed in another one."""
    return replace(
        state,
        rig_pose=state.rig_pose @ old_from_new,
        undo=tuple(pose @ old_from_new for pose in state.undo),
        redo=tuple(pose @ old_from_new for pose in state.redo),
        found=tuple(replace(one, rig_pose=one.rig_pose @ old_from_new) for one in state.found),
        truth=None if state.truth is None else state.truth @ old_from_new,
    )


def _xrays(state: State) -> list[Xray]:
    state.view(0)
    return [view.registered for view in state.views]
