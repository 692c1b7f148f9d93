"""What the page is told, as JSON: what is open, where the patient is, and how a registration goes."""

from dataclasses import asdict
from typing import Any

from jaxtyping import Float
from torch import Tensor

from roireg.errors import InputError
from roireg.figures.overlay import side_letters
from roireg.geometry.camera import Camera, project
from roireg.geometry.se3 import transform_points
from roireg.register.judgement import projection_shift_mm
from roireg.report.result_files import finite
from roireg.view.geometry import camera_entries
from roireg.view.pose_numbers import numbers_of
from roireg.view.sources import View
from roireg.view.state import Found, State
from roireg.view.study import Study
from roireg.view.workbench import Job, Workbench


def pose_entries(state: State) -> dict[str, Any]:
    """Where the patient is, for each X-ray: numbers, where the pivot is seen, and which side is where."""
    if state.patient is None:
        return {"type": "pose", "views": [], "undo": False, "redo": False, "truth_mm": None}
    views = []
    for number, view in enumerate(state.views):
        pose = state.pose(number)
        pivot = project(state.pivot_mm[None], view.shown.camera, pose)[0].tolist()
        views.append(
            {
                "numbers": asdict(numbers_of(pose, state.patient.center_mm)),
                "pivot_px": finite(pivot),
                "sides": side_letters(view.shown.camera, pose),
                "source_mm": pose[:3, 3].tolist(),
                "corners_mm": _corners_mm(view.shown.camera, pose),
            }
        )
    return {
        "type": "pose",
        "views": views,
        "undo": bool(state.undo),
        "redo": bool(state.redo),
        "truth_mm": finite(from_truth_mm(state, state.rig_pose)),
    }


def _corners_mm(camera: Camera, pose: Float[Tensor, "4 4"]) -> list[list[float]]:
    """Corners of the detector in the volume frame: top left, top right, bottom right, bottom left."""
    right, bottom = camera.width - 0.5, camera.height - 0.5
    pixels = [[-0.5, -0.5, 1.0], [right, -0.5, 1.0], [right, bottom, 1.0], [-0.5, bottom, 1.0]]
    on_detector = camera.intrinsics_px.new_tensor(pixels) @ camera.rays_mm().T
    return transform_points(pose, on_detector).tolist()


def from_truth_mm(state: State, rig_pose: Float[Tensor, "4 4"]) -> float | None:
    """Mean distance on the detector (mm; the mpd) from the true pose, the worst X-ray's; None if it is not known."""
    if state.truth is None or state.patient is None or not state.views:
        return None
    points = state.patient.error_points_mm
    pairs = [(view.shown.camera, view.shown.rig_from_camera) for view in state.views]
    return max(projection_shift_mm(state.truth @ rig, rig_pose @ rig, camera, points) for camera, rig in pairs)


def state_entries(workbench: Workbench) -> dict[str, Any]:
    """What is open, and the registration that runs or ran last."""
    state, job = workbench.state, workbench.job
    return {
        "type": "state",
        "ct": _ct(state),
        "views": [_view(view) for view in state.views],
        "found": [_found(state, one) for one in state.found],
        "points": [{"ct_mm": one.ct_mm, "pixels": one.pixels} for one in state.points],
        "exclude": list(state.exclude),
        "method": state.method,
        "methods": list(state.methods),
        "job": None if job is None else _job(job),
        "out": None if workbench.out is None else str(workbench.out),
        "study": None if state.study is None else _study(state.study, state.place),
    }


def _study(study: Study, place: int) -> dict[str, Any]:
    rows = [{"name": row.xray, "grade": row.grade, "mpd_mm": finite(row.mpd_mm)} for row in study.rows]
    return {"name": study.name, "place": place, "rows": rows}


def _ct(state: State) -> dict[str, Any] | None:
    patient = state.patient
    if patient is None:
        return None
    return {
        "name": patient.name,
        "facts": patient.facts,
        "warnings": list(patient.warnings),
        "labels": list(patient.label_names.values()),
        "voxels": list(patient.volume.values.shape[::-1]),
        "volume_from_voxel": patient.volume.volume_from_voxel.tolist(),
        "spacing_mm": patient.volume.spacing_mm.tolist(),
    }


def _view(view: View) -> dict[str, Any]:
    shown, fault = view.shown, ""
    try:
        entries = camera_entries(view.file_source, shown)
    except InputError as error:
        entries, fault = {}, str(error)
    stored = shown.camera if shown.stored_camera is None else shown.stored_camera
    return {
        "name": shown.name,
        "width": shown.camera.width,
        "height": shown.camera.height,
        "stored_from_shown": (stored.intrinsics_px @ shown.camera.intrinsics_px.inverse()).tolist(),
        "geometry": entries,
        "geometry_fault": fault,
        "crop_px": view.source.crop_px,
        "facts": [asdict(fact) for fact in shown.facts],
        "warnings": list(shown.warnings),
    }


def _found(state: State, one: Found) -> dict[str, Any]:
    return {
        "name": one.name,
        "grade": one.grade,
        "reasons": list(one.reasons),
        "seconds": one.seconds,
        "objective": [finite(value) for value in one.objective],
        "ncc": finite(one.ncc),
        "truth_mm": finite(from_truth_mm(state, one.rig_pose)),
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "kind": job.kind,
        "lines": list(job.lines),
        "running": job.running,
        "stopping": job.stopping,
        "error": job.error,
    }
