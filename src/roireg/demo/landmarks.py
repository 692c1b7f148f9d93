"""The 14 pelvic landmarks, found geometrically from the labels; `-l` and `-r` are the patient's sides.

    ASIS  anterior superior iliac spine: the foremost point of the ilium
    FH    femoral head: centre of a sphere
    GSN   greater sciatic notch: its apex, on the posterior border of the ilium
    IOF   inferior obturator foramen: the lowest point of the ischial rim in the labels
    MOF   medial obturator foramen: the pubic rim facing the ischium
    SPS   superior end of the pubic symphysis, on the face of each hemipelvis
    IPS   inferior end of the pubic symphysis in the labels

The demo's CT ends within the obturator foramen, so IOF and IPS are the lowest points of the CT, not the anatomical
ends.
"""

import numpy as np
from scipy import ndimage, optimize

from roireg.demo.anatomy import LEFT_FEMUR, LEFT_HEMIPELVIS, RIGHT_FEMUR, RIGHT_HEMIPELVIS, Anatomy, points_mm
from roireg.errors import InputError

STRUCTURES = ("ASIS", "FH", "GSN", "IOF", "MOF", "SPS", "IPS")
LANDMARKS = tuple(f"{structure}-{side}" for structure in STRUCTURES for side in "lr")
SIDES = {"l": (LEFT_HEMIPELVIS, LEFT_FEMUR, RIGHT_HEMIPELVIS), "r": (RIGHT_HEMIPELVIS, RIGHT_FEMUR, LEFT_HEMIPELVIS)}

HEAD_RADIUS_MM = (18.0, 30.0)
HEAD_START_RADIUS_MM = 23.0
HEAD_SHELL_MM = 4.0
HEAD_NOISE_MM = 1.0
HEAD_ROUNDS = 10
ASIS_ABOVE_HEAD_MM = 45.0
TIP_MM = 4.0
NOTCH_ABOVE_HEAD_MM = (5.0, 65.0)
NOTCH_ROOF_MM = 20.0
SYMPHYSIS_GAP_MM = 10.0
PART_VOXELS = 15


def mirrored_name(name: str) -> str:
    """Name of the same landmark on the other side."""
    return name[:-1] + ("r" if name.endswith("l") else "l")


def surface_points_mm(mask: np.ndarray, volume_from_voxel: np.ndarray) -> np.ndarray:
    """Centres `(N, 3)` of the mask's voxels that touch a voxel outside the mask; the grid's border is no such voxel."""
    padded = np.pad(mask, 1, mode="edge")
    inner = ndimage.binary_erosion(padded)[1:-1, 1:-1, 1:-1]
    return points_mm(np.argwhere(mask & ~inner), volume_from_voxel)


def fit_sphere(points: np.ndarray, center_mm: np.ndarray, radius_mm: float) -> tuple[np.ndarray, float]:
    """Centre and radius (mm) of a sphere fitted to `(N, 3)` points by robust least squares from an initial guess."""

    def residual(parameters: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points - parameters[:3], axis=1) - parameters[3]

    fit = optimize.least_squares(residual, [*center_mm, radius_mm], loss="soft_l1", f_scale=HEAD_NOISE_MM)
    return fit.x[:3], float(fit.x[3])


def femoral_head(femur: np.ndarray, volume_from_voxel: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius (mm) of a femoral head: a sphere fitted iteratively to the femur's surface points near it.

    The initial sphere lies one radius below the femur's highest point. Points farther than a tolerance from the current
    sphere are ignored, which excludes the neck and the trochanter.

    Raises:
        InputError: the radius is outside `HEAD_RADIUS_MM`.
    """
    surface = surface_points_mm(femur, volume_from_voxel)
    half_voxel = float(np.diag(volume_from_voxel)[:3].mean()) / 2
    top = surface[surface[:, 2] > surface[:, 2].max() - 1.5 * half_voxel].mean(axis=0)
    center, radius = top - [0, 0, HEAD_START_RADIUS_MM], HEAD_START_RADIUS_MM
    for _ in range(HEAD_ROUNDS):
        near = np.abs(np.linalg.norm(surface - center, axis=1) - radius) < HEAD_SHELL_MM
        center, radius = fit_sphere(surface[near], center, radius)
    radius += half_voxel
    if not HEAD_RADIUS_MM[0] < radius < HEAD_RADIUS_MM[1]:
        where = "the femur labels"
        raise InputError(where, f"a femoral head of radius {radius:.0f} mm was found", "Check the segmentation")
    return center, radius


def _iliac_spine(hip: np.ndarray, head_mm: np.ndarray, volume_from_voxel: np.ndarray) -> np.ndarray:
    surface = surface_points_mm(hip, volume_from_voxel)
    surface = surface[surface[:, 2] > head_mm[2] + ASIS_ABOVE_HEAD_MM]
    return surface[surface[:, 1] < surface[:, 1].min() + TIP_MM].mean(axis=0)


def _sciatic_notch(hip: np.ndarray, head_mm: np.ndarray, volume_from_voxel: np.ndarray) -> np.ndarray:
    points = points_mm(np.argwhere(hip), volume_from_voxel)
    heights = points[:, 2] - head_mm[2]
    points = points[(heights > NOTCH_ABOVE_HEAD_MM[0]) & (heights < NOTCH_ABOVE_HEAD_MM[1])]
    levels = np.unique(points[:, 2])
    border = []
    for level in levels:
        at_level = points[points[:, 2] == level]
        border.append(at_level[at_level[:, 1] == at_level[:, 1].max()].mean(axis=0))
    border = np.array(border)
    deepest = border[border[:, 1].argmin()]
    below_roof = border[np.abs(border[:, 2] - deepest[2]) < NOTCH_ROOF_MM]
    return below_roof[(below_roof[:, 2] - below_roof[:, 1]).argmax()]


def pubis_and_ischium(hip_slice: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Masks `(y, x)` of pubis and ischium in a transverse slice of a hemipelvis; None if they are not two parts."""
    parts, count = ndimage.label(hip_slice, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(hip_slice, parts, range(1, count + 1))
    large = 1 + np.flatnonzero(sizes >= PART_VOXELS)
    if len(large) != 2:
        return None
    first, second = sorted(large, key=lambda part: np.nonzero(parts == part)[0].mean())
    return parts == first, parts == second


def _foramen(hip: np.ndarray, volume_from_voxel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    levels = []
    for k in range(len(hip)):
        parts = pubis_and_ischium(hip[k])
        if parts is not None:
            levels.append((k, parts))
        elif levels:
            break
    if not levels:
        raise InputError("the hemipelvis labels", "no slice passes through an obturator foramen", "Use a longer CT")

    def rim(level: int, part: np.ndarray, other: np.ndarray) -> np.ndarray:
        distance = np.where(part, ndimage.distance_transform_edt(~other), np.inf)
        nearest = np.argwhere(distance <= distance.min() + 0.5).mean(axis=0)
        return points_mm(np.array([[level, *nearest]]), volume_from_voxel)[0]

    low, (low_pubis, low_ischium) = levels[min(1, len(levels) - 1)]
    middle, (pubis, ischium) = levels[len(levels) // 2]
    return rim(low, low_ischium, low_pubis), rim(middle, pubis, ischium)


def _symphysis(hip: np.ndarray, other: np.ndarray, volume_from_voxel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spacing = np.diag(volume_from_voxel)[:3]
    distance = ndimage.distance_transform_edt(~other, sampling=spacing[::-1])
    foremost = np.argwhere(hip & (distance < SYMPHYSIS_GAP_MM))
    if not len(foremost):
        raise InputError("the hemipelvis labels", "no symphysis was found between the two sides", "Use a longer CT")
    levels = np.unique(foremost[:, 0])
    ends = []
    for level in (levels[-1], levels[min(1, len(levels) - 1)]):
        ends.append(points_mm(foremost[foremost[:, 0] == level], volume_from_voxel).mean(axis=0))
    return ends[0], ends[1]


def find_landmarks(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """Positions (mm, LPS) of `LANDMARKS`, by name.

    Raises:
        InputError: the labels lack the structure of a landmark.
    """
    frame = anatomy.volume_from_voxel
    out = {}
    for side, (hip_label, femur_label, other_label) in SIDES.items():
        hip, femur, other = (anatomy.labels == label for label in (hip_label, femur_label, other_label))
        head, _ = femoral_head(femur, frame)
        inferior, medial = _foramen(hip, frame)
        top, bottom = _symphysis(hip, other, frame)
        found = {
            "ASIS": _iliac_spine(hip, head, frame),
            "FH": head,
            "GSN": _sciatic_notch(hip, head, frame),
            "IOF": inferior,
            "MOF": medial,
            "SPS": top,
            "IPS": bottom,
        }
        out |= {f"{structure}-{side}": position for structure, position in found.items()}
    return {name: out[name] for name in LANDMARKS}
