"""Collects the evidence of a dataset: landmarks, pose and flags of every X-ray; DRRs and labels for a few of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
import torch

from roireg.check.evidence import (
    Agreement,
    Scan,
    StoredView,
    agreement,
    is_camera,
    landmark_residual_px,
    uncovered_fraction,
)
from roireg.check.hypotheses import Explanation, explain
from roireg.data import deepfluoro
from roireg.data.deepfluoro_records import Grid, ProjectionParameters
from roireg.data.preprocess import RAW_INTENSITY, preprocess_labels, preprocess_pixels
from roireg.data.volume import AttenuationSettings, Volume, attenuation_settings
from roireg.errors import InputError
from roireg.geometry.camera import project
from roireg.geometry.se3 import invert, transform_points

SHIFTS_VOXELS = (-0.5, 0.0, 0.5)
IMAGE_PX = 256
# Sizes for testing hypotheses, whose effect is much larger than half a voxel.
COARSE_PX = 96
COARSE_VOXEL_MM = 2.0
EXPLAINED_VIEWS = 3
# Margin of the image that a collimator may cover, as a fraction of its side: 51 of 1536 px.
CROP_FRACTION = 1 / 30
UP_MM = 20.0
GRID_MM = 1e-2


@dataclass(frozen=True)
class CheckSettings:
    """Settings of a check.

    Attributes:
        rois: names of labels that the run needs.
        ct_shift_voxels: `prepare.ct_shift_voxels` of the config.
        attenuation: conversion of HU for the DRRs, as in `prepare`.
        xrays: number of X-rays of each specimen that are compared with DRRs, evenly spaced over all of them.
    """

    rois: tuple[str, ...]
    ct_shift_voxels: float
    attenuation: AttenuationSettings
    xrays: int


def settings_from_config(prepare: Mapping[str, Any], rois: Sequence[str], xrays: int) -> CheckSettings:
    """Settings from the config's `prepare` and `rois`."""
    return CheckSettings(tuple(rois), prepare["ct_shift_voxels"], attenuation_settings(prepare), xrays)


@dataclass(frozen=True)
class LabelRow:
    """A label of a CT: its id, name, number of voxels, and their median HU (NaN if its grid differs from the CT's)."""

    label: int
    name: str
    voxels: int
    median_hu: float


@dataclass(frozen=True)
class ViewRow:
    """Evidence that is collected for every X-ray.

    Attributes:
        name: name of the projection.
        landmarks_px: see `Agreement`.
        rigid: whether all stored poses are a rotation and a translation.
        depth: distance of the CT's centre from the source along the camera's z axis, as a fraction of the distance
            from source to detector; NaN if the parameters describe no camera.
        in_picture: whether the CT's centre is projected into the image.
        upright: whether the patient's head is up after applying `rot-180-for-up`.
        turned, good_fov: the flags `rot-180-for-up` and `good-fov`; None if missing.
    """

    name: str
    landmarks_px: float
    rigid: bool
    depth: float
    in_picture: bool
    upright: bool
    turned: bool | None
    good_fov: bool | None


@dataclass(frozen=True, eq=False)
class SpecimenCheck:
    """All evidence of one specimen.

    Attributes:
        name: name of the specimen.
        ct_grid, labels_grid: the grids of CT and labels, described in words.
        labels: every label.
        views: every X-ray.
        shifts: agreement for each of `SHIFTS_VOXELS`, by X-ray; empty if a mistake was found.
        uncovered: fraction of the rays that leave through the CT's ends, by X-ray.
        explanation: the mistake that explains the evidence, or None.
        stored: agreement at the stored poses, at coarse resolution, for the X-rays with which mistakes were tested.
        faults: descriptions of what could not be read.
        scan, shown: the CT and the X-rays of the figure.
    """

    name: str
    ct_grid: str
    labels_grid: str
    labels: tuple[LabelRow, ...]
    views: tuple[ViewRow, ...]
    shifts: dict[str, tuple[Agreement, ...]]
    uncovered: dict[str, float]
    explanation: Explanation | None
    stored: tuple[Agreement, ...]
    faults: tuple[str, ...]
    scan: Scan
    shown: tuple[StoredView, ...]


def spread(names: Sequence[str], count: int) -> list[str]:
    """At most `count` of the names, evenly spaced."""
    picks = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    return [names[pick] for pick in dict.fromkeys(picks.tolist())]


def check_specimen(file: h5py.File, name: str, settings: CheckSettings) -> SpecimenCheck:
    """Collect the evidence of a specimen. Faults that leave something to compare are recorded and not raised.

    Raises:
        InputError: CT, C-arm or X-rays cannot be read at all.
    """
    parameters = deepfluoro.stored_parameters(file)
    ct = deepfluoro.read_grid(file, f"{name}/vol")
    names = deepfluoro.read_label_names(file, name)
    ids, faults = _label_grid(file, name, ct)
    try:
        hu = torch.from_numpy(ct.pixels).float()
        mu = settings.attenuation.of(hu)
    except InputError as error:
        raise InputError(f"{file.filename}:{name}/vol/pixels", error.what, error.remedy) from None
    labels = None
    if ids is not None:
        labels = Volume(torch.from_numpy(ids.pixels.astype(np.uint8)), torch.from_numpy(ids.volume_from_voxel()))
    scan = Scan(
        Volume(mu, torch.from_numpy(ct.volume_from_voxel())), labels, names, deepfluoro.read_landmarks_mm(file, name)
    )
    keys = deepfluoro.projection_names(file, name)
    rows = tuple(_view_row(file, name, key, parameters, scan) for key in keys)
    chosen = spread([row.name for row in rows if row.rigid], settings.xrays)
    views = tuple(_stored_view(file, name, key, parameters) for key in chosen)
    explanation: Explanation | None = None
    stored: tuple[Agreement, ...] = ()
    if views:
        few = [_coarse(view) for view in views if view.name in spread(chosen, EXPLAINED_VIEWS)]
        found, explanation = explain(_coarse_scan(scan), few)
        stored = tuple(found)
    shifts, uncovered = {}, {}
    if explanation is None and is_camera(parameters):
        scans = [scan.shifted(shift) for shift in SHIFTS_VOXELS]
        shifts = {view.name: tuple(agreement(one, view) for one in scans) for view in views}
        uncovered = {view.name: uncovered_fraction(scan, view) for view in views}
    return SpecimenCheck(
        name=name,
        ct_grid=_in_words(ct),
        labels_grid="none" if ids is None else _in_words(ids),
        labels=_label_rows(names, ct, ids),
        views=rows,
        shifts=shifts,
        uncovered=uncovered,
        explanation=explanation,
        stored=stored,
        faults=tuple(faults),
        scan=scan,
        shown=views[:EXPLAINED_VIEWS],
    )


def _label_grid(file: h5py.File, name: str, ct: Grid) -> tuple[Grid | None, list[str]]:
    """The labels on the grid of their own header (the CT's grid if they have no header), and faults found."""
    key = f"{name}/vol-seg/image"
    try:
        found = deepfluoro.read_grid(file, key)
    except InputError as error:
        if "missing" not in error.what or f"{key}/pixels" not in file:
            return None, [str(error)]
        found = replace(ct, pixels=np.asarray(file[f"{key}/pixels"][()]))
    differences = []
    if found.pixels.shape != ct.pixels.shape:
        differences.append(f"shape {found.pixels.shape} instead of {ct.pixels.shape}")
    for what in ("spacing_mm", "origin_mm", "direction"):
        ours, theirs = getattr(found, what), getattr(ct, what)
        if not np.allclose(ours, theirs, rtol=1e-3, atol=GRID_MM):
            differences.append(
                f"{what.replace('_mm', ' (mm)')} {np.round(ours, 3).tolist()} instead of {np.round(theirs, 3).tolist()}"
            )
    if differences:
        remedy = "Resample the labels onto the grid of the CT"
        return found, [f"{name}: the grid of the labels differs from the CT's: {'; '.join(differences)}. {remedy}"]
    return found, []


def _in_words(grid: Grid) -> str:
    voxels = " x ".join(map(str, grid.pixels.shape[::-1]))
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing_mm)
    origin = ", ".join(f"{x:.1f}" for x in grid.origin_mm)
    axes = "LPS axes" if np.allclose(grid.direction, np.eye(3), atol=1e-3) else "other axes than LPS"
    return f"{voxels} voxels of {spacing} mm from ({origin}) mm, {axes}, {grid.pixels.dtype}"


def _label_rows(names: dict[int, str], ct: Grid, ids: Grid | None) -> tuple[LabelRow, ...]:
    rows = []
    for label, name in sorted(names.items()):
        inside = np.zeros(0, bool) if ids is None else ids.pixels == label
        same = ids is not None and ids.pixels.shape == ct.pixels.shape and bool(inside.any())
        rows.append(LabelRow(label, name, int(inside.sum()), float(np.median(ct.pixels[inside])) if same else np.nan))
    return tuple(rows)


def _view_row(file: h5py.File, specimen: str, name: str, parameters: ProjectionParameters, scan: Scan) -> ViewRow:
    poses = deepfluoro.stored_poses(file, specimen, name)
    view = StoredView(
        name,
        parameters,
        poses,
        deepfluoro.read_landmarks_px(file, specimen, name),
        torch.zeros(1, 1),
        None,
        0,
    )
    turned = deepfluoro.read_flag(file, specimen, name, "rot-180-for-up")
    good_fov = deepfluoro.read_flag(file, specimen, name, "good-fov")
    rigid = all(deepfluoro.is_rigid_matrix(pose) for pose in poses.values())
    if not rigid or not is_camera(parameters):
        return ViewRow(name, float("nan"), rigid, float("nan"), False, False, turned, good_fov)
    camera, pose = parameters.camera(), view.pose()
    ends = torch.stack([scan.volume.center_mm, scan.volume.center_mm + scan.volume.center_mm.new_tensor([0, 0, UP_MM])])
    depth = float(transform_points(invert(pose), ends)[0, 2]) / camera.source_to_detector_mm
    middle, above = project(ends, camera, pose).tolist()
    inside = 0 <= middle[0] < camera.width and 0 <= middle[1] < camera.height
    return ViewRow(
        name=name,
        landmarks_px=landmark_residual_px(scan, view),
        rigid=rigid,
        depth=depth,
        in_picture=inside,
        upright=(above[1] < middle[1]) != bool(turned),
        turned=turned,
        good_fov=good_fov,
    )


def _stored_view(file: h5py.File, specimen: str, name: str, parameters: ProjectionParameters) -> StoredView:
    projection = deepfluoro.read_projection(file, specimen, name, parameters)
    crop = round(CROP_FRACTION * min(parameters.rows, parameters.columns))
    where = f"{file.filename}:{specimen}/projections/{name}/image/pixels"
    inside = (slice(crop, parameters.rows - crop), slice(crop, parameters.columns - crop))
    size = (min(IMAGE_PX, parameters.rows, parameters.columns),) * 2
    image = preprocess_pixels(where, projection.intensity[inside], RAW_INTENSITY, size)
    found = projection.segmentation
    segmentation = None if found is None else preprocess_labels(found[inside], *image.shape)
    return StoredView(name, parameters, projection.poses, projection.landmarks_px, image, segmentation, crop)


def _coarse(view: StoredView) -> StoredView:
    scale = min(COARSE_PX / max(view.image.shape), 1.0)
    size = tuple(round(n * scale) for n in view.image.shape)
    image = torch.nn.functional.interpolate(
        view.image[None, None], size=size, mode="bilinear", antialias=True, align_corners=False
    )[0, 0]
    segmentation = view.segmentation
    if segmentation is not None:
        segmentation = torch.nn.functional.interpolate(segmentation[None, None], size=size, mode="nearest-exact")[0, 0]
    return replace(view, image=image, segmentation=segmentation)


def _coarse_scan(scan: Scan) -> Scan:
    factors = scan.volume.voxels_of(COARSE_VOXEL_MM)
    labels = scan.labels
    if labels is not None:
        x, y, z = factors
        frame = labels.volume_from_voxel.clone()
        frame[:3, :3] *= frame.new_tensor(factors)
        labels = Volume(labels.values[::z, ::y, ::x].contiguous(), frame)
    return replace(scan, volume=scan.volume.block_means(factors), labels=labels)
