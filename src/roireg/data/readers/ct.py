"""Reads a CT and its labels from NIfTI, NRRD, MHA or a DICOM series."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import yaml
from jaxtyping import UInt8
from torch import Tensor

from roireg.data.label_names import check_distinct
from roireg.data.patient import BONE_HU, Patient, find_bone_points_mm, label_mask
from roireg.data.readers.image import frame_of, read_image
from roireg.data.volume import MU_BONE_PER_MM, MU_WATER_PER_MM, Volume, attenuation_from_hu, box_center_mm
from roireg.errors import InputError

logger = logging.getLogger("roireg")

# Voxel size of the working grid: about the size of a pixel of a 128 px image, projected into the patient.
VOXEL_MM = 2.0
EXTENT_MM = (30.0, 2500.0)
# Any CT of a patient in Hounsfield units has values below LEAST_HU (air or fat) and above GREATEST_HU (bone).
LEAST_HU, GREATEST_HU = -50.0, 150.0
IMPOSSIBLE_HU = -5000.0
SAME_GRID_MM = 0.01
LEAST_BONE_FRACTION = 1e-4
MAX_LABELS = 255


def read_patient(
    ct: str | Path,
    labels: str | Path | None = None,
    label_names: str | Path | None = None,
    center_on: Iterable[str] = (),
    rescale: tuple[float, float] = (1.0, 0.0),
    voxel_mm: float = VOXEL_MM,
) -> Patient:
    """Read a patient from files.

    Args:
        ct: a NIfTI, NRRD, MHA or MHD file, or a folder with one DICOM series, in Hounsfield units.
        labels: an image of integers on the CT's grid.
        label_names: a YAML file with the name of each label id; without it, names are "label 1" and so on.
        center_on: labels the centre of whose bounding box is the isocentre, about which poses rotate; empty for the
            centre of the CT.
        rescale: slope and intercept that convert stored values to Hounsfield units.
        voxel_mm: finer voxels are averaged to about this size.

    Raises:
        InputError: a file cannot be read, is not a CT in Hounsfield units, or the grid of the labels is not the CT's.
    """
    image = read_image(ct)
    spacing = np.array(image.GetSpacing())
    frame = frame_of(image)
    hu = sitk.GetArrayFromImage(image).astype(np.float32) * rescale[0] + rescale[1]
    _check_extent(ct, hu.shape, spacing)
    _check_units(ct, hu)
    stored = None if labels is None else read_labels(labels, image, ct)
    factors = tuple(int(max(voxel_mm // s, 1)) for s in spacing)
    whole = Volume(torch.from_numpy(hu), torch.from_numpy(frame))
    working = whole.block_means(factors)
    volume = working.with_values(attenuation_from_hu(working.values, MU_WATER_PER_MM, MU_BONE_PER_MM))
    ids = None if stored is None else torch.from_numpy(_at_blocks(stored, factors))
    names = {} if ids is None else _names(label_names, ids)
    mask = None if not tuple(center_on) else label_mask(ids, names, tuple(center_on), "--center-on")
    facts = {
        "voxels": " x ".join(map(str, image.GetSize())),
        "spacing": " x ".join(f"{s:.3g}" for s in spacing) + " mm",
        "axes": "".join(_axis_names(frame)) + " (direction in which the voxel indices grow)",
        "extent": " x ".join(f"{n * s:.0f}" for n, s in zip(image.GetSize(), spacing, strict=True)) + " mm",
        "values": f"{hu.min():.0f} to {hu.max():.0f} HU, median {np.median(hu):.0f}",
        "centre (LPS)": ", ".join(f"{x:.1f}" for x in whole.center_mm.tolist()) + " mm",
        "working grid": " x ".join(f"{s:.3g}" for s in volume.spacing_mm.tolist()) + " mm",
        "ends at which the patient is cut off": str(len(volume.truncated_faces)),
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
        warnings=_warnings(hu),
    )


def _check_extent(path: str | Path, shape: tuple[int, ...], spacing: np.ndarray) -> None:
    extent = np.array(shape[::-1]) * spacing
    if extent.max() < EXTENT_MM[0] or extent.max() > EXTENT_MM[1]:
        size = " x ".join(f"{x:.3g}" for x in extent)
        raise InputError(path, f"it is {size} mm large", "Its spacing must be in millimetres: correct its header")


def _check_units(path: str | Path, hu: np.ndarray) -> None:
    low, high = float(np.nanmin(hu)), float(np.nanmax(hu))
    span = f"its values go from {low:.4g} to {high:.4g}"
    if not np.isfinite(hu).all():
        raise InputError(path, "it has NaN or infinite values", "Repair or re-export the CT")
    if low < IMPOSSIBLE_HU:
        return
    if low >= LEAST_HU and high > 1000:
        remedy = "If 1000 or 1024 was added, give --rescale 1 -1000 or --rescale 1 -1024"
        raise InputError(path, f"{span}: none is as low as air, so these are not Hounsfield units", remedy)
    if low >= LEAST_HU or high < GREATEST_HU:
        remedy = "Use the CT as exported from the scanner, or give --rescale SLOPE INTERCEPT"
        raise InputError(path, f"{span}: a patient in Hounsfield units has air near -1000 and bone above 300", remedy)


def read_labels(path: str | Path, ct: sitk.Image, ct_path: str | Path) -> UInt8[np.ndarray, "D H W"]:
    """Read label ids, which must be on the CT's grid.

    Raises:
        InputError: their grid is not the CT's, or they are not integers from 0 to 255.
    """
    image = read_image(path)
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(ct.GetSize()) - 1
    apart = np.abs((corners @ frame_of(image).T - corners @ frame_of(ct).T)[:, :3]).max()
    if image.GetSize() != ct.GetSize() or apart > SAME_GRID_MM:
        sizes = " x ".join(map(str, image.GetSize())), " x ".join(map(str, ct.GetSize()))
        fault = f"its grid is not that of {Path(ct_path).name} ({sizes[0]} voxels instead of {sizes[1]}"
        fault += ")" if sizes[0] != sizes[1] else f", corners up to {apart:.3g} mm apart)"
        raise InputError(path, fault, "Resample the labels to the CT's grid by nearest neighbour, or segment this CT")
    values = sitk.GetArrayFromImage(image)
    if values.min() < 0 or values.max() > MAX_LABELS or np.any(values != np.rint(values)):
        fault = f"its values go from {values.min():g} to {values.max():g}"
        raise InputError(path, fault, f"Labels are integers from 0 to {MAX_LABELS}")
    if not values.any():
        raise InputError(path, "no voxel has a label", "Use a segmentation of this CT")
    return values.astype(np.uint8)


def _names(path: str | Path | None, labels: UInt8[Tensor, "D H W"]) -> dict[int, str]:
    """Names by id of the labels that have voxels.

    Raises:
        InputError: the file does not list names of labels, or two names are equal.
    """
    present = [label for label in torch.unique(labels).tolist() if label]
    if path is None:
        return {label: f"label {label}" for label in present}
    try:
        named = {int(label): str(name) for label, name in yaml.safe_load(Path(path).read_text()).items()}
    except (OSError, yaml.YAMLError, AttributeError, ValueError):
        raise InputError(path, "it does not list names of labels", "Write lines such as '1: left hemipelvis'") from None
    names = {label: named.get(label, f"label {label}") for label in present}
    check_distinct(names.values(), path, "Give each label another name")
    return names


def _at_blocks(labels: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    """The label at the centre of each block of voxels."""
    picks = [np.minimum(np.arange(0, n, f) + f // 2, n - 1) for n, f in zip(labels.shape, factors[::-1], strict=True)]
    return np.ascontiguousarray(labels[np.ix_(*picks)])


def _axis_names(frame: np.ndarray) -> list[str]:
    names = []
    for axis in frame[:3, :3].T:
        main = int(np.abs(axis).argmax())
        names.append(("RL", "AP", "IS")[main][int(axis[main] > 0)])
    return names


def _warnings(hu: np.ndarray) -> tuple[str, ...]:
    if (hu > BONE_HU).mean() < LEAST_BONE_FRACTION:
        return ("the CT contains hardly any bone",)
    return ()
