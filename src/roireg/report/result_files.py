"""What a registration leaves behind: poses for other programs, and pictures."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roireg import __version__
from roireg.data.patient import Patient
from roireg.data.writers.poses import (
    StoredPose,
    camera_entries,
    pose_entries,
    write_itk,
    write_json,
    write_matrix,
    write_slicer_points,
)
from roireg.figures.overlay import write_gif, write_overlay
from roireg.register.judgement import XrayResult
from roireg.register.registration import Registration

UNCERTAINTY = (
    "Standard deviations along and about the camera's axes at the patient's centre, predicted from the images. Depth "
    "is along the central ray: what a single view sees least of. projection_mm: of the shadows of bone on the detector."
)


def result_entries(patient: Patient, result: Registration, one: XrayResult) -> dict[str, Any]:
    """What `pose.json` holds of one view."""
    predicted, stored = asdict(one.spread), one.xray.stored_camera
    return {
        **pose_entries(one.pose, one.xray.camera),
        "camera_of_the_stored_image": None if stored is None else camera_entries(stored),
        "roireg": __version__,
        "method": result.method,
        "ct": patient.name,
        "xray": one.xray.name,
        "views_registered_together": [other.xray.name for other in result.xrays],
        "verdict": str(one.verdict.grade),
        "reasons": list(one.verdict.reasons),
        "warnings": [*patient.warnings, *one.xray.warnings],
        "evidence": {name: finite(value) for name, value in asdict(one.evidence).items()},
        "uncertainty": {"what": UNCERTAINTY, **{name: finite(value) for name, value in predicted.items()}},
        "covariance": {
            "what": "of the twist (rotation in rad, translation in mm; volume axes) about center_mm, left of the pose",
            "center_mm": patient.center_mm.tolist(),
            "matrix": [[finite(value) for value in row] for row in result.judged.covariance.tolist()],
        },
        "volume_from_rig": result.rig_pose.tolist(),
        "bone_points_mm": one.bone_points_mm.tolist(),
        "geometry": [asdict(fact) for fact in one.xray.facts],
        "seconds": result.seconds,
    }


def finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [finite(item) for item in value] if isinstance(value, tuple | list) else value


def write_result(folder: str | Path, patient: Patient, result: Registration, animate: bool = False) -> list[Path]:
    """Write pose.json, pose.txt, pose.tfm, points.mrk.json and overlay.png; for several views in a folder each.

    Args:
        folder: is made.
        patient, result: of `register_xrays`.
        animate: also optimization.gif.

    Returns:
        The folders that hold them.
    """
    folders = folders_of(Path(folder), [one.xray.name for one in result.xrays])
    for own, one in zip(folders, result.xrays, strict=True):
        entries = result_entries(patient, result, one)
        stored = StoredPose(one.pose, one.xray.camera, entries)
        write_json(own / "pose.json", entries)
        write_matrix(own / "pose.txt", stored)
        write_itk(own / "pose.tfm", stored)
        write_slicer_points(own / "points.mrk.json", stored)
        title = f"{patient.name}: {one.verdict.grade}. {one.verdict.reasons[0]}"
        write_overlay(own / "overlay.png", patient, one.xray, one.pose, title)
        if animate:
            poses = [rig_pose @ one.xray.rig_from_camera for rig_pose in result.trace.poses]
            write_gif(own / "optimization.gif", patient, one.xray, poses)
    return folders


def folders_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folder itself for one view; for several one in it each, with a number where names are the same."""
    if len(names) == 1:
        return [folder]
    stems = [Path(name).name.split(".")[0] for name in names]
    return [folder / (stem if stems.count(stem) == 1 else f"{stem}-{n}") for n, stem in enumerate(stems, start=1)]
