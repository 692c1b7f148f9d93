"""Writes the result of a registration: `pose.json`, poses for other programs, and pictures."""

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
    "Standard deviations of translation along, and rotation about, the camera's axes at the patient's centre, "
    "predicted from the images. Depth is along the central ray, the direction that a single view determines least. "
    "projection_mm: standard deviation of the position of projected bone on the detector."
)


def result_entries(patient: Patient, result: Registration, one: XrayResult) -> dict[str, Any]:
    """The content of `pose.json` for one X-ray; docs/results.md describes each entry."""
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
            "what": "of a twist (rotation in rad, then translation in mm; volume axes) that rotates about center_mm "
            "and multiplies the pose from the left",
            "center_mm": patient.center_mm.tolist(),
            "matrix": [[finite(value) for value in row] for row in result.judged.covariance.tolist()],
        },
        "volume_from_rig": result.rig_pose.tolist(),
        "bone_points_mm": one.bone_points_mm.tolist(),
        "geometry": [asdict(fact) for fact in one.xray.facts],
        "seconds": result.seconds,
    }


def finite(value: Any) -> Any:
    """The value with NaN and infinity replaced by None, which JSON can hold; sequences become lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [finite(item) for item in value] if isinstance(value, tuple | list) else value


def write_result(folder: str | Path, patient: Patient, result: Registration, animate: bool = False) -> list[Path]:
    """Write pose.json, pose.txt, pose.tfm, points.mrk.json and overlay.png; several X-rays get a subfolder each.

    Args:
        folder: output folder, created if missing.
        patient: the patient that was registered.
        result: returned by `register_xrays`.
        animate: write optimization.gif as well.

    Returns:
        The folders with the files, one for each X-ray.
    """
    folders = folders_of(Path(folder), [one.xray.name for one in result.xrays])
    for own, one in zip(folders, result.xrays, strict=True):
        entries = result_entries(patient, result, one)
        stored = StoredPose(one.pose, one.xray.camera, one.bone_points_mm)
        write_json(own / "pose.json", entries)
        write_matrix(own / "pose.txt", stored)
        write_itk(own / "pose.tfm", stored)
        write_slicer_points(own / "points.mrk.json", stored)
        title = f"{patient.name}: {one.verdict.grade}. {one.verdict.reasons[0]}"
        write_overlay(own / "overlay.png", patient, one.xray, one.pose, title, one.counted)
        if animate:
            poses = [rig_pose @ one.xray.rig_from_camera for rig_pose in result.trace.poses]
            write_gif(own / "optimization.gif", patient, one.xray, poses)
    return folders


def folders_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folder of each X-ray: `folder` itself for a single one, otherwise a subfolder named after the X-ray.

    X-rays of the same name get a number appended.
    """
    if len(names) == 1:
        return [folder]
    stems = [Path(name).name.split(".")[0] for name in names]
    return [folder / (stem if stems.count(stem) == 1 else f"{stem}-{n}") for n, stem in enumerate(stems, start=1)]
