"""What is open in the workbench, as one immutable record: each change makes a new one."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient, expected_rig_pose
from roireg.errors import InputError
from roireg.geometry.se3 import invert
from roireg.register.registration import Registration
from roireg.view.sources import CtSource, RecordSource, View
from roireg.view.study import Study

# Number of poses that can be undone.
UNDO_LIMIT = 200


@dataclass(frozen=True, eq=False)
class Found:
    """A pose in the list of poses to compare.

    Attributes:
        name: how it was found.
        rig_pose: `volume_from_rig`, mm.
        grade, reasons: the verdict.
        seconds: time it took.
        objective: at each iterate; lower is better.
        ncc: of the worst X-ray.
        registration: the whole result; None for one that a session file brought back.
    """

    name: str
    rig_pose: Float[Tensor, "4 4"]
    grade: str
    reasons: tuple[str, ...]
    seconds: float
    objective: tuple[float, ...]
    ncc: float
    registration: Registration | None = None


@dataclass(frozen=True)
class PointPair:
    """A point of the CT (mm, volume frame), and where it is seen: `(column, row)` by the number of the X-ray.

    Pixels are those of the picture as it is stored.
    """

    ct_mm: tuple[float, float, float] | None
    pixels: dict[int, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class State:
    """All that is open.

    Attributes:
        ct: the CT's files, or None.
        patient: the CT, or None.
        views: the X-rays.
        rig_pose: `volume_from_rig`, mm; one pose of the patient for all X-rays.
        pivot_mm: what turns leave in place, volume frame.
        undo, redo: poses to go back and forth to, the nearest last.
        found: poses to compare.
        points: pairs of points.
        exclude: labels that may have moved since the CT.
        truth: true pose `volume_from_rig`, mm, if one was given.
        config: file that is laid over the default configuration, or None.
        methods: names of the configuration's methods that can refine.
        method: name of the configuration's method that refines; empty for that of the search.
        study: results of a workflow, one of whose X-rays is shown; None if files are open.
        place: which of its rows.
    """

    ct: CtSource | None = None
    patient: Patient | None = None
    views: tuple[View, ...] = ()
    rig_pose: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))
    pivot_mm: Float[Tensor, "3"] = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    undo: tuple[Float[Tensor, "4 4"], ...] = ()
    redo: tuple[Float[Tensor, "4 4"], ...] = ()
    found: tuple[Found, ...] = ()
    points: tuple[PointPair, ...] = ()
    exclude: tuple[str, ...] = ()
    truth: Float[Tensor, "4 4"] | None = None
    config: Path | None = None
    methods: tuple[str, ...] = ()
    method: str = ""
    study: Study | None = None
    place: int = 0

    @property
    def known_patient(self) -> Patient:
        """The CT.

        Raises:
            InputError: none is open.
        """
        if self.patient is None:
            raise InputError("CT", "none is open", "Open a CT first")
        return self.patient

    def view(self, number: int) -> View:
        """An X-ray.

        Raises:
            InputError: there is none of that number.
        """
        if not 0 <= number < len(self.views):
            raise InputError(f"X-ray {number + 1}", "it is not open", "Open an X-ray first")
        return self.views[number]

    def pose(self, number: int) -> Float[Tensor, "4 4"]:
        """`volume_from_camera` (mm) of an X-ray."""
        return self.rig_pose @ self.view(number).shown.rig_from_camera


def with_patient(state: State, source: CtSource, patient: Patient) -> State:
    """The state with another CT, at the pose that the device states; what was found in another CT is dropped."""
    return replace(
        state,
        ct=source,
        patient=patient,
        rig_pose=expected_rig_pose(patient),
        pivot_mm=patient.center_mm,
        undo=(),
        redo=(),
        found=(),
        points=(),
        exclude=tuple(name for name in state.exclude if name in patient.label_names.values()),
    )


def with_pose(state: State, rig_pose: Float[Tensor, "4 4"]) -> State:
    """The state at another pose `volume_from_rig` (mm); the present one can be undone to."""
    undo = (*state.undo, state.rig_pose)[-UNDO_LIMIT:]
    return replace(state, rig_pose=rig_pose, undo=undo, redo=())


def rig_pose_of(state: State, number: int, pose: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """`volume_from_rig` at which an X-ray has the pose `volume_from_camera`; mm."""
    return pose @ invert(state.view(number).shown.rig_from_camera)


def undone(state: State) -> State:
    """One pose back; the same state if there is none."""
    if not state.undo:
        return state
    *rest, before = state.undo
    return replace(state, rig_pose=before, undo=tuple(rest), redo=(*state.redo, state.rig_pose))


def redone(state: State) -> State:
    """One pose forth; the same state if there is none."""
    if not state.redo:
        return state
    *rest, after = state.redo
    return replace(state, rig_pose=after, redo=tuple(rest), undo=(*state.undo, state.rig_pose))


def at_row(state: State, study: Study, place: int) -> State:
    """The state with one X-ray of a workflow's results in place of all else, at the pose that the workflow found.

    The list has that pose, where the registration began, and the true pose.
    """
    row = study.rows[place]
    xray = study.xrays[row.xray]
    rig_from_camera = xray.rig_from_camera
    poses = {row.method: row.pose, "its start": row.start, "true pose": xray.true_pose}
    told = {row.method: (row.grade, row.seconds, row.objective, row.ncc)}
    nothing = ("", 0.0, (), float("nan"))
    found = []
    for name, pose in poses.items():
        if pose is not None:
            grade, seconds, objective, ncc = told.get(name, nothing)
            found.append(Found(name, pose @ invert(rig_from_camera), grade, (), seconds, objective, ncc))
    return replace(
        state,
        ct=None,
        patient=study.patient,
        views=(View(RecordSource(study.specimen, row.xray), xray, xray),),
        rig_pose=found[0].rig_pose if found else expected_rig_pose(study.patient),
        pivot_mm=study.patient.center_mm,
        undo=(),
        redo=(),
        found=tuple(found),
        points=(),
        truth=None if xray.true_pose is None else xray.true_pose @ invert(rig_from_camera),
        place=place,
    )
