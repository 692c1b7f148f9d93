"""Which pixels of an image are measurements, and not padding, shutters, or what lies beyond a round field."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor
from torch.nn.functional import interpolate

from roireg.errors import InputError

# A border that is flat to this fraction of the image's range holds no measurement.
FLAT_FRACTION = 0.005
LEAST_BORDER_FRACTION = 0.005
# Of the image: so many pixels with exactly the brightest value are a detector at its limit.
LEAST_SATURATED = 0.005
# What a collimator leaves open is convex, and so is a round field; a patient's outline is not.
CONVEXITY = 0.985
SOLIDITY = 0.97
# Of the union of a field and a disc, or of a field's bounding box; and the part of the outline within the image.
DISC, RECTANGLE, LEAST_OUTLINE = 0.98, 0.998, 0.2
# At a leaf's edge values are mixed with those behind it: of the longer side, and in pixels.
EDGE_FRACTION, EDGE_PX = 0.01, 2
LEAST_MEASURED_FRACTION = 0.05
# Of a pixel of the shrunk image, what may come from pixels that are no measurement.
MIXED = 1e-3


def found_border(values: Shaped[np.ndarray, "R C"], bone_bright: bool) -> Bool[np.ndarray, "R C"] | None:
    """Pixels of flat borders around a field, as collimators and image intensifiers leave them; None if there are none.

    Air that saturates the detector is flat too, and is a measurement. So a border as bright as air counts only around
    a disc or a rectangle, which no patient is; any other border counts around a convex field.

    Args:
        values: grey values.
        bone_bright: more attenuation has larger values.
    """
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        return None
    low, high = np.percentile(numbers, [1, 99])
    tolerance = FLAT_FRACTION * max(high - low, 0)
    air = numbers.min() if bone_bright else numbers.max()
    regions: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for level in _border_levels(numbers):
        like_air = bool(abs(level - air) <= tolerance)
        for reach in (0.0,) if like_air else (tolerance, 0.0):
            region = _touching(np.abs(numbers - level) <= reach)
            if region.mean() >= LEAST_BORDER_FRACTION and _solid(region):
                regions[like_air].append(region)
                break
    border = np.zeros(values.shape, bool)
    for found, shaped in zip(regions, (_convex, _disc_or_rectangle), strict=True):
        if found:
            both = border | np.any(found, axis=0)
            if not both.all() and shaped(~both):
                border = both
    return border if border.any() else None


def saturated_pixels(values: Shaped[np.ndarray, "R C"], bone_bright: bool) -> Bool[np.ndarray, "R C"] | None:
    """Pixels at which the detector was at its limit, beside the patient or behind little of him, or None.

    There the image says that attenuation is small, but not how small: where skin meets saturated air, the outline that
    is seen lies within the true one, and the patient looks smaller, as if farther from the source.

    Args:
        values: grey values as they are stored.
        bone_bright: more attenuation has larger values.
    """
    region = values == (values.min() if bone_bright else values.max())
    return region if region.mean() >= LEAST_SATURATED and _solid(region) else None


def _border_levels(values: Shaped[np.ndarray, "R C"]) -> list[float]:
    """Values in the corners and the commonest along each side."""
    sides = (values[0], values[-1], values[:, 0], values[:, -1])
    levels = [values[row, column] for row in (0, -1) for column in (0, -1)]
    for side in sides:
        found, counts = np.unique(side, return_counts=True)
        if counts.max() > len(side) // 10:
            levels.append(found[counts.argmax()])
    return sorted({float(level) for level in levels})


def _touching(region: Bool[np.ndarray, "R C"]) -> Bool[np.ndarray, "R C"]:
    """The parts of a region that reach the image's border."""
    parts, count = ndimage.label(region)
    if count == 0:
        return region
    at_border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, at_border[at_border > 0])


def _solid(region: Bool[np.ndarray, "R C"]) -> bool:
    """Whether there are no holes but a few: noise about one level leaves many."""
    closed = ndimage.binary_closing(np.pad(region, 2, mode="edge"), iterations=2)[2:-2, 2:-2]
    return bool(region.sum() >= SOLIDITY * closed.sum())


def _largest(field: Bool[np.ndarray, "R C"]) -> Bool[np.ndarray, "R C"]:
    """The largest part of a field, without holes."""
    parts, count = ndimage.label(field)
    sizes = ndimage.sum_labels(field, parts, range(1, count + 1))
    return ndimage.binary_fill_holes(parts == int(np.argmax(sizes)) + 1)


def _outline(field: Bool[np.ndarray, "R C"]) -> Float[np.ndarray, "N 2"]:
    """Corners of the first and last pixels of each row of a field."""
    rows = np.flatnonzero(field.any(axis=1))
    left = field[rows].argmax(axis=1)
    right = field.shape[1] - field[rows][:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([rows + edge, side], 1) for edge in (0, 1) for side in (left, right)]).astype(float)


def _convex(field: Bool[np.ndarray, "R C"]) -> bool:
    """Whether the largest part of a field fills its convex hull."""
    field = _largest(field)
    if field.mean() < LEAST_MEASURED_FRACTION:
        return False
    try:
        return bool(field.sum() >= CONVEXITY * ConvexHull(_outline(field)).volume)
    except QhullError:
        return False


def _disc_or_rectangle(field: Bool[np.ndarray, "R C"]) -> bool:
    """Whether the largest part of a field is a disc, cut by the image's sides or not, or an upright rectangle."""
    field = _largest(field)
    if field.mean() < LEAST_MEASURED_FRACTION:
        return False
    rows, columns = bounds_of(field)
    if field[rows, columns].mean() >= RECTANGLE:
        return True
    outline = _outline(field)
    inside = ((outline > 1) & (outline < np.array(field.shape) - 1)).all(axis=1)
    if inside.sum() < LEAST_OUTLINE * len(outline):
        return False
    points = outline[inside]
    # A circle through points solves linear equations in its centre and in what is left of its radius.
    unknowns, *_ = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)
    center, squared = unknowns[:2], unknowns[2] + (unknowns[:2] ** 2).sum()
    row, column = np.ogrid[: field.shape[0], : field.shape[1]]
    disc = (row + 0.5 - center[0]) ** 2 + (column + 0.5 - center[1]) ** 2 <= squared
    return bool((field & disc).sum() >= DISC * (field | disc).sum())


def without_edges(invalid: Bool[np.ndarray, "R C"]) -> Bool[np.ndarray, "R C"]:
    """Pixels that are measurements: those so far from the invalid ones that nothing of them is mixed in."""
    reach = max(EDGE_PX, round(EDGE_FRACTION * max(invalid.shape)))
    return ndimage.distance_transform_edt(~invalid) > reach


def measured_pixels(
    where: object,
    values: Shaped[np.ndarray, "R C"],
    bone_bright: bool,
    stated: Bool[np.ndarray, "R C"] | None = None,
) -> Bool[np.ndarray, "R C"] | None:
    """Pixels that are measurements, by what the file states and by looking; None where all are.

    Args:
        where: of the file, for errors.
        values: grey values as they are stored.
        bone_bright: more attenuation has larger values.
        stated: pixels of which the file says that they are none.

    Raises:
        InputError: hardly any pixel is.
    """
    if stated is not None and stated.any() and not stated.all():
        values = filled(values, ~stated)
    found = found_border(values, bone_bright)
    invalid = np.zeros(values.shape, bool)
    for one in (stated, found):
        if one is not None:
            invalid |= one
    return _rest(where, invalid)


def counting_pixels(
    where: object,
    values: Shaped[np.ndarray, "R C"],
    bone_bright: bool,
    stated: Bool[np.ndarray, "R C"] | None = None,
) -> Bool[np.ndarray, "R C"] | None:
    """Pixels that are measurements (`measured_pixels`) by a detector that was not saturated; None where all are.

    Raises:
        InputError: hardly any pixel is.
    """
    measured = measured_pixels(where, values, bone_bright, stated)
    saturated = saturated_pixels(values if measured is None else filled(values, measured), bone_bright)
    if saturated is None or saturated.all():
        return measured
    rest = _rest(where, saturated)
    return rest if measured is None or rest is None else rest & measured


def _rest(where: object, invalid: Bool[np.ndarray, "R C"]) -> Bool[np.ndarray, "R C"] | None:
    """What is left without pixels that are no measurements and their edges; None where all are.

    Raises:
        InputError: hardly any pixel is left.
    """
    if not invalid.any():
        return None
    valid = without_edges(invalid)
    if valid.mean() < LEAST_MEASURED_FRACTION:
        rest = "the rest is padding, shutter, a flat border or saturated"
        what = f"only {valid.mean():.0%} of its pixels are measurements: {rest}"
        raise InputError(where, what, "Give another X-ray, or correct the shutter's tags")
    return valid


def filled(values: Shaped[np.ndarray, "R C"], valid: Bool[np.ndarray, "R C"]) -> Shaped[np.ndarray, "R C"]:
    """Values with each one that is no measurement replaced by the nearest that is."""
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def bounds_of(valid: Bool[np.ndarray, "R C"]) -> tuple[slice, slice]:
    """Rows and columns that hold all valid pixels."""
    rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def mask_at(valid: Bool[np.ndarray, "R C"] | None, size: tuple[int, int]) -> Bool[Tensor, "H W"] | None:
    """The mask at the size of the preprocessed image: pixels that come from measurements alone; None where all do."""
    if valid is None or valid.all():
        return None
    invalid = torch.from_numpy(~valid).double()[None, None]
    return interpolate(invalid, size=size, mode="bilinear", antialias=True)[0, 0].abs() < MIXED
