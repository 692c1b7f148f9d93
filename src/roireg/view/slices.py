"""Slices of the CT, on which points are clicked."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from roireg.data.patient import Patient
from roireg.data.volume import MU_BONE_PER_MM
from roireg.errors import InputError

# Attenuation that is shown white: that of bone at about 1200 HU.
WHITE_PER_MM = 1.1 * MU_BONE_PER_MM


def slice_of(patient: Patient, axis: int, index: int) -> UInt8[np.ndarray, "H W"]:
    """Grey values of the voxels whose index along an axis of the grid (0, 1, 2 for x, y, z) is given.

    Rows and columns are the other two axes, the earlier one along the rows.

    Raises:
        InputError: the CT has no such slice.
    """
    values = patient.volume.values
    if axis not in (0, 1, 2) or not 0 <= index < values.shape[2 - axis]:
        raise InputError(f"slice {index} of axis {axis}", "the CT has no such slice", "Choose another")
    picked = values.select(2 - axis, index).numpy()
    return np.rint((picked / WHITE_PER_MM).clip(0, 1) * 255).astype(np.uint8)


def png(pixels: UInt8[np.ndarray, "H W"]) -> bytes:
    """A grey picture as PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()
