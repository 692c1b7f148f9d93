"""From stored grey values to the image that is registered: the same for data sets and for single files."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from roireg.data.measured import filled
from roireg.errors import InputError
from roireg.geometry.camera import Camera

SIZE_PX = 128
LEAST_SIZE_PX = 32
LEAST_SHRUNK_PX = 8
# Pixels that differ from the median by this fraction of the range, and how many of them make a picture.
SEEN, SEEN_FRACTION = 0.02, 0.005
# Of the largest intensity: below what a detector of 20 bits can tell from nothing.
LEAST_INTENSITY = 1e-6
# DiffPose's, in pixels of the stored image: a Gaussian of 5x5.
BLUR_SIGMA_PX = 1.0
BLUR_RADIUS_PX = 2


@dataclass(frozen=True)
class GreyScale:
    """What stored grey values mean.

    Attributes:
        bone_bright: more attenuation has larger values.
        linear: values are proportional to the intensity at the detector, not to its logarithm.
    """

    bone_bright: bool
    linear: bool


# As detectors count: what DeepFluoro and the demo store.
RAW_INTENSITY = GreyScale(bone_bright=False, linear=True)


def preprocess(
    where: object,
    stored: Shaped[np.ndarray, "R C"],
    camera: Camera,
    grey_scale: GreyScale,
    size: tuple[int, int],
    valid: Bool[np.ndarray, "R C"] | None = None,
) -> tuple[Float[Tensor, "H W"], Camera]:
    """The image that is registered, and its camera; see `preprocess_pixels`. `camera` is that of `stored`."""
    return preprocess_pixels(where, stored, grey_scale, size, valid), camera.resized(*size)


def size_within(shape: tuple[int, int], longer_side_px: int) -> tuple[int, int]:
    """Height and width in the ratio of `shape`, the longer side at most `longer_side_px` and no longer than it is."""
    scale = min(longer_side_px / max(shape), 1.0)
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def preprocess_pixels(
    where: object,
    stored: Shaped[np.ndarray, "R C"],
    grey_scale: GreyScale,
    size: tuple[int, int],
    valid: Bool[np.ndarray, "R C"] | None = None,
) -> Float[Tensor, "H W"]:
    r"""The image that is registered.

    Gaussian blur of sigma 1 px, attenuation $\ln I_0 - \ln I$ (DiffPose's order), area resampling, minimum
    and maximum scaled to 0 and 1. $I_0$, the largest value, drops out.

    Args:
        where: of the file, for errors.
        stored: grey values, cropped and upright; intensities that are not positive count as the smallest positive one.
        grey_scale: what the values mean.
        size: height and width of the result.
        valid: pixels that are measurements; the others take the values of the nearest ones. None where all are.

    Raises:
        InputError: the image shows nothing, or is too small.
    """
    if min(stored.shape) < LEAST_SIZE_PX:
        fault = f"it is {stored.shape[1]} x {stored.shape[0]} pixels"
        raise InputError(where, fault, f"Give an X-ray of {LEAST_SIZE_PX} pixels a side at least, or crop less")
    if min(size) < LEAST_SHRUNK_PX:
        fault = f"it is {stored.shape[1]} x {stored.shape[0]} pixels"
        raise InputError(where, fault, "Give an X-ray whose sides are less unlike")
    values = stored.astype(np.float64)
    if valid is not None:
        values = filled(values, valid)
    if not np.isfinite(values).all():
        raise InputError(where, "it holds NaN or infinite values", "Export the X-ray again")
    if values.min() == values.max():
        raise blank(where)
    if grey_scale.linear and values.max() <= 0:
        fault = "no value is positive, so values are no intensities"
        raise InputError(where, fault, "If they are logarithms, say `intensity: log` in a camera file")
    attenuation = _attenuation(values, grey_scale)
    small = interpolate(torch.from_numpy(attenuation)[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    low, high = float(small.min()), float(small.max())
    # After the logarithm and after shrinking: a few odd pixels are no picture.
    if not high > low or float(((small - small.median()).abs() > SEEN * (high - low)).double().mean()) < SEEN_FRACTION:
        raise blank(where)
    return ((small - small.min()) / (small.max() - small.min())).float()


def blank(where: object) -> InputError:
    """The error of an image without contrast."""
    return InputError(where, "the image is blank", "Give another X-ray; if a crop was given, crop less")


def _attenuation(values: Float[np.ndarray, "R C"], grey_scale: GreyScale) -> Float[np.ndarray, "R C"]:
    """Log attenuation up to a constant and a factor."""
    if not grey_scale.linear:
        return ndimage.gaussian_filter(
            values if grey_scale.bone_bright else -values, BLUR_SIGMA_PX, radius=BLUR_RADIUS_PX
        )
    intensity = values.max() + values.min() - values if grey_scale.bone_bright else values
    positive = intensity[intensity > 0]
    floor = positive.min() if len(positive) else 1.0
    # Counts are whole; of floats the smallest may be as small as rounding.
    floored = np.maximum(intensity, max(floor, LEAST_INTENSITY * intensity.max()))
    blurred = ndimage.gaussian_filter(floored, BLUR_SIGMA_PX, radius=BLUR_RADIUS_PX)
    return np.log(blurred.max()) - np.log(blurred)


def preprocess_labels(labels: Shaped[np.ndarray, "R C"], height: int, width: int) -> UInt8[Tensor, "H W"]:
    """Label ids at the size of the preprocessed image, by nearest pixel centre."""
    as_tensor = torch.from_numpy(labels.astype(np.uint8))[None, None]
    return interpolate(as_tensor, size=(height, width), mode="nearest-exact")[0, 0]


def cut_out(
    stored: Shaped[np.ndarray, "R C"], rows: slice, columns: slice, camera: Camera
) -> tuple[Shaped[np.ndarray, "H W"], Camera]:
    """A part of the image, and its camera."""
    return stored[rows, columns], camera.window(rows, columns)
