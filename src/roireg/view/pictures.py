"""The pictures that the page shows, as 8-bit planes: X-ray, DRR, what the CT covers, and outlines of labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.preprocess import size_within
from roireg.data.volume import Volume, cropped
from roireg.drr import coverage, project_mask, render
from roireg.drr.render import default_step_mm
from roireg.geometry.camera import Camera
from roireg.view.sources import View

# Longer side while the hand moves, and samples so many times as far apart as the renderer's default.
MOVING_PX, MOVING_STEPS = 256, 2.0
# Rows that are rendered at once at full size: a new pose waits no longer than these take.
BAND_ROWS = 48
BRIGHTEST = 255


@dataclass(frozen=True, eq=False)
class Plane:
    """An 8-bit picture of an X-ray's field.

    Attributes:
        kind: `xray`, `drr`, `covered` (0 where a ray leaves the CT through one of its ends, or where the X-ray has no
            measurement), or `outlines` (number of the label, from 1).
        pixels: grey values.
        low, high: of a DRR, the line integrals of grey values 0 and 255.
    """

    kind: str
    pixels: UInt8[np.ndarray, "H W"]
    low: float = 0.0
    high: float = 1.0


def xray_plane(view: View) -> Plane:
    """The X-ray, bone bright."""
    return Plane("xray", _bytes(view.shown.image))


def moving_camera(camera: Camera) -> Camera:
    """The camera of the small picture that follows the hand."""
    return camera.resized(*size_within((camera.height, camera.width), MOVING_PX))


def moving_step_mm(volume: Volume) -> float:
    """Distance of the renderer's samples while the hand moves."""
    return MOVING_STEPS * default_step_mm(volume)


def moving_plane(patient: Patient, camera: Camera, pose: Float[Tensor, "4 4"]) -> Plane:
    """The small DRR at a pose `volume_from_camera` (mm) of an X-ray with this camera."""
    volume = patient.volume
    return drr_plane(render(volume, moving_camera(camera), pose[None], moving_step_mm(volume))[0])


def drr_bands(patient: Patient, camera: Camera, pose: Float[Tensor, "4 4"]) -> Iterator[Float[Tensor, "R W"]]:
    """The DRR at full size, a few rows at a time."""
    for first in range(0, camera.height, BAND_ROWS):
        rows = slice(first, min(first + BAND_ROWS, camera.height))
        yield render(patient.volume, camera.window(rows, slice(0, camera.width)), pose[None])[0]


def drr_plane(image: Float[Tensor, "H W"]) -> Plane:
    """Line integrals scaled to 0 to 255, as X-rays are."""
    return Plane("drr", _bytes(scaled(image[None])[0]), float(image.min()), float(image.max()))


def covered_plane(patient: Patient, view: View, pose: Float[Tensor, "4 4"]) -> Plane:
    """Which pixels count, at the size of the small picture."""
    camera = moving_camera(view.shown.camera)
    covered = coverage(patient.volume, camera, pose[None])[0] > 0
    if view.shown.mask is not None:
        measured = torch.nn.functional.interpolate(
            view.shown.mask[None, None].float(), size=(camera.height, camera.width), mode="nearest-exact"
        )
        covered = covered & (measured[0, 0] > 0)
    return Plane("covered", covered.to(torch.uint8).numpy())


def outlines_plane(patient: Patient, camera: Camera, pose: Float[Tensor, "4 4"]) -> Plane:
    """Outlines of the labels' shadows, at the size of the small picture; where they cross, the later label is seen."""
    small = moving_camera(camera)
    out = np.zeros((small.height, small.width), np.uint8)
    for number, label in enumerate(patient.label_names, start=1):
        shadow = project_mask(_label_volume(patient, label), small, pose[None])[0].numpy()
        out[shadow & ~ndimage.binary_erosion(shadow, border_value=1)] = number
    return Plane("outlines", out)


def _label_volume(patient: Patient, label: int) -> Volume:
    key = f"label {label}"
    if key not in patient.volume.derived:
        patient.volume.derived[key] = cropped(patient.volume.with_values((patient.known_labels == label).float()))
    found: Volume = patient.volume.derived[key]
    return found


def _bytes(image: Float[Tensor, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Values in [0, 1] as 0 to 255."""
    return (image * BRIGHTEST).round().clamp(0, BRIGHTEST).to(torch.uint8).numpy()
