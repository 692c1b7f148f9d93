"""A sequence of X-rays, registered frame by frame: each starts from what was last found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.register.bone_judgement import BoneResult
from roireg.register.bones import register_bones
from roireg.register.judgement import agreement
from roireg.register.method import MethodSettings, search_method
from roireg.register.registration import Registration, register_xrays
from roireg.register.verdict import Grade


@dataclass(frozen=True, eq=False)
class Frame:
    """The X-rays of one moment, one for each view of the rig, and the number of that frame."""

    number: int
    xrays: Sequence[Xray]


def register_frames(
    patient: Patient,
    frames: Iterable[Frame],
    method: MethodSettings | None = None,
    seed: int = 0,
    initial: Float[Tensor, "4 4"] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Frame, Registration]]:
    """Register the frames of a sequence in their order, each from the last pose that had not failed.

    Where the verdict is not `trusted`, the frame is registered again from the method's own start (a search has done so
    by itself), and the better of both is kept.

    Args:
        patient: the CT.
        frames: read one by one, as they are needed.
        method: the method; None for `search_method()`.
        seed: random seed, the same for each frame.
        initial: pose `volume_from_rig` (mm) of the first frame, or None.
        report: called with messages about the progress.

    Raises:
        InputError: see `register_xrays`.
    """
    method = search_method() if method is None else method
    last = initial
    for frame in frames:
        found = register_xrays(patient, frame.xrays, method, seed, last, report)
        if last is not None and method.start.type != "search" and found.verdict.grade is not Grade.TRUSTED:
            report(f"frame {frame.number}: {found.verdict.grade}; trying the method's own start")
            found = max(found, register_xrays(patient, frame.xrays, method, seed, None, report), key=_order)
        if found.verdict.grade is not Grade.FAILED:
            last = found.rig_pose
        yield frame, found


def register_bone_frames(
    patient: Patient,
    frames: Iterable[Frame],
    names: Sequence[str],
    start: Callable[[Frame], Float[Tensor, "4 4"]],
    seed: int = 0,
) -> Iterator[tuple[Frame, tuple[BoneResult, ...]]]:
    """Register bones of a CT in the frames of a sequence, each from where the bone last was without having failed.

    Args:
        patient: the CT, at the resolution at which it is stored.
        frames: read one by one, as they are needed.
        names: labels, see `register_bones`.
        start: gives the pose `volume_from_rig` (mm) of all bones in the first frame; asked again, with the frame, as
            soon as all of them have failed.
        seed: random seed, the same for each frame.

    Raises:
        InputError: see `register_bones`.
    """
    poses: Float[Tensor, "K 4 4"] | None = None
    for frame in frames:
        known = poses is not None
        begin = poses if poses is not None else start(frame).expand(len(names), 4, 4).clone()
        results = register_bones(patient, frame.xrays, names, begin, seed=seed)
        if known and all(one.verdict.grade is Grade.FAILED for one in results):
            begin = start(frame).expand(len(names), 4, 4).clone()
            results = register_bones(patient, frame.xrays, names, begin, seed=seed)
        poses = begin.clone()
        for number, one in enumerate(results):
            if one.verdict.grade is not Grade.FAILED:
                poses[number] = one.rig_pose
        yield frame, results


def _order(found: Registration) -> tuple[bool, float]:
    return found.verdict.grade is Grade.TRUSTED, agreement(found.judged)
