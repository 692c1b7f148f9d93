"""Whether the planes of a CT lie on each other: a patient who moved, or a damaged file, leaves a step between two."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from skimage.registration import phase_cross_correlation

from roireg.data.volume import Volume

# Air and metal would outweigh everything else.
RANGE_HU = (-300.0, 700.0)
# Planes are compared with the next, and with the next but one, as a step may lie within a plane of averaged voxels.
GAPS = (1, 2)
# Neighbours on either side, among which a step stands out by this factor.
NEIGHBORS, OUTSTANDING = 8, 1.25
# Planes that lie on each other after the shift differ by less than this fraction of before.
FITTING = 0.7
# Smaller ones matter less than the planes' distance; nobody moves farther during a scan.
LEAST_STEP_MM, LARGEST_STEP_MM = 2.5, 60.0
# Of the planes, this fraction must be left to compare after the shift.
LEAST_OVERLAP = 0.5
# Planes that graze the body show other parts of it: the body's area, relative to the plane that shows most of it.
LEAST_BODY = 0.4


@dataclass(frozen=True)
class Step:
    """Planes of a CT that are shifted against those before them.

    Attributes:
        axis: of the voxel indices (0 is x) along which the planes follow each other.
        plane: index of the first plane behind the step.
        shift_mm: length of the shift within the plane.
    """

    axis: int
    plane: int
    shift_mm: float


def largest_step(hu: Volume) -> Step | None:
    """The largest step between neighbouring planes, over all three axes; None if all lie on each other.

    Where a plane differs from the next by more than its neighbours do, both are compared after the shift at which they
    correlate best (phase correlation). Planes that merely show other anatomy, or the flat top of a couch, do not fit
    better after any shift.

    Args:
        hu: Hounsfield units.
    """
    values = np.clip(hu.values.numpy(), *RANGE_HU)
    found: list[Step] = []
    for axis, spacing_mm in enumerate(hu.spacing_mm.tolist()):
        planes = np.moveaxis(values, 2 - axis, 0)
        in_plane_mm = np.delete(hu.spacing_mm.numpy()[::-1], 2 - axis)
        areas = (planes > RANGE_HU[0]).mean(axis=(1, 2))
        full = areas >= LEAST_BODY * areas.max()
        for gap in GAPS:
            for index in (i for i in _outstanding(planes, gap) if full[i] and full[i + gap]):
                shift_mm = _shift_mm(planes[index], planes[index + gap], in_plane_mm)
                if shift_mm is not None and LEAST_STEP_MM + gap * spacing_mm <= shift_mm <= LARGEST_STEP_MM:
                    found.append(Step(axis, index + gap, shift_mm))
    return max(found, key=lambda step: step.shift_mm, default=None)


def _outstanding(planes: Float[np.ndarray, "N R C"], gap: int) -> list[int]:
    """Indices of planes that differ from that `gap` planes on by more than their neighbours do."""
    differences = np.array([np.abs(planes[i + gap] - planes[i]).mean() for i in range(len(planes) - gap)])
    out = []
    for index, difference in enumerate(differences):
        low, high = max(index - NEIGHBORS, 0), index + NEIGHBORS + 1
        if difference > OUTSTANDING * np.median(differences[low:high]):
            out.append(index)
    return out


def _shift_mm(
    first: Float[np.ndarray, "R C"], second: Float[np.ndarray, "R C"], spacing_mm: Float[np.ndarray, "2"]
) -> float | None:
    """Length of the shift after which the planes lie on each other; None if no shift brings that about."""
    shift, *_ = phase_cross_correlation(first, second, normalization=None)
    moved = shift.astype(int)
    overlap = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(moved, first.shape, strict=True))
    source = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(moved, first.shape, strict=True))
    if first[overlap].size < LEAST_OVERLAP * first.size:
        return None
    after = np.abs(first[overlap] - second[source]).mean()
    before = np.abs(first - second)[overlap].mean()
    return float(np.linalg.norm(moved * spacing_mm)) if after < FITTING * before else None
