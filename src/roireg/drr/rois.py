"""Regions of interest (ROIs), named labels of the CT: as volumes, as label maps of an image, as channels, as boxes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from scipy.ndimage import find_objects
from torch import Tensor
from torch.nn.functional import one_hot

from roireg.data.label_names import label_ids
from roireg.data.patient import Patient
from roireg.data.volume import Volume
from roireg.drr import project_mask
from roireg.geometry.camera import Camera

KEY = "config: rois"


def roi_map(mask: UInt8[Tensor, "H W"], label_names: dict[int, str], rois: Sequence[str]) -> UInt8[Tensor, "H W"]:
    """Convert a mask of label ids to ROI numbers: r + 1 for `rois[r]`, 0 for background and for labels not in `rois`.

    Raises:
        InputError: a ROI is not among the dataset's labels.
    """
    out = torch.zeros_like(mask)
    for number, label in enumerate(label_ids(label_names, rois, KEY), start=1):
        out[mask == label] = number
    return out


def roi_volumes(patient: Patient, rois: Sequence[str]) -> tuple[Volume, ...]:
    """One volume per ROI, 1 in its voxels and 0 elsewhere, in the order of `rois`.

    Raises:
        InputError: a ROI is not among the patient's labels.
    """
    frame = patient.volume.volume_from_voxel
    return tuple(Volume(patient.label_mask([name], KEY).float(), frame) for name in rois)


def project_rois(
    volumes: Sequence[Volume], camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float | None = None
) -> UInt8[Tensor, "B H W"]:
    """Project ROIs to a map of ROI numbers (0 for background); where silhouettes overlap, the later ROI wins.

    Args:
        volumes: made by `roi_volumes`.
        camera: the detector.
        pose: `volume_from_camera`, mm; the silhouettes are on its device.
        step_mm: distance of samples on the central ray; the renderer's default if not given.
    """
    out = torch.zeros(len(pose), camera.height, camera.width, dtype=torch.uint8, device=pose.device)
    for number, volume in enumerate(volumes, start=1):
        out.masked_fill_(project_mask(volume, camera, pose, step_mm), number)
    return out


def roi_channels(numbers: UInt8[Tensor, "B H W"], count: int) -> Float[Tensor, "B R H W"]:
    """One-hot maps of `count` ROIs, without background."""
    return one_hot(numbers.long(), count + 1).movedim(-1, 1)[:, 1:].float()


def roi_boxes_px(numbers: UInt8[Tensor, "B H W"], count: int) -> Float[Tensor, "B R 4"]:
    """Bounding boxes `(left, top, right, bottom)`, indices of the outermost pixels; NaN if the image lacks the ROI."""
    boxes = torch.full((len(numbers), count, 4), torch.nan)
    for image, box in zip(numbers.cpu().numpy(), boxes, strict=True):
        for roi, found in enumerate(find_objects(image, max_label=count)):
            if found is not None:
                rows, columns = found
                box[roi] = torch.tensor([columns.start, rows.start, columns.stop - 1, rows.stop - 1])
    return boxes.to(numbers.device)
