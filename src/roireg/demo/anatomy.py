"""CT and automatic labels as arrays in the patient frame, with DeepFluoro's six label ids.

Arrays are `(z, y, x)` with x to the patient's left, y posterior, z superior (LPS); `volume_from_voxel` is 4x4, mm from
voxel indices `(x, y, z)`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from roireg.data.readers.image import frame_of, read_image
from roireg.errors import InputError

LEFT_HEMIPELVIS, RIGHT_HEMIPELVIS, VERTEBRAE, UPPER_SACRUM, LEFT_FEMUR, RIGHT_FEMUR = 1, 2, 3, 4, 5, 6
LABEL_NAMES = {
    LEFT_HEMIPELVIS: "left hemipelvis",
    RIGHT_HEMIPELVIS: "right hemipelvis",
    VERTEBRAE: "vertebrae",
    UPPER_SACRUM: "upper sacrum",
    LEFT_FEMUR: "left femur",
    RIGHT_FEMUR: "right femur",
}
FEMURS = (LEFT_FEMUR, RIGHT_FEMUR)
MIRRORED_LABEL = {0: 0, 1: 2, 2: 1, 3: 3, 4: 4, 5: 6, 6: 5}

SACRUM_SOURCE, S1_SOURCE = 25, 26
LABEL_OF_SOURCE = {
    77: LEFT_HEMIPELVIS,
    78: RIGHT_HEMIPELVIS,
    75: LEFT_FEMUR,
    76: RIGHT_FEMUR,
    S1_SOURCE: UPPER_SACRUM,
    **dict.fromkeys(range(27, 33), VERTEBRAE),
}
METAL_HU = 2500.0
METAL_REACH_MM = 15.0
BODY_METAL = 7
AXIS_TOLERANCE = 1e-3
VISIBLE_VOXELS = 50


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A labelled patient on one grid.

    Attributes:
        hu: `(z, y, x)` float32, Hounsfield units.
        labels: `(z, y, x)` uint8, keys of `LABEL_NAMES`, 0 elsewhere.
        metal: `(z, y, x)` uint8: 0 for no metal, else the part that the metal is fixed to: `LEFT_FEMUR`, `RIGHT_FEMUR`
            or `BODY_METAL`.
        volume_from_voxel: `(4, 4)`, mm (LPS); its axes are those of the patient.
    """

    hu: np.ndarray
    labels: np.ndarray
    metal: np.ndarray
    volume_from_voxel: np.ndarray

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along x, y, z."""
        return np.diag(self.volume_from_voxel)[:3]

    @property
    def upper_corner_mm(self) -> np.ndarray:
        """Centre of the last voxel, LPS."""
        return self.volume_from_voxel[:3, 3] + self.spacing_mm * (np.array(self.hu.shape[::-1]) - 1)


def points_mm(indices_zyx: np.ndarray, volume_from_voxel: np.ndarray) -> np.ndarray:
    """`(N, 3)` LPS positions of `(N, 3)` array indices `(z, y, x)`."""
    return indices_zyx[:, ::-1] @ volume_from_voxel[:3, :3].T + volume_from_voxel[:3, 3]


def read_upright(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Array `(z, y, x)` and `volume_from_voxel` of an image file, reoriented to LPS (left, posterior, superior).

    Raises:
        InputError: the file cannot be read.
    """
    try:
        image = sitk.DICOMOrient(read_image(path), "LPS")
    except InputError as error:
        raise InputError(path, error.what, "Run the download again") from None
    return sitk.GetArrayFromImage(image), frame_of(image)


def map_labels(source: np.ndarray) -> np.ndarray:
    """Convert TotalSegmentator's label ids to DeepFluoro's; only the superior half of the sacrum keeps a label."""
    labels = np.zeros(source.shape, np.uint8)
    sacrum = np.isin(source, (SACRUM_SOURCE, S1_SOURCE))
    levels = np.flatnonzero(sacrum.any(axis=(1, 2)))
    if len(levels):
        upper = np.zeros_like(sacrum)
        upper[(levels[0] + levels[-1] + 1) // 2 :] = True
        labels[sacrum & upper] = UPPER_SACRUM
    for source_id, label in LABEL_OF_SOURCE.items():
        labels[source == source_id] = label
    return labels


def metal_owners(hu: np.ndarray, labels: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """`Anatomy.metal` from HU: voxels above `METAL_HU` belong to a femur within `METAL_REACH_MM`, else to the body."""
    metal = hu > METAL_HU
    owners = np.where(metal, BODY_METAL, 0).astype(np.uint8)
    if not metal.any() or not np.isin(labels, FEMURS).any():
        return owners
    distance, nearest = ndimage.distance_transform_edt(
        ~np.isin(labels, FEMURS), sampling=spacing_mm[::-1], return_indices=True
    )
    near = metal & (distance <= METAL_REACH_MM)
    owners[near] = labels[tuple(nearest[:, near])]
    return owners


def load_anatomy(ct: str | Path, labels: str | Path) -> Anatomy:
    """Read the CT and its TotalSegmentator labels (NIfTI).

    Raises:
        InputError: a file is unreadable, the grids differ, the axes are oblique, or a label is missing.
    """
    (hu, volume_from_voxel), (source, other) = read_upright(ct), read_upright(labels)
    if hu.shape != source.shape or not np.allclose(volume_from_voxel, other, atol=AXIS_TOLERANCE):
        raise InputError(labels, "its grid differs from the CT's", "Resample the labels onto the CT's grid")
    axes = volume_from_voxel[:3, :3]
    if np.abs(axes - np.diag(np.diag(axes))).max() > AXIS_TOLERANCE:
        raise InputError(ct, "its axes are oblique to the patient's", "Resample it along the patient's axes")
    mapped = map_labels(source)
    missing = [name for label, name in LABEL_NAMES.items() if np.count_nonzero(mapped == label) < VISIBLE_VOXELS]
    if missing:
        raise InputError(labels, f"it has no {', '.join(missing)}", "Give a pelvic CT with TotalSegmentator's labels")
    hu = hu.astype(np.float32)
    return Anatomy(hu, mapped, metal_owners(hu, mapped, np.diag(axes)), volume_from_voxel)
