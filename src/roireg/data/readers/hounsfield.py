"""Are a CT's values Hounsfield units? Judged by where they concentrate, padding aside."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from roireg.errors import InputError

# Below the thinnest air lies what scanners and programs fill corners with.
LEAST_MEASURED_HU = -1200.0
PADDING_GAP = 100.0
# In Hounsfield units every CT of a patient holds air, or fat at the least, and bone.
LEAST_HU, GREATEST_HU = -50.0, 150.0
# Metal in CTs of the extended range; beyond it values were stored without their sign.
IMPOSSIBLE_HU = 32767.0
DENSE_HU, DENSE_SHARE = 5000.0, 0.02
WATER_HU, WATER_SHARE = (-300.0, 300.0), 0.01
AIR_HU, AIR_SHARE = (-1150.0, -850.0), 0.01
# Where tissue lies if 1000 or 1024 was added; no more of a patient is bone as dense as that.
SHIFTED_TISSUE, SHIFTED_SHARE = (900.0, 1200.0), 0.1
TISSUE_HU = 40.0
USUAL_OFFSETS = (1000.0, 1024.0, 8192.0, 32768.0)
ABOUT = 30.0
SAMPLES = 2_000_000
BIN = 10.0
REMEDY = "Give the CT as the scanner made it, or --rescale SLOPE INTERCEPT"


def check_hounsfield(path: str | Path, hu: Float[np.ndarray, "D H W"]) -> None:
    """Refuse what cannot be a CT of a patient in Hounsfield units.

    Raises:
        InputError: says where values lie, and what was added to them if that can be measured.
    """
    low, high = float(hu.min()), float(hu.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError(path, "it holds NaN or infinite values", "Repair or re-export the CT")
    held = f"its values go from {low:.4g} to {high:.4g}"
    if low == high:
        raise InputError(path, f"all its voxels are {low:.4g}", "Give the CT as the scanner made it")
    measured = measured_values(hu)
    if len(measured) == 0 or measured.max() < GREATEST_HU:
        raise InputError(path, f"{held}: a patient in Hounsfield units has air near -1000 and bone above 300", REMEDY)
    if high > IMPOSSIBLE_HU and _share(measured, (2**15, 2**16)) > 0:
        remedy = "Export it with signed values: negative ones were stored as 65536 less"
        raise InputError(path, f"{held}: nothing is as dense as that", remedy)
    added = measured_offset(measured)
    remedy = REMEDY if added is None else f"It looks as if {added:g} was added: give --rescale 1 {-added:g}"
    if _share(measured, WATER_HU) < WATER_SHARE or _share(measured, (DENSE_HU, np.inf)) > DENSE_SHARE:
        raise InputError(path, f"{held}: hardly anything is about as dense as water (0 HU)", remedy)
    # In phantoms, and in CTs whose air was set to one value, that low value is air and not padding.
    clean_air = AIR_HU[0] <= low <= AIR_HU[1] and _share(measured, SHIFTED_TISSUE) <= SHIFTED_SHARE
    if float(measured.min()) >= LEAST_HU and not clean_air:
        what = f"{held}: nothing is as thin as air, so these are not Hounsfield units"
        raise InputError(path, what, remedy)
    if _share(measured, AIR_HU) < AIR_SHARE and _share(measured, SHIFTED_TISSUE) > SHIFTED_SHARE:
        raise InputError(path, f"{held}: most tissue lies about 1000 above water, where only bone can", remedy)


def measured_values(hu: Float[np.ndarray, "D H W"]) -> Float[np.ndarray, "N"]:
    """A sample of the values without padding: one value far below all others, or anything thinner than air."""
    flat = hu.ravel()
    sample = flat[:: max(len(flat) // SAMPLES, 1)]
    sample = sample[sample > LEAST_MEASURED_HU]
    if len(sample) == 0:
        return sample
    above = sample[sample > sample.min()]
    if len(above) and above.min() - sample.min() > PADDING_GAP:
        return above
    return sample


def measured_offset(measured: Float[np.ndarray, "N"]) -> float | None:
    """What was added to Hounsfield units, from the two peaks of air and tissue; None where they are not seen."""
    span = float(measured.max() - measured.min())
    if span < 500 or span > 2e5:
        return None
    counts, edges = np.histogram(measured, bins=np.arange(measured.min(), measured.max() + BIN, BIN))
    summed = np.concatenate([[0], np.cumsum(counts)])

    def between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        places = np.clip(np.searchsorted(edges, [low, high]), 0, len(summed) - 1)
        return summed[places[1]] - summed[places[0]]

    centers = edges[:-1] + BIN / 2
    air = between(centers - 60, centers + 60)
    tissue = between(centers + 900, centers + 1150)
    both = np.minimum(air, tissue)
    best = int(both.argmax())
    if both[best] < WATER_SHARE * len(measured):
        return None
    peak = measured[(measured > centers[best] + 900) & (measured < centers[best] + 1150)]
    # The middle of tissue tells better than air, which is often filled with the least value there is.
    offset = float(np.median(peak)) - TISSUE_HU
    usual = min(USUAL_OFFSETS, key=lambda one: abs(one - offset))
    if abs(usual - offset) <= ABOUT:
        return usual
    return None if abs(offset) < 100 else float(round(offset))


def _share(values: Float[np.ndarray, "N"], bounds: tuple[float, float]) -> float:
    return float(((values >= bounds[0]) & (values <= bounds[1])).mean())
