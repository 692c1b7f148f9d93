"""The demo's specimens: the CT itself, and copies of it with smooth deformations, mirroring and other bone densities.

A specimen has two versions. X-rays are simulated from the "truth" patient, which has a fine grid and is continued
beyond the ends of the scan. Registration gets the scan: a coarser, noisy CT of a part of that patient on another voxel
grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from roireg.demo.anatomy import METAL_HU, MIRRORED_LABEL, Anatomy
from roireg.demo.continuation import AIR_HU, extend
from roireg.demo.landmarks import find_landmarks, mirrored_name
from roireg.demo.names import specimen_names
from roireg.demo.warp import FIELD_SPACING_MM, Warp, identity_warp, random_warp, resample
from roireg.errors import InputError
from roireg.seeds import generator

FINE_SPACING_MM = 1.5
SUPERIOR_MM, INFERIOR_MM = 140.0, 230.0
DISPLACEMENT_SD_MM = 7.0
SMOOTHNESS_MM = 45.0
SCALE_RANGE = 0.06
DENSITY_RANGE = (0.85, 1.15)
DENSE_HU = 150.0
TISSUE_MAX_HU = 1600.0
IMPLANT_HU = 3000.0
CT_NOISE_HU = 12.0
CT_RANGE_HU = (-1024, 3071)
LATTICE_FRACTION = (0.25, 0.75)


@dataclass(frozen=True, eq=False)
class SimulatedPatient:
    """A patient of the demo.

    Attributes:
        name: name of the specimen, such as `demo-01`.
        truth: the whole patient, voxels of `FINE_SPACING_MM`.
        ct: the scan, voxels of twice that spacing, int16 HU with noise.
        landmarks_mm: LPS, by name; all lie inside the scan.
        warp: the deformation, as a map from the specimen to the source patient.
    """

    name: str
    truth: Anatomy
    ct: Anatomy
    landmarks_mm: dict[str, np.ndarray]
    warp: Warp


def transport_landmarks(landmarks_mm: dict[str, np.ndarray], warp: Warp) -> dict[str, np.ndarray]:
    """Landmarks of the source patient moved to the specimen; mirroring exchanges the names of left and right."""
    moved = warp.specimen_from_source(np.stack(list(landmarks_mm.values())))
    mirrored = warp.scale[0] < 0
    names = [mirrored_name(name) if mirrored else name for name in landmarks_mm]
    by_name = dict(zip(names, moved, strict=True))
    return {name: by_name[name] for name in landmarks_mm}


def swap_sides(ids: np.ndarray) -> np.ndarray:
    """Label ids with left and right exchanged; other ids are unchanged."""
    table = np.arange(256, dtype=np.uint8)
    for label, other in MIRRORED_LABEL.items():
        table[label] = other
    return table[ids]


def warp_patient(source: Anatomy, warp: Warp, density_factor: float, spacing_mm: float) -> Anatomy:
    """The source patient after a deformation, on a finer grid.

    HU below the range of metal are interpolated by cubic B-splines, which would ring at the edges of metal. Labels and
    metal get the id of largest trilinear weight, and metal voxels a constant HU.

    Args:
        source: the patient, continued beyond the ends of the CT.
        warp: the deformation.
        density_factor: factor on the part of HU above `DENSE_HU`, that is on bone.
        spacing_mm: voxel size of the result.
    """
    lower, upper = source.volume_from_voxel[:3, 3], source.upper_corner_mm
    reach = np.array([0.0, 0.0, np.abs(warp.displacement_mm[..., 2]).max()])
    half = (upper - lower) / 2 / np.abs(warp.scale) - reach
    first = warp.center_mm - half
    shape = tuple(int(n) for n in np.floor(2 * half / spacing_mm).astype(int)[::-1] + 1)
    hu, labels, metal = resample(
        ndimage.spline_filter(np.minimum(source.hu, TISSUE_MAX_HU), order=3, output=np.float32, mode="mirror"),
        source.labels,
        source.metal,
        warp.displacement_mm.astype(np.float32),
        np.stack([lower, source.spacing_mm]),
        np.stack([warp.origin_mm, np.full(3, FIELD_SPACING_MM)]),
        np.stack([first, np.full(3, spacing_mm)]),
        warp.center_mm,
        warp.scale,
        shape,
        AIR_HU,
    )
    dense = hu > DENSE_HU
    hu[dense] = DENSE_HU + density_factor * (hu[dense] - DENSE_HU)
    np.clip(hu, AIR_HU, METAL_HU, out=hu)
    hu[metal > 0] = IMPLANT_HU
    if warp.scale[0] < 0:
        labels, metal = swap_sides(labels), swap_sides(metal)
    frame = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    frame[:3, 3] = first
    return Anatomy(hu, labels, metal, frame)


def scan(truth: Anatomy, bottom_mm: float, top_mm: float, rng: np.random.Generator) -> Anatomy:
    """A simulated CT of the patient between two heights: voxels of twice the spacing, box-averaged, with noise.

    Its grid is shifted by a random fraction of a fine voxel, so that edges of its voxels never coincide with those of
    the true patient's voxels.
    """
    fraction = rng.uniform(*LATTICE_FRACTION, 3)
    step = truth.spacing_mm[2]
    origin_z = truth.volume_from_voxel[2, 3]
    start = [0, 0, max(int(np.ceil((bottom_mm - origin_z) / step)), 0)]
    end_z = min(int((top_mm - origin_z) / step), truth.hu.shape[0] - 1)
    ends = [truth.hu.shape[2] - 1, truth.hu.shape[1] - 1, end_z]
    counts = [(end - begin) // 2 for begin, end in zip(start, ends, strict=True)]
    hu = truth.hu
    for axis in range(3):
        f, begin, n = fraction[axis], start[axis], counts[axis]
        taps = [hu.take(range(begin + k, begin + k + 2 * n, 2), axis=2 - axis) for k in range(3)]
        hu = ((1 - f) * taps[0] + taps[1] + f * taps[2]).astype(np.float32) / 2
    # The first CT voxel extends from `fraction` within its first tap to `fraction` within its third one.
    center = np.array(start) + 0.5 + fraction
    middle = np.ix_(*(range(start[a] + 1, start[a] + 1 + 2 * counts[a], 2) for a in (2, 1, 0)))
    noisy = hu + rng.normal(0.0, CT_NOISE_HU, hu.shape)
    frame = np.diag([2 * step, 2 * step, 2 * step, 1.0])
    frame[:3, 3] = truth.volume_from_voxel[:3, 3] + step * center
    rounded = np.clip(np.rint(noisy), *CT_RANGE_HU).astype(np.int16)
    return Anatomy(rounded, truth.labels[middle], truth.metal[middle], frame)


def make_specimen(
    source: Anatomy,
    continued: Anatomy,
    landmarks_mm: dict[str, np.ndarray],
    index: int,
    seed: int,
    ct_below_landmarks_mm: float,
) -> SimulatedPatient:
    """The specimen of number `index`: 0 is the source itself, and every second one is mirrored.

    Args:
        source: the real CT with its labels.
        continued: the same patient, continued beyond the ends of the CT.
        landmarks_mm: landmarks of the source.
        index: number of the specimen, from 0.
        seed: seed of the data set.
        ct_below_landmarks_mm: distance from the lowest landmark to the inferior end of the scan.

    Raises:
        InputError: the patient ends above the requested end of the scan.
    """
    name = specimen_names(index + 1)[index]
    rng = generator(seed, name)
    lower, upper = continued.volume_from_voxel[:3, 3], continued.upper_corner_mm
    if index == 0:
        warp, density = identity_warp(lower, upper), 1.0
    else:
        warp = random_warp(rng, lower, upper, DISPLACEMENT_SD_MM, SMOOTHNESS_MM, SCALE_RANGE, index % 2 == 1)
        density = float(rng.uniform(*DENSITY_RANGE))
    truth = warp_patient(continued, warp, density, FINE_SPACING_MM)
    landmarks = transport_landmarks(landmarks_mm, warp)
    top = (source.volume_from_voxel[:3, 3] + source.upper_corner_mm) / 2
    top[2] = source.upper_corner_mm[2]
    top_mm = warp.specimen_from_source(top[None])[0, 2]
    lowest_mm = min(position[2] for position in landmarks.values())
    bottom_mm = lowest_mm - ct_below_landmarks_mm
    end_mm = truth.volume_from_voxel[2, 3]
    if bottom_mm < end_mm:
        what = f"{ct_below_landmarks_mm:g} mm, and {name} ends {lowest_mm - end_mm:.0f} mm below its lowest landmark"
        raise InputError("config: demo.ct_below_landmarks_mm", what, "Make it smaller")
    return SimulatedPatient(name, truth, scan(truth, bottom_mm, top_mm, rng), landmarks, warp)


def make_specimens(source: Anatomy, count: int, seed: int, ct_below_landmarks_mm: float) -> Iterator[SimulatedPatient]:
    """Make `count` specimens, one at a time; see `make_specimen`."""
    landmarks = find_landmarks(source)
    continued = extend(source, SUPERIOR_MM, INFERIOR_MM)
    for index in range(count):
        yield make_specimen(source, continued, landmarks, index, seed, ct_below_landmarks_mm)
