"""The record of a patient: CT, labels, landmarks and isocentre."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.cluster.vq import kmeans2
from torch import Tensor

from roireg.data.label_names import label_ids
from roireg.data.steps import Step
from roireg.data.volume import Volume
from roireg.errors import InputError
from roireg.geometry.se3 import translation

BONE_HU = 250.0


def no_points() -> Float[Tensor, "0 3"]:
    """An empty list of points."""
    return torch.zeros(0, 3, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Patient:
    """A patient's CT, labels and landmarks. X-rays are separate records (`roireg.data.xray.Xray`).

    Attributes:
        name: name of the specimen in its dataset, or of the CT's file.
        volume: attenuation in 1/mm, LPS.
        labels: `(z, y, x)` label ids on the volume's grid, or None.
        label_names: names by label id.
        center_mm: the isocentre, about which poses rotate, volume frame: centre of the CT or of given labels.
        bone_points_mm: points of dense bone, volume frame; errors and standard deviations are given at them if no
            landmarks are known.
        landmark_names, landmarks_mm: 3D landmarks, volume frame; empty if none are known.
        facts: properties of the files by name, shown by `roireg inspect`.
        warnings: unusual properties of the files, which need not be wrong.
        step: planes of the CT that are shifted against their neighbours, if there are any and it was looked for.
    """

    name: str
    volume: Volume
    labels: UInt8[Tensor, "D H W"] | None
    label_names: dict[int, str]
    center_mm: Float[Tensor, "3"]
    bone_points_mm: Float[Tensor, "N 3"]
    landmark_names: tuple[str, ...] = ()
    landmarks_mm: Float[Tensor, "L 3"] = field(default_factory=no_points)
    facts: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    step: Step | None = None

    @property
    def error_points_mm(self) -> Float[Tensor, "M 3"]:
        """Points at which errors are measured: the landmarks, or points of bone if there are no landmarks."""
        return self.landmarks_mm if len(self.landmarks_mm) else self.bone_points_mm

    @property
    def known_labels(self) -> UInt8[Tensor, "D H W"]:
        """The labels.

        Raises:
            InputError: there are none.
        """
        if self.labels is None:
            raise InputError(f"patient {self.name}", "there are no labels", "Give them with --labels")
        return self.labels

    def label_mask(self, names: Iterable[str], key: str = "label") -> Bool[Tensor, "D H W"]:
        """Mask of the voxels with any of the named labels.

        Args:
            names: names of labels, compared by `label_names.normalized`.
            key: config key or option that gives the names, for the error message.

        Raises:
            InputError: there are no labels, or none of that name.
        """
        if self.labels is None:
            raise InputError(f"{key}: {', '.join(names)}", "the patient has no labels", "Give them with --labels")
        return label_mask(self.labels, self.label_names, names, key)


def label_mask(
    labels: UInt8[Tensor, "D H W"], label_names: dict[int, str], names: Iterable[str], key: str = "label"
) -> Bool[Tensor, "D H W"]:
    """Mask of the voxels with any of the named labels.

    Args:
        labels: `(z, y, x)` label ids.
        label_names: names by label id.
        names: names of labels, compared by `label_names.normalized`.
        key: config key or option that gives the names, for the error message.

    Raises:
        InputError: there is no label of that name.
    """
    mask = torch.zeros_like(labels, dtype=torch.bool)
    # Not `isin`, which takes ten times as long.
    for label in label_ids(label_names, tuple(names), key):
        mask |= labels == label
    return mask


def expected_rig_pose(patient: Patient) -> Float[Tensor, "4 4"]:
    """`volume_from_rig` (mm) before registration: the C-arm's isocentre is assumed at the patient's centre."""
    return translation(patient.center_mm)


def find_bone_points_mm(hu: Volume, count: int = 16) -> Float[Tensor, "N 3"]:
    """Centres of `count` clusters of bone voxels (k-means); the centre of the CT if it has no bone.

    Args:
        hu: Hounsfield units.
        count: number of points.
    """
    voxels = (hu.values > BONE_HU).nonzero().flip(-1).to(torch.float64)
    if len(voxels) < count:
        return hu.center_mm[None]
    points = voxels[:: max(len(voxels) // 20000, 1)] @ hu.volume_from_voxel[:3, :3].T + hu.volume_from_voxel[:3, 3]
    centres, _ = kmeans2(points.numpy(), count, minit="++", rng=np.random.default_rng(0))
    return torch.from_numpy(centres)
