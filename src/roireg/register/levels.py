"""A registration problem, and the same at lower resolution."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from roireg.data.volume import Volume
from roireg.drr.render import default_step_mm
from roireg.geometry.camera import Camera
from roireg.register.weights import WeightMap

# How far towards the detector the patient is, of the way from the source: enough to tell how large a pixel is in him.
PATIENT_SHARE = 0.7
LEAST_FRACTION = 1e-6


@dataclass(frozen=True, eq=False)
class Problem:
    """An X-ray and what it is registered to.

    Several X-rays of one patient are taken from one rig: the pose that is sought, `volume_from_rig`, is that of the
    frame in which all their cameras are known. For an X-ray alone the rig is its camera.

    Attributes:
        xray: the fixed image.
        camera: its detector.
        volume: attenuation in 1/mm.
        weights: map of weights at a pose, or None for all pixels alike.
        step_mm: sampling of the renderer, or None for its default.
        rig_from_camera: where the camera is in the rig, mm.
        mask: true for pixels that are measurements, or None where all are.
    """

    xray: Float[Tensor, "H W"]
    camera: Camera
    volume: Volume
    weights: WeightMap | None
    step_mm: float | None
    rig_from_camera: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))
    mask: Bool[Tensor, "H W"] | None = None


@dataclass(frozen=True, eq=False)
class Level:
    """A problem at one resolution; `sigma_px` is the Gaussian window of its local normalisation.

    `measured` is 1 for pixels that come from measurements alone, 0 for the others.
    """

    fixed: Float[Tensor, "H W"]
    camera: Camera
    volume: Volume
    weights: WeightMap | None
    step_mm: float
    sigma_px: float
    rig_from_camera: Float[Tensor, "4 4"]
    measured: Float[Tensor, "H W"] | None = None

    @cached_property
    def windows(self) -> tuple[Float[Tensor, "H H"], Float[Tensor, "W W"]]:
        """The filters of rows and columns that sum an image in Gaussian windows; nothing lies beyond its borders."""
        return tuple(gaussian_band(n, self.sigma_px, self.fixed) for n in self.fixed.shape)

    def weight(self, poses: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B 1 H W"]:
        """Weights at the poses."""
        if self.weights is None:
            weight = self.fixed.new_ones(len(poses), 1, *self.fixed.shape)
        else:
            weight = self.weights(self.camera, poses)[:, None].to(self.fixed)
        return weight if self.measured is None else weight * self.measured

    @cached_property
    def measured_fraction(self) -> float:
        """Of the image, what is measured: coverage is a fraction of that."""
        return 1.0 if self.measured is None else max(float(self.measured.mean()), LEAST_FRACTION)


def gaussian_band(n: int, sigma_px: float, like: Tensor) -> Float[Tensor, "N N"]:
    """The matrix that sums a line of n pixels under Gaussians of height 1."""
    position = torch.arange(n, dtype=like.dtype)
    return torch.exp(-0.5 * ((position[:, None] - position) / sigma_px).square())


def level(problem: Problem, size_px: int, sigma_px: float) -> Level:
    """The problem with an image of at most `size_px` pixels a side, and voxels about as large as a pixel shows."""
    scale = min(size_px / max(problem.xray.shape), 1)
    height, width = (round(n * scale) for n in problem.xray.shape)
    camera = problem.camera.resized(height, width)
    pixel_mm = PATIENT_SHARE * min(camera.pixel_spacing_mm)
    factor = max(int(pixel_mm / float(problem.volume.spacing_mm.max())), 1)
    volume = problem.volume.coarsened(factor)
    fixed = functional.adaptive_avg_pool2d(problem.xray[None], (height, width))[0].to(volume.values.dtype)
    step_mm = default_step_mm(problem.volume) if problem.step_mm is None else problem.step_mm
    measured = None
    if problem.mask is not None:
        hidden = functional.adaptive_avg_pool2d((~problem.mask)[None].to(fixed), (height, width))[0]
        measured = (hidden == 0).to(fixed)
    rig_from_camera = problem.rig_from_camera
    return Level(fixed, camera, volume, problem.weights, factor * step_mm, sigma_px, rig_from_camera, measured)
