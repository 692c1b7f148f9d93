"""Dice of a segmenter on X-rays of a specimen it was trained without, and on DRRs at their true poses (Table 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.records import COMPRESSION
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.drr.rois import project_rois, roi_boxes_px, roi_channels, roi_map, roi_volumes
from roireg.files import atomic_path
from roireg.metrics.overlap import dice_of_each
from roireg.segment.model import Segmenter, roi_numbers

XRAY, DRR = "xray", "drr"


@dataclass(frozen=True, eq=False)
class Segmented:
    """One segmented image.

    Attributes:
        projection: name of the X-ray.
        kind: `xray`, or `drr` for the DRR at the X-ray's true pose.
        image: grey values.
        truth: true ROI numbers; None if the dataset has no mask.
        found: ROI numbers that the segmenter predicts.
        dice: Dice of each ROI; NaN for a ROI that the true mask does not contain, and without a true mask.
    """

    projection: str
    kind: str
    image: Float[Tensor, "H W"]
    truth: UInt8[Tensor, "H W"] | None
    found: UInt8[Tensor, "H W"]
    dice: Float[Tensor, "R"]


def roi_dice(found: UInt8[Tensor, "H W"], truth: UInt8[Tensor, "H W"], count: int) -> Float[Tensor, "R"]:
    """Dice coefficient of each ROI; NaN for a ROI that the true mask does not contain."""
    a, b = roi_channels(found[None], count)[0], roi_channels(truth[None], count)[0]
    return dice_of_each(a, b).where(b.any(-1).any(-1), torch.nan)


def segment_specimen(
    patient: Patient, xrays: Sequence[Xray], segmenter: Segmenter, step_mm: float | None, device: torch.device
) -> Iterator[Segmented]:
    """Segment, for every X-ray of a specimen, the X-ray and then the DRR at its true pose.

    A prompted segmenter gets the bounding boxes of the true masks, as a user would draw them; for an X-ray without a
    mask, those of the CT labels projected at the true pose.
    """
    count = len(segmenter.rois)
    volumes = roi_volumes(patient, segmenter.rois)
    for xray in xrays:
        projected = project_rois(volumes, xray.camera, xray.true_pose[None])[0]
        drr = scaled(render(patient.volume, xray.camera, xray.true_pose[None], step_mm))[0].float()
        truth = None if xray.labels is None else roi_map(xray.labels, patient.label_names, segmenter.rois)
        for kind, image, numbers in ((XRAY, xray.image, truth), (DRR, drr, projected)):
            boxes = roi_boxes_px((projected if numbers is None else numbers)[None], count)
            with torch.no_grad():
                probabilities = segmenter.probabilities(image[None].to(device), boxes.to(device))
            found = roi_numbers(probabilities)[0].cpu()
            dice = torch.full((count,), torch.nan) if numbers is None else roi_dice(found, numbers, count)
            yield Segmented(xray.name, kind, image, numbers, found, dice)


def dice_rows(results: list[Segmented], specimen: str, segmenter: str, rois: tuple[str, ...]) -> list[dict]:
    """Rows `specimen, segmenter, projection, image, roi, dice`; `dice` is NaN as explained in `Segmented`."""
    return [
        {
            "specimen": specimen,
            "segmenter": segmenter,
            "projection": result.projection,
            "image": result.kind,
            "roi": roi,
            "dice": float(dice),
        }
        for result in results
        for roi, dice in zip(rois, result.dice, strict=True)
    ]


def write_segmented(path: str | Path, results: list[Segmented]) -> None:
    """Write images, ROI numbers and Dice to HDF5, atomically, in groups `projection/kind`."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for result in results:
            group = file.create_group(f"{result.projection}/{result.kind}")
            group.create_dataset("image", data=result.image.numpy(), **COMPRESSION)
            group.create_dataset("found", data=result.found.numpy(), **COMPRESSION)
            group["dice"] = result.dice.numpy()
            if result.truth is not None:
                group.create_dataset("truth", data=result.truth.numpy(), **COMPRESSION)


def read_segmented(path: str | Path) -> list[Segmented]:
    """Read a file written by `write_segmented`."""
    with h5py.File(path, "r") as file:
        return [
            Segmented(
                projection=projection,
                kind=kind,
                image=torch.from_numpy(group["image"][()]),
                truth=torch.from_numpy(group["truth"][()]) if "truth" in group else None,
                found=torch.from_numpy(group["found"][()]),
                dice=torch.from_numpy(np.asarray(group["dice"][()])),
            )
            for projection, kinds in sorted(file.items())
            for kind, group in sorted(kinds.items(), reverse=True)
        ]
