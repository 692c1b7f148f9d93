"""A second attempt from another start, where the first one's verdict is not `trusted`; the better of both is kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.register.judgement import Judgement, agreement, judgement
from roireg.register.levels import Problem
from roireg.register.method import MethodSettings
from roireg.register.trace import Trace
from roireg.register.verdict import Grade


class Fallback(StrEnum):
    """`unused`: there is none, or it was not needed. `tried`: it was no better. `kept`: the result is its own."""

    UNUSED = "unused"
    TRIED = "tried"
    KEPT = "kept"


@dataclass(frozen=True, eq=False)
class Attempt:
    """What came of a registration: the trace of `volume_from_rig` (mm), what images say of it, whether it is a second
    one, and the seconds that a second one took."""

    trace: Trace
    judged: Judgement
    fallback: Fallback
    seconds: float


# From a method to the trace of a registration by it.
Register = Callable[[MethodSettings], Trace]


def better_of_both(
    patient: Patient,
    xrays: Sequence[Xray],
    problems: Sequence[Problem],
    trace: Trace,
    method: MethodSettings,
    register: Register,
) -> Attempt:
    """The trace, judged; or that from the method's fallback.

    Args:
        patient: the CT.
        xrays: what was registered, jointly if there are several.
        problems: theirs, on the CPU.
        trace: of the first attempt.
        method: what was done.
        register: does the same by a method that starts elsewhere.
    """
    judged = judgement(patient, xrays, problems, trace)
    if method.fallback is None or judged.verdict.grade is Grade.TRUSTED:
        return Attempt(trace, judged, Fallback.UNUSED, 0.0)
    began = time.perf_counter()
    second = register(replace(method, start=method.fallback, fallback=None))
    seconds = time.perf_counter() - began
    other = judgement(patient, xrays, problems, second)
    if _order(other) > _order(judged):
        return Attempt(second, other, Fallback.KEPT, seconds)
    return Attempt(trace, judged, Fallback.TRIED, seconds)


def _order(judged: Judgement) -> tuple[bool, float]:
    """A trusted one first; of two alike that on which images agree better."""
    return judged.verdict.grade is Grade.TRUSTED, agreement(judged)
