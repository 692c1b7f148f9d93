"""The couch, blankets and holders that a CT shows beside the patient.

An X-ray on another table does not show them, so that a DRR which does differs from it, and the pose is drawn away, most
in depth. They are thin and the patient is not: what an opening leaves is the patient.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from roireg.data.patient import BONE_HU
from roireg.data.volume import Volume

Couch = Literal["remove", "keep"]

# Between fat (-120 HU), and foam and cloth (below -500 HU).
TISSUE_HU = -300.0
AIR_HU = -1000.0
# The grid on which shapes are looked at.
SHAPE_MM = 3.0
# Half the thickness of what an opening takes away: a couch's shell, a cable, a fold of a blanket.
THIN_MM = 5.0
# Around what the opening leaves and has taken from it: skin in voxels that are half air.
MARGIN_MM = 4.0
# Of the largest part: an arm or a leg beside the trunk has more, or bone.
LEAST_PART = 0.005
# Of all tissue: a CT with more bone is of bones alone, of which some are as thin as a couch.
MOST_BONE = 0.35
# Of all tissue: less does not matter.
LEAST_OUTSIDE = 1e-3


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What lies beside the patient.

    Attributes:
        outside: `(z, y, x)` true beyond the patient, for air and things alike.
        volume_ml: volume of the things.
    """

    outside: Bool[Tensor, "D H W"]
    volume_ml: float


def find_surroundings(ct: Volume) -> Surroundings | None:
    """What lies beside the patient; None if there is hardly anything, or if the CT is of bones alone.

    Args:
        ct: in Hounsfield units.
    """
    factors = ct.voxels_of(SHAPE_MM)
    coarse = ct.block_means(factors)
    # Slices across the patient come first.
    along = 2 - int(ct.volume_from_voxel[2, :3].abs().argmax())
    hu = np.moveaxis(coarse.values.numpy(), along, 0)
    spacing_mm = coarse.spacing_mm.flip(0).tolist()
    sampling_mm = np.array([spacing_mm.pop(along), *spacing_mm])
    tissue = hu > TISSUE_HU
    bone = hu > BONE_HU
    if not tissue.any() or bone.sum() > MOST_BONE * tissue.sum():
        return None
    patient = _patient(tissue, bone, sampling_mm)
    if patient is None:
        return None
    outside = torch.from_numpy(np.ascontiguousarray(np.moveaxis(~patient, 0, along)))
    for dim, factor in enumerate(factors[::-1]):
        outside = outside.repeat_interleave(factor, dim=dim).narrow(dim, 0, ct.values.shape[dim])
    things = int((outside & (ct.values > TISSUE_HU)).sum())
    if things < LEAST_OUTSIDE * int((ct.values > TISSUE_HU).sum()):
        return None
    return Surroundings(outside, things * float(ct.spacing_mm.prod()) / 1000)


def without(ct: Volume, surroundings: Surroundings) -> Volume:
    """The CT (HU) with air in place of what lies beside the patient."""
    return ct.with_values(ct.values.masked_fill(surroundings.outside, AIR_HU))


def _patient(
    tissue: Bool[np.ndarray, "d h w"], bone: Bool[np.ndarray, "d h w"], sampling_mm: Float[np.ndarray, "3"]
) -> Bool[np.ndarray, "d h w"] | None:
    """The patient with what is hollow in him, and a margin; None if nothing is thick."""
    # Lungs and bowel are no surface to open from, and beyond the CT's ends the patient goes on.
    padded = np.pad(_filled(tissue), 1, mode="edge")
    deep = ndimage.distance_transform_edt(padded, sampling=sampling_mm)[1:-1, 1:-1, 1:-1] > THIN_MM
    parts, count = ndimage.label(deep)
    if count == 0:
        return None
    numbers = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(deep, parts, numbers)
    kept = (sizes >= LEAST_PART * sizes.max()) | (ndimage.sum_labels(bone, parts, numbers) > 0)
    away_mm = ndimage.distance_transform_edt(~np.isin(parts, numbers[kept]), sampling=sampling_mm)
    return _filled(away_mm <= THIN_MM + MARGIN_MM)


def _filled(mask: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """The mask with the holes of its slices filled."""
    return np.stack([ndimage.binary_fill_holes(one) for one in mask])
