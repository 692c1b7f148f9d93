"""Measures how well the stored data of one X-ray agree: landmarks, projected labels, and the DRR.

Each comparison tests something different. Landmarks are points in mm: they test the camera and the pose, not the CT.
Projected labels test the grid of the labels as well. Comparing the DRR with the X-ray's intensities tests the CT's
grid. It is the only comparison with a measurement instead of something computed from the CT, so it alone shows where
the patient really was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import max_pool2d

from roireg.data.deepfluoro_records import POSES, ProjectionParameters
from roireg.data.label_names import normalized
from roireg.data.volume import Volume, cropped
from roireg.drr import coverage, project_mask, render
from roireg.geometry.camera import Camera, project
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.metrics.overlap import dice_of_each
from roireg.metrics.similarity import local_ncc

# Bones that have their own stored poses.
MOVING = {"left femur": POSES[1], "right femur": POSES[2]}
MARGIN_PX = 3


@dataclass(frozen=True, eq=False)
class Scan:
    """A specimen's CT as it is stored.

    Attributes:
        volume: attenuation in 1/mm.
        labels: label ids, on their own grid; None if there are none.
        label_names: names by label id.
        landmarks_mm: positions `(3,)` by name, volume frame.
    """

    volume: Volume
    labels: Volume | None
    label_names: Mapping[int, str]
    landmarks_mm: Mapping[str, np.ndarray]

    @cached_property
    def bones(self) -> dict[int, Volume]:
        """Mask of each label, cropped to its bounding box; labels without voxels are left out."""
        if self.labels is None:
            return {}
        masks = {label: (self.labels.values == label).float() for label in self.label_names}
        frame = self.labels.volume_from_voxel
        return {label: cropped(Volume(mask, frame)) for label, mask in masks.items() if bool(mask.any())}

    def shifted(self, voxels: float) -> "Scan":
        """The scan with CT and labels shifted by a number of voxels along each axis of their grids; landmarks stay."""
        return replace(self, volume=_shifted(self.volume, voxels), labels=self.labels and _shifted(self.labels, voxels))


def _shifted(volume: Volume, voxels: float) -> Volume:
    frame = volume.volume_from_voxel.clone()
    frame[:3, 3] += frame[:3, :3] @ frame.new_full((3,), voxels)
    return Volume(volume.values, frame)


@dataclass(frozen=True, eq=False)
class StoredView:
    """An X-ray as it is stored (not rotated), with its image cropped and reduced in size.

    Attributes:
        name: name of the projection.
        parameters: stored parameters of the C-arm.
        poses: stored matrices by key of `POSES`.
        landmarks_px: `(column, row)` by name, px of the stored image.
        image: `(S, S)` log attenuation in [0, 1].
        segmentation: `(S, S)` label ids, or None.
        crop_px: pixels cropped from each side of the stored image.
    """

    name: str
    parameters: ProjectionParameters
    poses: Mapping[str, np.ndarray]
    landmarks_px: Mapping[str, np.ndarray]
    image: Float[Tensor, "S S"]
    segmentation: UInt8[Tensor, "S S"] | None
    crop_px: int

    def camera(self) -> Camera:
        """The camera of `image`.

        Raises:
            ValueError: the stored intrinsic matrix does not describe a camera.
        """
        return self.parameters.camera().cropped(self.crop_px).resized(*self.image.shape)

    def pose(self, key: str = POSES[0]) -> Float[Tensor, "4 4"]:
        """Pose `volume_from_camera`, mm, for a key of `POSES`; the pelvis's if the key is not stored."""
        matrix = torch.from_numpy(self.poses.get(key, self.poses[POSES[0]]))
        return pose_from_deepfluoro(matrix, torch.from_numpy(self.parameters.extrinsic))


@dataclass(frozen=True)
class Agreement:
    """Agreement of the stored data of one X-ray; NaN if there is nothing to compare.

    Attributes:
        landmarks_px: root mean square distance between stored landmarks and projected 3D landmarks, px of the stored
            image.
        dice: Dice of `gt-seg` and the projected labels, mean over the labels that either contains.
        ncc: local NCC (windows of 13 px) of X-ray and DRR, over rays that the CT covers and that cross no femur.
    """

    landmarks_px: float
    dice: float
    ncc: float


NOTHING = Agreement(float("nan"), float("nan"), float("nan"))


def landmark_residual_px(scan: Scan, view: StoredView) -> float:
    """`Agreement.landmarks_px`; NaN without landmarks, infinite if a landmark cannot be projected."""
    names = [name for name in scan.landmarks_mm if name in view.landmarks_px]
    if not names:
        return float("nan")
    points = torch.from_numpy(np.stack([scan.landmarks_mm[name] for name in names]))
    found = project(points, view.parameters.camera(), view.pose())
    stored = torch.from_numpy(np.stack([view.landmarks_px[name] for name in names]))
    residual = float((found - stored).square().sum(-1).mean().sqrt())
    return residual if np.isfinite(residual) else float("inf")


def silhouettes(scan: Scan, view: StoredView) -> dict[int, Bool[Tensor, "S S"]]:
    """Silhouette of each label at the stored pose, by label id; femurs at their own poses."""
    camera = view.camera()
    out = {}
    for label, bone in scan.bones.items():
        pose = view.pose(MOVING.get(normalized(scan.label_names[label]), POSES[0]))
        out[label] = project_mask(bone, camera, pose[None], 0.5 * float(bone.spacing_mm.min()))[0]
    return out


def segmentation_dice(shown: Mapping[int, Bool[Tensor, "S S"]], segmentation: UInt8[Tensor, "S S"]) -> float:
    """Mean Dice of projected labels and a segmentation with one label for each pixel; NaN without labels.

    Where projected bones overlap, the segmentation may name any of them. A pixel whose label is among those projected
    there counts as agreement for that label and is ignored for the others.
    """
    if not shown:
        return float("nan")
    silhouettes = torch.stack(list(shown.values()))
    named = torch.stack([segmentation == label for label in shown])
    explained = (silhouettes & named).any(0)
    counted = silhouettes & (named | ~explained)
    return float(dice_of_each(named.double(), counted.double()).nanmean())


def image_ncc(scan: Scan, view: StoredView, shown: Mapping[int, Bool[Tensor, "S S"]]) -> float:
    """Local NCC of X-ray and DRR, over rays that the CT covers and that do not pass near a femur; NaN if none is left.

    NCC is local because a global NCC is dominated by the patient's outline, which hardly changes when the CT is
    flipped.

    Args:
        scan, view: the stored data.
        shown: silhouettes made by `silhouettes`.
    """
    volume = scan.volume
    camera, pose = view.camera(), view.pose()[None]
    weight = coverage(volume, camera, pose)[0]
    for label, silhouette in shown.items():
        if normalized(scan.label_names[label]) in MOVING:
            grown = max_pool2d(silhouette[None, None].float(), 2 * MARGIN_PX + 1, 1, MARGIN_PX)[0, 0]
            weight = weight * (1 - grown)
    if not bool((weight > 0).any()):
        return float("nan")
    drr = render(volume, camera, pose)[:, None].float()
    if float(drr.max()) <= 0:
        return -1.0
    drr = drr / drr.max()
    return float(local_ncc(view.image[None, None], drr, weight[None, None].float())[0])


def is_camera(parameters: ProjectionParameters) -> bool:
    """True if the stored intrinsic matrix describes a camera."""
    try:
        parameters.camera()
    except ValueError:
        return False
    return True


def agreement(scan: Scan, view: StoredView, shown: Mapping[int, Bool[Tensor, "S S"]] | None = None) -> Agreement:
    """The agreement of one X-ray; all NaN if the stored parameters do not describe a camera.

    Args:
        scan, view: the stored data.
        shown: silhouettes made by `silhouettes`; computed if None.
    """
    if not is_camera(view.parameters):
        return NOTHING
    shown = silhouettes(scan, view) if shown is None else shown
    dice = float("nan") if view.segmentation is None or not shown else segmentation_dice(shown, view.segmentation)
    return Agreement(landmark_residual_px(scan, view), dice, image_ncc(scan, view, shown))


def uncovered_fraction(scan: Scan, view: StoredView) -> float:
    """Fraction of the rays that leave the CT through an end at which the patient is cut off."""
    return 1 - float(coverage(scan.volume, view.camera(), view.pose()[None]).mean())
