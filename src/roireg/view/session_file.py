"""The session file: which files are open, their geometry, the pose, the list of poses and the points, as JSON."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roireg.data.couch import Couch
from roireg.data.readers.camera_file import check_rigid
from roireg.data.readers.text import read_json
from roireg.errors import InputError
from roireg.report.result_files import finite
from roireg.view.sources import CtSource, XraySource
from roireg.view.state import Found, PointPair, State

REMEDY = "Give a session file that the page saved"
Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Ct(_Entry):
    path: Path
    labels: Path | None
    label_names: Path | None
    center_on: tuple[str, ...]
    rescale: tuple[float, float]
    couch: Couch = "remove"


class _Xray(_Entry):
    path: Path
    camera: Path | None
    frame: int = Field(ge=0)
    crop_px: int = Field(ge=0)
    mirror: bool
    entries: dict[str, Any] | None


class _Found(_Entry):
    name: str
    volume_from_rig: Matrix
    grade: str
    reasons: tuple[str, ...]
    seconds: float
    objective: tuple[float | None, ...]
    ncc: float | None


class _Point(_Entry):
    ct_mm: tuple[float, float, float] | None
    pixels: dict[int, tuple[float, float]]


class SessionFile(_Entry):
    """What a session file holds; poses are `volume_from_rig`, mm."""

    format: Literal["roireg session"]
    version: Literal[1]
    ct: _Ct | None
    xrays: tuple[_Xray, ...]
    volume_from_rig: Matrix
    pivot_mm: tuple[float, float, float]
    found: tuple[_Found, ...]
    points: tuple[_Point, ...]
    exclude: tuple[str, ...]

    @property
    def ct_source(self) -> CtSource | None:
        """The files of the CT."""
        return None if self.ct is None else CtSource(**self.ct.model_dump())

    @property
    def xray_sources(self) -> list[XraySource]:
        """The files of the X-rays."""
        return [XraySource(**one.model_dump()) for one in self.xrays]


def session_entries(state: State) -> dict[str, Any]:
    """The content of a session file."""
    return {
        "format": "roireg session",
        "version": 1,
        "ct": None if state.ct is None else _absolute(asdict(state.ct)),
        "xrays": [_absolute(asdict(view.file_source)) for view in state.views],
        "volume_from_rig": state.rig_pose.tolist(),
        "pivot_mm": state.pivot_mm.tolist(),
        "found": [
            {
                "name": one.name,
                "volume_from_rig": one.rig_pose.tolist(),
                "grade": one.grade,
                "reasons": list(one.reasons),
                "seconds": one.seconds,
                "objective": [finite(value) for value in one.objective],
                "ncc": finite(one.ncc),
            }
            for one in state.found
        ],
        "points": [asdict(one) for one in state.points],
        "exclude": list(state.exclude),
    }


def _absolute(entries: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in entries.items()}


def read_session(path: str | Path) -> SessionFile:
    """Read a session file.

    Raises:
        InputError: it is none.
    """
    entries = read_json(path, REMEDY)
    if not isinstance(entries, dict) or entries.get("format") != "roireg session":
        raise InputError(path, 'it is not a session file (no "format": "roireg session")', REMEDY)
    try:
        session = SessionFile(**entries)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}", first["msg"], REMEDY) from None
    for matrix in (session.volume_from_rig, *(one.volume_from_rig for one in session.found)):
        check_rigid(f"{path}: volume_from_rig", torch.tensor(matrix, dtype=torch.float64).numpy())
    return session


def check_open(state: State, session: SessionFile) -> None:
    """Check that files of the session's names are open: a page may not open files by their paths.

    Raises:
        InputError: others are open.
    """
    own = [] if state.ct is None else [state.ct.path.name]
    have = [*own, *(view.source.path.name for view in state.views)]
    want = [*([] if session.ct is None else [session.ct.path.name]), *(one.path.name for one in session.xrays)]
    if have != want:
        what = f"it is of {', '.join(want) or 'no files'}, and open is {', '.join(have) or 'nothing'}"
        raise InputError("session", what, "Open these files first, or start `roireg view` with the session file")


def resumed(state: State, session: SessionFile) -> State:
    """The state, in which the session's files are open, with all else that the session holds."""
    names = () if state.patient is None else tuple(state.patient.label_names.values())
    return replace(
        state,
        rig_pose=torch.tensor(session.volume_from_rig, dtype=torch.float64),
        pivot_mm=torch.tensor(session.pivot_mm, dtype=torch.float64),
        undo=(),
        redo=(),
        found=tuple(_found(one) for one in session.found),
        points=tuple(PointPair(one.ct_mm, one.pixels) for one in session.points),
        exclude=tuple(name for name in session.exclude if name in names),
    )


def _found(one: _Found) -> Found:
    nan = float("nan")
    return Found(
        name=one.name,
        rig_pose=torch.tensor(one.volume_from_rig, dtype=torch.float64),
        grade=one.grade,
        reasons=one.reasons,
        seconds=one.seconds,
        objective=tuple(nan if value is None else value for value in one.objective),
        ncc=nan if one.ncc is None else one.ncc,
    )
