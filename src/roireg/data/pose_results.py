"""Reads results that hold poses: registrations, estimates and traces. docs/results.md describes the files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.estimate import Estimate


@dataclass(frozen=True, eq=False)
class TraceRecord:
    """The stored trace of one registration.

    Attributes:
        method: name of the method.
        poses: pose of each iterate, `volume_from_camera`, mm; the first is the initial pose.
        objective: `(N,)` objective of each iterate; lower is better.
        mpd_mm: `(N,)` error of each iterate, mm.
        best: index of the iterate that is the result.
        terms: `(N,)` terms of the objective by name; empty if it has a single term.
    """

    method: str
    poses: Float[Tensor, "N 4 4"]
    objective: np.ndarray
    mpd_mm: np.ndarray
    best: int
    terms: dict[str, np.ndarray]


def pose_of_row(row: Mapping[str, Any] | pd.Series) -> Float[Tensor, "4 4"]:
    """The pose `volume_from_camera` in the columns `pose_00` to `pose_23` of a row."""
    upper = torch.tensor([[float(row[f"pose_{r}{c}"]) for c in range(4)] for r in range(3)], dtype=torch.float64)
    return torch.cat([upper, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)])


def read_estimates(path: str | Path) -> dict[str, Estimate]:
    """Estimates by X-ray, from a file written by the rule `estimate_poses`."""
    rows = pd.read_csv(path, dtype={"projection": str}, keep_default_na=False)
    return {row["projection"]: Estimate(pose_of_row(row), float(row["seconds"])) for _, row in rows.iterrows()}


def read_traces(path: str | Path) -> dict[str, TraceRecord]:
    """Read a file written by `write_traces`: the traces by projection."""
    with h5py.File(path, "r") as file:
        return {
            name: TraceRecord(
                method=group.attrs["method"],
                poses=torch.from_numpy(group["poses"][()]),
                objective=group["objective"][()],
                mpd_mm=group["mpd_mm"][()],
                best=int(group.attrs["best"]),
                terms={term: values[()] for term, values in group.get("terms", {}).items()},
            )
            for name, group in sorted(file.items())
        }
