"""Preprocessing of X-rays, from stored grey values to the image that is registered, for data sets and single files."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from roireg.errors import InputError
from roireg.geometry.camera import Camera

SIZE_PX = 128
LEAST_SIZE_PX = 32
# Gaussian blur as in DiffPose, with a window of 5x5 pixels of the stored image.
BLUR_SIGMA_PX = 1.0
BLUR_RADIUS_PX = 2


@dataclass(frozen=True)
class GreyScale:
    """Meaning of stored grey values.

    Attributes:
        bone_bright: True if higher attenuation has larger values.
        linear: True if values are proportional to the intensity at the detector; False for its logarithm.
    """

    bone_bright: bool
    linear: bool


# Raw counts of a detector, as DeepFluoro and the demo store.
RAW_INTENSITY = GreyScale(bone_bright=False, linear=True)


def preprocess(
    where: object, stored: Shaped[np.ndarray, "R C"], camera: Camera, grey_scale: GreyScale, size: tuple[int, int]
) -> tuple[Float[Tensor, "H W"], Camera]:
    """The preprocessed image (see `preprocess_pixels`) and its camera, from the camera of `stored`."""
    return preprocess_pixels(where, stored, grey_scale, size), camera.resized(*size)


def size_within(shape: tuple[int, int], longer_side_px: int) -> tuple[int, int]:
    """Height and width with the ratio of `shape` and the longer side at most `longer_side_px`; never enlarged."""
    scale = min(longer_side_px / max(shape), 1.0)
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def preprocess_pixels(
    where: object, stored: Shaped[np.ndarray, "R C"], grey_scale: GreyScale, size: tuple[int, int]
) -> Float[Tensor, "H W"]:
    r"""Convert stored grey values to the image that is registered.

    Steps, in DiffPose's order: Gaussian blur of sigma 1 px; attenuation $\ln I_0 - \ln I$, with $I_0$ the largest
    value, which cancels in the last step; antialiased resampling; scaling of minimum and maximum to 0 and 1.

    Args:
        where: name of the file, for error messages.
        stored: grey values, cropped and upright. Intensities that are not positive are set to the smallest positive
            one.
        grey_scale: meaning of the values.
        size: height and width of the result.

    Raises:
        InputError: the image is blank or too small.
    """
    if min(stored.shape) < LEAST_SIZE_PX:
        fault = f"it is {stored.shape[1]} x {stored.shape[0]} pixels"
        raise InputError(where, fault, f"Use an X-ray of at least {LEAST_SIZE_PX} pixels on each side, or crop less")
    values = stored.astype(np.float64)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise InputError(where, "the image is blank within the crop", "Use another X-ray, or crop less")
    attenuation = _attenuation(values, grey_scale)
    small = interpolate(torch.from_numpy(attenuation)[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    if not bool(small.max() > small.min()):
        raise InputError(where, "the image is blank within the crop", "Use another X-ray, or crop less")
    return ((small - small.min()) / (small.max() - small.min())).float()


def _attenuation(values: Float[np.ndarray, "R C"], grey_scale: GreyScale) -> Float[np.ndarray, "R C"]:
    """Log attenuation, up to an additive constant and a factor."""
    if not grey_scale.linear:
        return ndimage.gaussian_filter(
            values if grey_scale.bone_bright else -values, BLUR_SIGMA_PX, radius=BLUR_RADIUS_PX
        )
    intensity = values.max() + values.min() - values if grey_scale.bone_bright else values
    positive = intensity[intensity > 0]
    floored = np.maximum(intensity, positive.min() if len(positive) else 1.0)
    blurred = ndimage.gaussian_filter(floored, BLUR_SIGMA_PX, radius=BLUR_RADIUS_PX)
    return np.log(blurred.max()) - np.log(blurred)


def preprocess_labels(labels: Shaped[np.ndarray, "R C"], height: int, width: int) -> UInt8[Tensor, "H W"]:
    """Label ids resampled to the size of the preprocessed image, by nearest neighbour."""
    as_tensor = torch.from_numpy(labels.astype(np.uint8))[None, None]
    return interpolate(as_tensor, size=(height, width), mode="nearest-exact")[0, 0]


def cut_out(
    stored: Shaped[np.ndarray, "R C"], rows: slice, columns: slice, camera: Camera
) -> tuple[Shaped[np.ndarray, "H W"], Camera]:
    """A rectangular part of the image, and its camera."""
    return stored[rows, columns], camera.window(rows, columns)
