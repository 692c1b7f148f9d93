"""What a registration of bones leaves behind: a pose file with an entry for each bone, and pictures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roireg import __version__
from roireg.data.patient import Patient
from roireg.data.writers.poses import camera_entries, pose_entries, write_json
from roireg.figures.bone_overlay import write_bone_overlay
from roireg.figures.overlay import assumed
from roireg.register.bone_judgement import BoneResult
from roireg.report.result_files import UNCERTAINTY, finite, folders_of


def bone_entries(result: BoneResult, view: int) -> dict[str, Any]:
    """What `pose.json` holds of one bone in one X-ray."""
    one = result.views[view]
    predicted = {name: finite(value) for name, value in asdict(one.spread).items()}
    return {
        "name": result.bone.name,
        "volume_from_camera": one.pose.tolist(),
        "volume_from_rig": result.rig_pose.tolist(),
        "verdict": str(result.verdict.grade),
        "reasons": list(result.verdict.reasons),
        "evidence": {
            "ncc": one.ncc,
            "held": result.held,
            "shown": result.shown,
            "from_start_sd": result.from_start,
        },
        "uncertainty": {"what": UNCERTAINTY, **predicted},
        "covariance": {
            "what": "of the twist (rotation in rad, translation in mm; volume axes) about center_mm, left of the pose",
            "center_mm": result.bone.center_mm.tolist(),
            "matrix": result.covariance.tolist(),
        },
        "bone_points_mm": result.bone.points_mm.tolist(),
    }


def write_bones(folder: str | Path, patient: Patient, results: Sequence[BoneResult]) -> list[Path]:
    """Write pose.json and overlay.png; for several views in a folder each.

    The pose at the top of pose.json is that of the first bone; all are under `bones`.

    Returns:
        The folders that hold them.
    """
    xrays = [one.xray for one in results[0].views]
    folders = folders_of(Path(folder), [xray.name for xray in xrays])
    for view, (own, xray) in enumerate(zip(folders, xrays, strict=True)):
        first = results[0].views[view]
        entries = {
            **pose_entries(first.pose, xray.camera),
            "camera_of_the_stored_image": None if xray.stored_camera is None else camera_entries(xray.stored_camera),
            "roireg": __version__,
            "method": "bones",
            "ct": patient.name,
            "xray": xray.name,
            "views_registered_together": [other.name for other in xrays],
            "verdict": str(results[0].verdict.grade),
            "warnings": [*patient.warnings, *xray.warnings],
            "geometry": [asdict(fact) for fact in xray.facts],
            "bone_points_mm": results[0].bone.points_mm.tolist(),
            "bones": [bone_entries(result, view) for result in results],
        }
        write_json(own / "pose.json", entries)
        poses = [result.views[view].pose for result in results]
        title = "; ".join(f"{result.bone.name}: {result.verdict.grade}" for result in results)
        bones = [result.bone for result in results]
        write_bone_overlay(own / "overlay.png", bones, xray, poses, title, assumed(patient, xray))
    return folders
