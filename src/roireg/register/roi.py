"""Regions of interest in registration: as a Dice term, or as pixel weights (paper, section 2.2 and Fig. 3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import interpolate

from roireg.data.images import scaled
from roireg.data.label_names import normalized
from roireg.data.patient import Patient
from roireg.data.volume import cropped
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.drr.render import default_step_mm
from roireg.drr.rois import project_rois, roi_boxes_px, roi_channels, roi_volumes
from roireg.geometry.camera import Camera
from roireg.metrics.similarity import dice
from roireg.register.registry import ROI_TERMS
from roireg.register.settings import PROJECTED, RoiTermSettings, segmenter_names
from roireg.register.weights import WeightMap
from roireg.segment.model import Segmenter, roi_numbers

# Length of bone along a ray at which a projected label reaches 1 - 1/e; except at its rim, a bone is thicker.
RIM_MM = 5.0
# Step of the renderer for labels, in voxel edges.
LABEL_STEP = 1.0


@dataclass(frozen=True)
class Regions:
    """The ROI term of a method, with the segmenters it needs.

    Attributes:
        settings: settings of the term.
        rois: all ROIs of the segmenters, in their order; names of labels of the CT.
        segmenters: segmenters by name.
    """

    settings: RoiTermSettings
    rois: tuple[str, ...]
    segmenters: Mapping[str, Segmenter] = field(default_factory=dict, repr=False)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the ROIs that the term uses."""
        return self.settings.rois or self.rois

    @property
    def channels(self) -> list[int]:
        """Indices, in the segmenters' channels, of the ROIs that the term uses."""
        names = [normalized(roi) for roi in self.rois]
        return [names.index(normalized(roi)) for roi in self.used]

    @property
    def acts_on(self) -> Literal["objective", "weights"]:
        """`objective` if the term is added to the objective, `weights` if it changes pixel weights."""
        return ROI_TERMS[self.settings.type].acts_on

    @property
    def segmenter_names(self) -> list[str]:
        """Names of the segmenters that the term needs."""
        return segmenter_names(vars(self.settings))


# Function from DRRs `(B, H, W)` in [0, 1] and their poses to soft maps of the ROIs, of any size.
MovingMaps = Callable[[Float[Tensor, "B H W"], Float[Tensor, "B 4 4"]], Float[Tensor, "B R I J"]]


@dataclass(frozen=True, eq=False)
class RoiTerm:
    """The Dice term of B X-rays with the same camera.

    Attributes:
        fixed: maps of the ROIs in the X-rays, segmented once.
        moving: returns maps of the ROIs in DRRs, of the same size.
        weight: factor of the term, the paper's beta_2.
    """

    fixed: Float[Tensor, "B R I J"]
    moving: MovingMaps
    weight: float

    def dice(
        self, drr: Float[Tensor, "B H W"], pose: Float[Tensor, "B 4 4"], pixels: Float[Tensor, "B H W"] | None
    ) -> Float[Tensor, "B"]:
        """Soft Dice of each X-ray at its pose, with pixel weights `pixels`; differentiable in the poses."""
        if pixels is not None:
            pixels = _at_size(pixels[:, None], self.fixed.shape[-2:])
        return dice(self.fixed, self.moving(drr, pose), pixels)


def roi_term(
    patient: Patient, xrays: Sequence[Xray], initial_poses: Float[Tensor, "B 4 4"], regions: Regions
) -> RoiTerm:
    """Make the Dice term of X-rays with the same camera: segment their ROIs, on the device of the poses.

    Raises:
        InputError: a ROI is not among the patient's labels.
    """
    boxes = _boxes_px(patient, xrays, initial_poses, regions)
    device = initial_poses.device
    fixed = _fixed_maps(xrays, device, regions, boxes)
    if regions.settings.moving == PROJECTED:
        camera, size = xrays[0].camera, xrays[0].image.shape
        scale = min(regions.settings.size_px / max(size), 1)
        camera = camera.resized(*(round(n * scale) for n in size))
        maps = ProjectedMaps(patient, regions.used, camera, device)
        return RoiTerm(_at_size(fixed, (camera.height, camera.width)), maps, regions.settings.weight)
    segmenter, channels = regions.segmenters[regions.settings.moving], _channels(regions, device)
    prompts = segmenter.prompts(boxes, tuple(xrays[0].image.shape), device)
    return RoiTerm(fixed, lambda drr, pose: segmenter.probabilities(drr, prompts)[:, channels], regions.settings.weight)


def roi_weights(
    patient: Patient, xrays: Sequence[Xray], initial_poses: Float[Tensor, "B 4 4"], regions: Regions
) -> WeightMap:
    """Pixel weights from the ROIs segmented in the X-rays: 1 inside the used ROIs, `outside` elsewhere.

    The weights do not depend on the pose. The map takes a pose for each X-ray, or any number of poses of one X-ray.
    """
    boxes = _boxes_px(patient, xrays, initial_poses, regions)
    maps = _fixed_maps(xrays, initial_poses.device, regions, boxes)
    inside = maps.amax(dim=1)
    weights = inside + (1 - inside) * regions.settings.outside

    def at(camera: Camera, pose: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B H W"]:
        return _at_size(weights[:, None], (camera.height, camera.width))[:, 0].expand(len(pose), -1, -1)

    return at


class ProjectedMaps:
    r"""Projects the CT's labels to soft silhouettes $1 - e^{-\ell/5\,\mathrm{mm}}$ of the length $\ell$ in bone.

    No network is used. Where silhouettes overlap, later ROIs hide earlier ones, as in the segmenters' training masks.
    """

    def __init__(self, patient: Patient, rois: tuple[str, ...], camera: Camera, device: torch.device) -> None:
        self.camera = camera
        self._labels = [cropped(volume).to(device) for volume in roi_volumes(patient, rois)]

    def __call__(self, drr: Float[Tensor, "B H W"], pose: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B R I J"]:
        """Maps at the poses; of the DRRs only the dtype is used."""
        lengths_mm = [
            render(labels, self.camera, pose, LABEL_STEP / 0.75 * default_step_mm(labels)) for labels in self._labels
        ]
        hidden = torch.zeros_like(lengths_mm[0])
        maps = []
        for length_mm in reversed(lengths_mm):
            visible = (1 - torch.exp(-length_mm / RIM_MM)) * (1 - hidden)
            maps.append(visible)
            hidden = hidden + visible
        return torch.stack(maps[::-1], dim=1).to(drr.dtype)


def _boxes_px(
    patient: Patient, xrays: Sequence[Xray], initial_poses: Float[Tensor, "B 4 4"], regions: Regions
) -> Float[Tensor, "B R 4"] | None:
    """Boxes for the segmenters that need them, on the CPU; None if none does."""
    if not any(segmenter.prompted for segmenter in regions.segmenters.values()):
        return None
    if regions.settings.boxes == PROJECTED:
        numbers = project_rois(roi_volumes(patient, regions.rois), xrays[0].camera, initial_poses)
    else:
        with torch.no_grad():
            images = _images(xrays, initial_poses.device)
            numbers = roi_numbers(regions.segmenters[regions.settings.boxes].probabilities(images))
    return roi_boxes_px(numbers.cpu(), len(regions.rois))


def _images(xrays: Sequence[Xray], device: torch.device) -> Float[Tensor, "B H W"]:
    return scaled(torch.stack([xray.image for xray in xrays])).to(device)


def _fixed_maps(
    xrays: Sequence[Xray], device: torch.device, regions: Regions, boxes: Float[Tensor, "B R 4"] | None
) -> Float[Tensor, "B R H W"]:
    segmenter = regions.segmenters[regions.settings.fixed]
    with torch.no_grad():
        prompts = segmenter.prompts(boxes, tuple(xrays[0].image.shape), device)
        numbers = roi_numbers(segmenter.probabilities(_images(xrays, device), prompts))
    return roi_channels(numbers, len(regions.rois))[:, _channels(regions, device)]


def _channels(regions: Regions, device: torch.device) -> Int64[Tensor, "C"]:
    """Indices of the ROIs that count; on the device, for a list would be copied to it at each use."""
    return torch.tensor(regions.channels, device=device)


def _at_size(maps: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C I J"]:
    if maps.shape[-2:] == tuple(size):
        return maps
    return interpolate(maps, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)
