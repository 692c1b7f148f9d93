"""What the registration of a sequence leaves behind: a folder for each frame, and poses.csv, motion.png and a GIF."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.figures.motion import write_motion
from roireg.files import write_rows
from roireg.geometry.se3 import invert, transform_points
from roireg.geometry.so3 import rotation_vector
from roireg.register.bone_judgement import BoneResult
from roireg.register.registration import Registration
from roireg.register.uncertainty import Spread


@dataclass(frozen=True, eq=False)
class View:
    """A body in one X-ray: pose `volume_from_camera` (mm), NCC, and predicted standard deviations."""

    xray: Xray
    pose: Float[Tensor, "4 4"]
    ncc: float
    spread: Spread


@dataclass(frozen=True, eq=False)
class Moment:
    """Where a body (the CT, or a bone of it) was in a frame.

    Attributes:
        frame: number of the frame.
        body: the bone's name, or the CT's.
        grade: the verdict.
        center_mm: the body's middle, volume frame.
        rig_pose: `volume_from_rig`, mm.
        views: the X-rays of this frame.
    """

    frame: int
    body: str
    grade: str
    center_mm: Float[Tensor, "3"]
    rig_pose: Float[Tensor, "4 4"]
    views: tuple[View, ...]


def moment_of(frame: int, patient: Patient, result: Registration) -> Moment:
    """Where the patient was."""
    views = tuple(View(one.xray, one.pose, one.evidence.ncc, one.spread) for one in result.xrays)
    return Moment(frame, patient.name, str(result.verdict.grade), patient.center_mm, result.rig_pose, views)


def moments_of_bones(frame: int, results: Sequence[BoneResult]) -> list[Moment]:
    """Where each bone was."""
    return [
        Moment(
            frame,
            one.bone.name,
            str(one.verdict.grade),
            one.bone.center_mm,
            one.rig_pose,
            tuple(View(view.xray, view.pose, view.ncc, view.spread) for view in one.views),
        )
        for one in results
    ]


def sequence_rows(moments: Iterable[Moment]) -> list[dict[str, Any]]:
    """One row for each frame, body and X-ray; docs/results.md describes the columns.

    The motion is that of the body since its first frame, in the axes of the first X-ray's camera of that frame:
    translation of its middle, and the rotation vector.
    """
    rows: list[dict[str, Any]] = []
    first: dict[str, tuple[Tensor, Tensor]] = {}
    for one in moments:
        rig_from_axes, start = first.setdefault(one.body, (one.views[0].xray.rig_from_camera, one.rig_pose))
        began, ended = invert(start @ rig_from_axes), invert(one.rig_pose @ rig_from_axes)
        motion = ended @ invert(began)
        shift = transform_points(ended, one.center_mm[None])[0] - transform_points(began, one.center_mm[None])[0]
        turned = torch.rad2deg(rotation_vector(motion[:3, :3])).tolist()
        moved = shift.tolist()
        rows += [
            {
                "frame": one.frame,
                "body": one.body,
                "xray": view.xray.name,
                "verdict": one.grade,
                "ncc": view.ncc,
                "projection_sd_mm": view.spread.projection_mm,
                "across_sd_mm": view.spread.across_mm,
                "down_sd_mm": view.spread.down_mm,
                "depth_sd_mm": view.spread.depth_mm,
                **{f"motion_{axis}_mm": value for axis, value in zip("xyz", moved, strict=True)},
                **{f"motion_{axis}_deg": value for axis, value in zip("xyz", turned, strict=True)},
                **{f"pose_{r}{c}": float(view.pose[r, c]) for r in range(3) for c in range(4)},
            }
            for view in one.views
        ]
    return rows


def write_sequence(folder: Path, moments: Sequence[Moment]) -> list[Path]:
    """Write poses.csv and motion.png.

    Returns:
        The files.
    """
    rows = sequence_rows(moments)
    write_rows(folder / "poses.csv", rows)
    of_first_xray = {(row["frame"], row["body"]): row for row in reversed(rows)}
    write_motion(folder / "motion.png", [*reversed(of_first_xray.values())])
    return [folder / "poses.csv", folder / "motion.png"]


def frame_folder(folder: Path, frame: int) -> Path:
    """Where the files of one frame are."""
    return folder / f"frame-{frame:04d}"
