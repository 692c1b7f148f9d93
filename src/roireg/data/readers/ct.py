"""A CT from NIfTI, NRRD, MHA or a DICOM series, in the patient frame, with its labels."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from roireg.data.couch import Couch, Surroundings, find_surroundings, without
from roireg.data.patient import BONE_HU, Patient, find_bone_points_mm, label_mask
from roireg.data.readers.grid import size_text
from roireg.data.readers.hounsfield import check_hounsfield
from roireg.data.readers.labels import read_labels
from roireg.data.readers.volumes import read_volume
from roireg.data.steps import Step, largest_step
from roireg.data.volume import MU_BONE_PER_MM, MU_WATER_PER_MM, Volume, attenuation_from_hu, box_center_mm
from roireg.errors import InputError

# A working grid about as fine as a pixel shows of the patient at 128 px.
VOXEL_MM = 2.0
EXTENT_MM = (30.0, 2500.0)
LEAST_BONE_SHARE = 1e-4


def read_patient(
    ct: str | Path,
    labels: str | Path | None = None,
    label_names: str | Path | None = None,
    center_on: Iterable[str] = (),
    rescale: tuple[float, float] = (1.0, 0.0),
    voxel_mm: float = VOXEL_MM,
    couch: Couch = "remove",
) -> Patient:
    """A patient from files.

    Args:
        ct: a NIfTI, NRRD, MHA or MHD file, a multi-frame DICOM file, or a folder with one DICOM series, in HU.
        labels: an image of whole numbers in the CT's space.
        label_names: a YAML file with the name of each id; without it they are called "label 1" and so on.
        center_on: labels in whose middle poses turn; none for the middle of the CT.
        rescale: slope and intercept that make Hounsfield units of what is stored.
        voxel_mm: finer voxels are averaged to about this size.
        couch: whether the couch, blankets and holders are left out, which an X-ray on another table does not show.

    Raises:
        InputError: a file cannot be read, is not a CT in Hounsfield units, or labels lie elsewhere.
    """
    slope, intercept = _checked_rescale(rescale)
    stored = read_volume(ct)
    spacing, frame = stored.spacing_mm, stored.frame
    _check_extent(ct, stored.values.shape, spacing)
    hu = stored.values.astype(np.float32)
    if (slope, intercept) != (1.0, 0.0):
        hu = hu * np.float32(slope) + np.float32(intercept)
    check_hounsfield(ct, hu)
    labelled = None if labels is None else read_labels(labels, stored, label_names)
    nx, ny, nz = (int(max(voxel_mm // s, 1)) for s in spacing)
    factors = (nx, ny, nz)
    whole = Volume(torch.from_numpy(hu), torch.from_numpy(frame))
    working = whole.block_means(factors)
    beside = find_surroundings(working) if couch == "remove" else None
    if beside is not None:
        working = without(working, beside)
    volume = working.with_values(attenuation_from_hu(working.values, MU_WATER_PER_MM, MU_BONE_PER_MM))
    ids = None if labelled is None else torch.from_numpy(_at_blocks(labelled.ids, factors))
    # Small labels may not be at the middle of any block.
    present = set() if ids is None else set(torch.unique(ids).tolist())
    names = {} if labelled is None else {label: name for label, name in labelled.names.items() if label in present}
    wanted, mask = tuple(center_on), None
    if wanted and ids is None:
        raise InputError(f"--center-on: {', '.join(wanted)}", "the patient has no labels", "Give them with --labels")
    if wanted and ids is not None:
        mask = label_mask(ids, names, wanted, "--center-on")
    step = largest_step(working)
    facts = {
        "voxels": size_text(stored.size),
        "spacing": " x ".join(f"{s:.3g}" for s in spacing) + " mm",
        "axes": "".join(_axis_names(frame)) + " (direction in which the voxel indices grow)",
        "extent": " x ".join(f"{n * s:.0f}" for n, s in zip(stored.size, spacing, strict=True)) + " mm",
        "values": f"{hu.min():.0f} to {hu.max():.0f} HU, median {np.median(hu):.0f}",
        "middle (LPS)": ", ".join(f"{x:.1f}" for x in whole.center_mm.tolist()) + " mm",
        "working grid": " x ".join(f"{s:.3g}" for s in volume.spacing_mm.tolist()) + " mm",
        "ends at which the patient goes on": str(len(volume.truncated_faces)),
    }
    if names:
        facts["labels"] = ", ".join(f"{label} {name}" for label, name in names.items())
    return Patient(
        name=Path(ct).name,
        volume=volume,
        labels=ids,
        label_names=names,
        center_mm=volume.center_mm if mask is None else box_center_mm(mask, volume),
        bone_points_mm=find_bone_points_mm(working),
        facts=facts,
        warnings=(*stored.notes, *(() if labelled is None else labelled.notes), *_warnings(hu, step, beside)),
        step=step,
    )


def _checked_rescale(rescale: tuple[float, float]) -> tuple[float, float]:
    slope, intercept = rescale
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise InputError("--rescale", f"it is {slope:g} {intercept:g}", "Give a slope other than 0 and an intercept")
    return float(slope), float(intercept)


def _check_extent(path: str | Path, shape: tuple[int, ...], spacing: np.ndarray) -> None:
    extent = np.array(shape[::-1]) * spacing
    if extent.max() < EXTENT_MM[0] or extent.max() > EXTENT_MM[1]:
        size = " x ".join(f"{x:.3g}" for x in extent)
        raise InputError(path, f"it is {size} mm large", "Its spacing must be in millimetres: correct its header")


def _at_blocks(labels: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    """The label at the middle of each block of voxels."""
    picks = [np.minimum(np.arange(0, n, f) + f // 2, n - 1) for n, f in zip(labels.shape, factors[::-1], strict=True)]
    return np.ascontiguousarray(labels[np.ix_(*picks)])


def _axis_names(frame: np.ndarray) -> list[str]:
    names = []
    for axis in frame[:3, :3].T:
        main = int(np.abs(axis).argmax())
        names.append(("RL", "AP", "IS")[main][int(axis[main] > 0)])
    return names


def _warnings(hu: np.ndarray, step: Step | None, beside: Surroundings | None) -> tuple[str, ...]:
    warnings = []
    if beside is not None:
        warnings.append(
            f"{beside.volume_ml:.0f} ml beside the patient (couch, blankets, holders) were left out. If the X-ray "
            "shows them too, use --couch keep"
        )
    if (hu > BONE_HU).mean() < LEAST_BONE_SHARE:
        warnings.append("there is hardly any bone in it")
    if step is not None:
        warnings.append(
            f"at plane {step.plane} of the working grid's {'xyz'[step.axis]}, planes are shifted by "
            f"{step.shift_mm:.0f} mm: the patient moved during the scan, or the file is damaged"
        )
    return tuple(warnings)
