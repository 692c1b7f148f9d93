"""An X-ray with all that is known of how it was taken."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from roireg.errors import InputError
from roireg.geometry.camera import Camera

# Directions of the patient (PS3.3, C.7.6.1.1.1), volume frame.
DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
SIZE_PX = 128
LEAST_SIZE_PX = 32


@dataclass(frozen=True)
class Fact:
    """One thing that is known of an X-ray: what, its value, and where from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, eq=False)
class View:
    """An X-ray as it is registered.

    Attributes:
        name: of the file.
        image: `(H, W)` log attenuation scaled to [0, 1]; bone is bright.
        camera: its detector.
        stored_camera: the detector of the image as it is stored, before crop and shrinking; of the same rays.
        rig_from_camera: the camera in the frame in which all views of the patient are known, mm. For a C-arm that is
            its isocentre, with axes as the patient lies (LPS).
        facts: how it was taken.
        warnings: what was assumed.
    """

    name: str
    image: Float[Tensor, "H W"]
    camera: Camera
    stored_camera: Camera
    rig_from_camera: Float[Tensor, "4 4"]
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()

    def upside_down(self) -> "View":
        """The same picture, taken with the C-arm turned by half a turn about its central ray."""
        half_turn = torch.diag(self.rig_from_camera.new_tensor([-1.0, -1.0, 1.0, 1.0]))
        return replace(self, rig_from_camera=self.rig_from_camera @ half_turn)

    def mirrored(self) -> "View":
        """The same picture, taken to be seen from the other side of the detector."""
        return replace(self, camera=self.camera.mirrored(), stored_camera=self.stored_camera.mirrored())


def prepared(
    path: object, stored: np.ndarray, camera: Camera, bone_bright: bool, linear: bool, size_px: int
) -> tuple[Float[Tensor, "H W"], Camera]:
    """The image that is registered, and its camera: attenuation, no larger than `size_px`, scaled to [0, 1].

    Args:
        path: of the file, for errors.
        stored: `(H, W)` as it is stored.
        camera: of the stored image.
        bone_bright: whether more attenuation has larger values.
        linear: whether values are proportional to the intensity at the detector, or to its logarithm.
        size_px: longer side of the result.

    Raises:
        InputError: the image shows nothing, or is too small.
    """
    if min(stored.shape) < LEAST_SIZE_PX:
        fault = f"it is {stored.shape[1]} x {stored.shape[0]} pixels"
        raise InputError(path, fault, f"Give an X-ray of {LEAST_SIZE_PX} pixels a side at least, or crop less")
    values = stored.astype(np.float64)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise InputError(path, "the image is blank within the crop", "Give another X-ray, or crop less")
    if linear:
        intensity = values.max() + values.min() - values if bone_bright else values
        intensity = np.maximum(intensity, intensity[intensity > 0].min() if (intensity > 0).any() else 1.0)
        attenuation = np.log(intensity.max()) - np.log(intensity)
    else:
        attenuation = values if bone_bright else -values
    scale = min(size_px / max(stored.shape), 1.0)
    height, width = (max(round(n * scale), 1) for n in stored.shape)
    small = interpolate(
        torch.from_numpy(attenuation)[None, None], size=(height, width), mode="bilinear", antialias=True
    )[0, 0]
    small = (small - small.min()) / (small.max() - small.min())
    return small.float(), camera.resized(height, width)


def centred_camera(
    height: int, width: int, spacing_mm: tuple[float, float], source_to_detector_mm: float, from_behind: bool
) -> Camera:
    """A camera whose central ray meets the middle of the image.

    Args:
        height, width: pixels.
        spacing_mm: of a pixel on the detector, along a row and along a column.
        source_to_detector_mm: focal length.
        from_behind: whether the image is seen from behind the detector, as C-arms show it.
    """
    fx, fy = source_to_detector_mm / spacing_mm[0], source_to_detector_mm / spacing_mm[1]
    k = [[-fx if from_behind else fx, 0.0, (width - 1) / 2], [0.0, fy, (height - 1) / 2], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, dtype=torch.float64), height, width, spacing_mm)


def without_borders(stored: np.ndarray, rows: slice, columns: slice, camera: Camera) -> tuple[np.ndarray, Camera]:
    """A part of the image, and its camera."""
    return stored[rows, columns], camera.window(rows, columns)
