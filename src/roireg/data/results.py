"""Reading results: rows of registrations and of Dice, estimated poses, and traces."""

from collections.abc import Iterable, Mapping
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
    """A trace as it is stored: its method, `(N, 4, 4)` poses, `(N,)` objective and mpd, index of the best iterate.

    `terms` are the `(N,)` parts of the objective by name, if it has parts.
    """

    method: str
    poses: Float[Tensor, "N 4 4"]
    objective: np.ndarray
    mpd_mm: np.ndarray
    best: int
    terms: dict[str, np.ndarray]


def read_registrations(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Rows of many registration files; specimen and projection stay text."""
    names = {"specimen": str, "projection": str, "method": str}
    return pd.concat(
        [pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""]) for path in paths], ignore_index=True
    )


def read_dice(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Rows of many files of Dice: `specimen, segmenter, projection, image, roi, dice`; names stay text."""
    names = dict.fromkeys(("specimen", "segmenter", "projection", "image", "roi"), str)
    return pd.concat(
        [pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""]) for path in paths], ignore_index=True
    )


def pose_of_row(row: Mapping[str, Any] | pd.Series) -> Float[Tensor, "4 4"]:
    """`volume_from_camera` from the columns `pose_00` to `pose_23` of a result row."""
    upper = torch.tensor([[float(row[f"pose_{r}{c}"]) for c in range(4)] for r in range(3)], dtype=torch.float64)
    return torch.cat([upper, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)])


def read_estimates(path: str | Path) -> dict[str, Estimate]:
    """Estimates by the X-ray's name, from the file of a specimen that `estimate_poses` wrote."""
    rows = pd.read_csv(path, dtype={"projection": str}, keep_default_na=False)
    return {row["projection"]: Estimate(pose_of_row(row), float(row["seconds"])) for _, row in rows.iterrows()}


def read_traces(path: str | Path) -> dict[str, TraceRecord]:
    """What `write_traces` wrote, by projection."""
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
