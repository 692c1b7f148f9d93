"""Results of the workflow to step through: the registrations of one specimen by one method, worst first."""

import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.pose_results import TraceRecord, pose_of_row, read_traces
from roireg.data.records import read_specimen
from roireg.data.xray import Xray
from roireg.errors import InputError

REMEDY = "Give results/NAME/registrations/METHOD/SPECIMEN.csv of a run that has ended"
NEEDED = ("specimen", "projection", "method", "mpd_mm", "verdict", "ncc", "seconds", "pose_00", "pose_23")


@dataclass(frozen=True, eq=False)
class Row:
    """A registration of the workflow; poses are `volume_from_camera`, mm.

    Attributes:
        xray: name of the X-ray.
        method: name of the method.
        grade: the verdict.
        mpd_mm: error at the landmarks; NaN without a result.
        ncc: agreement of the images.
        seconds: time it took.
        pose: what was found; None without a result.
        start: where it began; None if the trace is not there.
        objective: at each iterate; lower is better.
    """

    xray: str
    method: str
    grade: str
    mpd_mm: float
    ncc: float
    seconds: float
    pose: Float[Tensor, "4 4"] | None
    start: Float[Tensor, "4 4"] | None
    objective: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Study:
    """A specimen and its registrations.

    Attributes:
        name: what it is called in the page.
        specimen: the specimen's file.
        patient, xrays: what is in it, the X-rays by name.
        rows: the registrations, those without a result first, then by falling error.
    """

    name: str
    specimen: Path
    patient: Patient
    xrays: dict[str, Xray]
    rows: tuple[Row, ...]


def read_study(path: Path) -> Study:
    """Read the results of a specimen, and the specimen that they are of.

    Args:
        path: `registrations/{method}/{specimen}.csv` in a folder of results (docs/results.md).

    Raises:
        InputError: it is no such file, or the specimen's is not there.
    """
    table = _table(path)
    folder, method = path.resolve().parents[2], str(table["method"].iloc[0])
    specimen = folder / "specimens" / f"{path.stem}.h5"
    if not specimen.is_file():
        raise InputError(path, f"the specimen that it is of is not there ({specimen})", REMEDY)
    try:
        patient, found = read_specimen(specimen)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(specimen, f"it cannot be read ({error})", "Run the workflow again") from None
    xrays = {xray.name: xray for xray in found}
    unknown = [name for name in table["projection"] if name not in xrays]
    if unknown:
        raise InputError(path, f"{specimen} has no X-ray {unknown[0]}", "Run the workflow again")
    traces = _traces(folder / "traces" / path.parent.name / f"{path.stem}.h5")
    rows = [_row(row, traces.get(str(row["projection"]))) for _, row in table.iterrows()]
    rows.sort(key=lambda row: -math.inf if math.isnan(row.mpd_mm) else -row.mpd_mm)
    return Study(f"{method}, {patient.name}", specimen, patient, xrays, tuple(rows))


def _table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"projection": str, "specimen": str, "method": str, "verdict": str})
    except FileNotFoundError:
        raise InputError(path, "there is no such file", REMEDY) from None
    except (OSError, ValueError) as error:
        raise InputError(path, f"it is no table ({error})", REMEDY) from None
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise InputError(path, f"it has no column {missing[0]}", REMEDY)
    if table.empty:
        raise InputError(path, "it has no rows", REMEDY)
    for name in ("mpd_mm", "ncc", "seconds", *(column for column in table.columns if column.startswith("pose_"))):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise InputError(path, f"column {name} has something else than numbers", REMEDY)
    return table


def _traces(path: Path) -> dict[str, TraceRecord]:
    """The traces by X-ray; none if the file is not there."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return {}
    return read_traces(path)


def _row(row: pd.Series, trace: TraceRecord | None) -> Row:
    pose = pose_of_row(row)
    return Row(
        xray=str(row["projection"]),
        method=str(row["method"]),
        grade="" if pd.isna(row["verdict"]) else str(row["verdict"]),
        mpd_mm=float(row["mpd_mm"]),
        ncc=float(row["ncc"]),
        seconds=float(row["seconds"]),
        pose=pose if bool(pose.isfinite().all()) else None,
        start=None if trace is None else trace.poses[0],
        objective=() if trace is None else tuple(float(value) for value in trace.objective[: trace.best + 1]),
    )
