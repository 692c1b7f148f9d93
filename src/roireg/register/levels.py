"""A registration problem, and its version at a lower resolution."""

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

# Assumed patient depth as a fraction of the source-detector distance; sets the voxel size of each level.
PATIENT_DEPTH = 0.7
LEAST_FRACTION = 1e-6


@dataclass(frozen=True, eq=False)
class Problem:
    """An X-ray to be registered to a CT.

    The rig is a frame in which the cameras of all X-rays of a patient are known. Registration searches the pose
    `volume_from_rig`, common to all X-rays. For a single X-ray the rig may be its camera.

    Attributes:
        xray: the fixed image.
        camera: camera of the image.
        volume: the CT, attenuation in 1/mm.
        weights: pixel weights as a function of the pose; None for equal weights.
        step_mm: distance between the renderer's samples on the central ray; None for its default.
        rig_from_camera: pose of the camera in the rig, mm.
        mask: true for measured pixels; None if all are.
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
    """A problem at one resolution; `sigma_px` is the SD of the Gaussian window of local normalisation.

    Images are on the device of the volume, `rig_from_camera` is on the CPU.
    `measured` is 1 for pixels that come from measured pixels alone, 0 for the others; None if all are measured.
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
        """Filter matrices for rows and columns that sum an image in Gaussian windows; zero beyond its borders."""
        height, width = self.fixed.shape
        return gaussian_band(height, self.sigma_px, self.fixed), gaussian_band(width, self.sigma_px, self.fixed)

    def weight(self, poses: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B 1 H W"]:
        """Pixel weights at the poses."""
        if self.weights is None:
            weight = self.fixed.new_ones(len(poses), 1, *self.fixed.shape)
        else:
            weight = self.weights(self.camera, poses.to(self.fixed.device))[:, None].to(self.fixed)
        return weight if self.measured is None else weight * self.measured

    @cached_property
    def measured_fraction(self) -> float:
        """Fraction of the image that is measured, by which coverage is normalised."""
        return 1.0 if self.measured is None else max(float(self.measured.mean()), LEAST_FRACTION)


def gaussian_band(n: int, sigma_px: float, like: Tensor) -> Float[Tensor, "N N"]:
    """Matrix that sums a line of n pixels, weighted by a Gaussian of height 1 around each pixel."""
    position = torch.arange(n, dtype=like.dtype, device=like.device)
    return torch.exp(-0.5 * ((position[:, None] - position) / sigma_px).square())


def level(problem: Problem, size_px: int, sigma_px: float) -> Level:
    """The problem at a lower resolution: longer side at most `size_px`, and voxels about the size of a projected pixel.

    Args:
        problem: the problem at full resolution.
        size_px: largest length of the longer side.
        sigma_px: SD of the Gaussian window of local normalisation.
    """
    scale = min(size_px / max(problem.xray.shape), 1)
    height, width = (round(n * scale) for n in problem.xray.shape)
    camera = problem.camera.resized(height, width)
    pixel_mm = PATIENT_DEPTH * min(camera.pixel_spacing_mm)
    factor = max(int(pixel_mm / float(problem.volume.spacing_mm.max())), 1)
    volume = problem.volume.coarsened(factor)
    fixed = functional.adaptive_avg_pool2d(problem.xray[None], (height, width))[0].to(volume.values)
    step_mm = default_step_mm(problem.volume) if problem.step_mm is None else problem.step_mm
    measured = None
    if problem.mask is not None:
        hidden = functional.adaptive_avg_pool2d((~problem.mask)[None].to(fixed.dtype), (height, width))[0]
        measured = (hidden == 0).to(fixed)
    rig_from_camera = problem.rig_from_camera
    return Level(fixed, camera, volume, problem.weights, factor * step_mm, sigma_px, rig_from_camera, measured)
