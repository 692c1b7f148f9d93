"""Continues a patient beyond the ends of the CT with plausible tissue and bone, because an X-ray shows more than a CT.

At the superior end the volume is reflected. At the inferior end soft tissue is replicated from the lowest slice, the
femurs narrow to shafts that continue medially (with any metal in them), and the pubic and ischial rami join below the
obturator foramen.
"""

import numpy as np
from scipy import ndimage

from roireg.demo.anatomy import FEMURS, LEFT_HEMIPELVIS, RIGHT_HEMIPELVIS, Anatomy
from roireg.demo.landmarks import pubis_and_ischium

AIR_HU = -1000.0
MUSCLE_HU = 50.0
FAT_HU = -120.0
BODY_HU = -300.0
BONE_MARGIN_VOXELS = 2
BACKGROUND_SIGMA_VOXELS = 3.0
SHAFT_SCALE = 0.62
SHAFT_REACHED_MM = 60.0
SHAFT_DRIFT_MM_PER_MM = 0.1
PLATE_END_MM = 85.0
RAMI_JOIN_MM = 34.0
RAMUS_SCALE = 0.65
RAMUS_CAP_POWER = 6
THIGH_SCALE = 0.9
BLURRED_AT_MM = 25.0
BLUR_VOXELS = 4.0
OPENING_VOXELS = 8
EDGE_VOXELS = 1


def soft_background(hu: np.ndarray, bones: np.ndarray) -> np.ndarray:
    """A transverse slice `(y, x)` in which a smooth average of the surrounding soft tissue replaces bone and metal."""
    body = ndimage.binary_fill_holes(hu > BODY_HU)
    hidden = ndimage.binary_dilation(bones, iterations=BONE_MARGIN_VOXELS)
    soft = (body & ~hidden).astype(np.float32)
    values = np.clip(hu, FAT_HU, 2 * MUSCLE_HU)
    weights = ndimage.gaussian_filter(soft, BACKGROUND_SIGMA_VOXELS) + 1e-3
    filled = (ndimage.gaussian_filter(values * soft, BACKGROUND_SIGMA_VOXELS) + 1e-3 * MUSCLE_HU) / weights
    return np.where(body, np.where(hidden, filled, values), AIR_HU).astype(np.float32)


def blurred_background(background: np.ndarray) -> np.ndarray:
    """The slice `(y, x)` without details and narrow protrusions, which would become streaks when replicated."""
    body = background > BODY_HU
    padded = np.pad(body, OPENING_VOXELS, mode="edge")
    opened = ndimage.binary_opening(padded, iterations=OPENING_VOXELS)
    wide = opened[OPENING_VOXELS:-OPENING_VOXELS, OPENING_VOXELS:-OPENING_VOXELS]
    weights = ndimage.gaussian_filter(wide.astype(np.float32), BLUR_VOXELS) + 1e-3
    smooth = ndimage.gaussian_filter(np.where(wide, background, 0), BLUR_VOXELS) / weights
    return np.where(wide, smooth, AIR_HU).astype(np.float32)


def _centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def _scaled_slice(array: np.ndarray, origin: np.ndarray, center: np.ndarray, scale: float, order: int) -> np.ndarray:
    """The slice scaled by `scale`, with its point `origin` moved to `center` (voxels, `(y, x)`)."""
    return ndimage.affine_transform(
        array, np.full(2, 1 / scale), offset=origin - center / scale, order=order, mode="nearest"
    )


def _inferior_slice(
    anatomy: Anatomy, backgrounds: tuple[np.ndarray, np.ndarray], depth_mm: float, total_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU, labels and metal `(y, x)` at `depth_mm` below the lowest slice; the first background fades to the second."""
    hu0, labels0, metal0 = anatomy.hu[0], anatomy.labels[0], anatomy.metal[0]
    middle = (np.array(hu0.shape) - 1) / 2
    thigh = 1 - (1 - THIGH_SCALE) * depth_mm / total_mm
    faded = min(depth_mm / BLURRED_AT_MM, 1)
    hu = _scaled_slice((1 - faded) * backgrounds[0] + faded * backgrounds[1], middle, middle, thigh, 1)
    labels, metal = np.zeros_like(labels0), np.zeros_like(metal0)

    def paint(piece: np.ndarray, center: np.ndarray, scale: float, label: int, with_metal: bool) -> None:
        origin = _centroid(piece)
        inside = _scaled_slice(piece.astype(np.float32), origin, center, scale, 1) > 0.5
        moved_metal = _scaled_slice(metal0, origin, center, scale, 0)
        shown = inside & ((moved_metal == 0) | with_metal)
        hu[shown] = _scaled_slice(hu0, origin, center, scale, 1)[shown]
        labels[inside & _scaled_slice(labels0 == label, origin, center, scale, 0)] = label
        if with_metal:
            metal[inside] = moved_metal[inside]

    for hip, medial in ((LEFT_HEMIPELVIS, -1), (RIGHT_HEMIPELVIS, 1)):
        femur = FEMURS[0] if hip == LEFT_HEMIPELVIS else FEMURS[1]
        parts = pubis_and_ischium(labels0 == hip)
        progress = depth_mm / RAMI_JOIN_MM
        if parts is not None and progress < 1:
            pubis, ischium = parts
            start, end = _centroid(pubis), _centroid(ischium)
            scale = (1 - (1 - RAMUS_SCALE) * progress) * np.sqrt(1 - progress**RAMUS_CAP_POWER)
            paint(ischium, end + 0.15 * progress * (start - end), scale, hip, False)
            paint(pubis, start + 0.8 * progress * (end - start), scale, hip, False)
        piece = (labels0 == femur) | (metal0 == femur)
        if piece.any():
            scale = 1 - (1 - SHAFT_SCALE) * min(depth_mm / SHAFT_REACHED_MM, 1)
            drift = np.array([0.0, medial * SHAFT_DRIFT_MM_PER_MM * depth_mm / anatomy.spacing_mm[0]])
            paint(piece, _centroid(piece) + drift, scale, femur, depth_mm < PLATE_END_MM)
    return hu, labels, metal


def extend(anatomy: Anatomy, superior_mm: float, inferior_mm: float) -> Anatomy:
    """The patient continued by the given lengths beyond both ends of the CT, on the same voxel grid."""
    step = anatomy.spacing_mm[2]
    above, below = round(superior_mm / step), round(inferior_mm / step)
    bones = ndimage.binary_dilation((anatomy.labels[0] > 0) | (anatomy.metal[0] > 0), iterations=EDGE_VOXELS)
    background = soft_background(anatomy.hu[0], bones)
    backgrounds = background, blurred_background(background)
    slices = [_inferior_slice(anatomy, backgrounds, k * step, below * step) for k in range(below, 0, -1)]
    parts = []
    for k, array in enumerate((anatomy.hu, anatomy.labels, anatomy.metal)):
        low = np.stack([slice_[k] for slice_ in slices]) if slices else array[:0]
        parts.append(np.concatenate([low, np.pad(array, [(0, above), (0, 0), (0, 0)], mode="reflect")]))
    frame = anatomy.volume_from_voxel.copy()
    frame[2, 3] -= below * step
    return Anatomy(*parts, frame)
