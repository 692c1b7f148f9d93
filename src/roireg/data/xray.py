"""The record of an X-ray: image, camera, and the position stated by the device."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from roireg.data.label_names import normalized
from roireg.data.patient import Patient, expected_rig_pose
from roireg.errors import InputError
from roireg.geometry.camera import Camera

# Unit vectors of the patient's directions (DICOM PS3.3, C.7.6.1.1.1) in the volume frame.
DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
# First words of the warning about an assumed polarity, and the two values of the fact.
POLARITY = "no tag says what values mean"
OTHER_POLARITY = "what large values mean was assumed and did not fit: the opposite was taken, and fits better"
OPPOSITE = {"large values": "small values", "small values": "large values"}


@dataclass(frozen=True)
class Fact:
    """One known property of an X-ray: its name, its value, and its source (a tag, a file, or an assumption)."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, eq=False)
class Xray:
    """A preprocessed X-ray, ready for registration.

    Attributes:
        name: name of the projection in its dataset, or of the file.
        image: `(H, W)` log attenuation scaled to [0, 1]; bone is bright.
        camera: camera of `image`.
        rig_from_camera: pose of the camera in the rig, mm: a frame common to all X-rays of the patient, in which the
            device states its position. For a C-arm its origin is the isocentre and its axes are LPS of the lying
            patient. Registration searches `volume_from_rig`.
        stored_camera: camera of the image as stored, before cropping and resampling; None for X-rays of a dataset.
        labels: `(H, W)` label ids of a mask of the image, or None.
        mask: `(H, W)` true for measured pixels; the others (padding, shutters, outside a round field) have weight 0
            in every registration. None if all pixels are measured.
        other_image: the image with the opposite polarity, if the polarity is an assumption; otherwise None.
        true_pose: `volume_from_camera`, mm, float64, if known; used only to compute errors.
        bone_poses: the same of bones that moved on their own since the CT, by normalised name of the label.
        facts: known properties of the exposure.
        warnings: assumptions that were made.
    """

    name: str
    image: Float[Tensor, "H W"]
    camera: Camera
    rig_from_camera: Float[Tensor, "4 4"]
    stored_camera: Camera | None = None
    labels: UInt8[Tensor, "H W"] | None = None
    mask: Bool[Tensor, "H W"] | None = None
    other_image: Float[Tensor, "H W"] | None = None
    true_pose: Float[Tensor, "4 4"] | None = None
    bone_poses: Mapping[str, Float[Tensor, "4 4"]] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def known_pose(self) -> Float[Tensor, "4 4"]:
        """The true pose.

        Raises:
            InputError: it is not known.
        """
        if self.true_pose is None:
            raise InputError(f"X-ray {self.name}", "its true pose is not known", "Give one whose pose is known")
        return self.true_pose

    def known_pose_of(self, labels: Iterable[str]) -> Float[Tensor, "4 4"]:
        """The true pose of a body that consists of these labels: that of the bone, or of the patient for all others.

        Raises:
            InputError: it is not known, or the labels did not move together.
        """
        own = [self.bone_poses.get(normalized(name)) for name in labels]
        if any(one is not own[0] for one in own[1:]):
            what = f"{' and '.join(labels)} have poses of their own"
            raise InputError(f"X-ray {self.name}", what, "Register them as bodies of their own")
        return self.known_pose if own[0] is None else own[0]

    @property
    def known_labels(self) -> UInt8[Tensor, "H W"]:
        """The labels drawn in the image.

        Raises:
            InputError: there are none.
        """
        if self.labels is None:
            raise InputError(f"X-ray {self.name}", "it has no segmentation", "Give one that has")
        return self.labels

    def upside_down(self) -> "Xray":
        """The same picture, taken with the C-arm turned by half a turn about the ray to the middle of the image.

        Of a crop that ray may lie far from the central one, about which the patient would be turned out of sight.
        """
        middle = self.camera.rays_mm() @ self.camera.intrinsics_px.new_tensor(
            [(self.camera.width - 1) / 2, (self.camera.height - 1) / 2, 1.0]
        )
        axis = middle / middle.norm()
        half_turn = torch.eye(4, dtype=self.rig_from_camera.dtype)
        half_turn[:3, :3] = 2 * torch.outer(axis, axis) - torch.eye(3, dtype=axis.dtype)
        return replace(self, rig_from_camera=self.rig_from_camera @ half_turn)

    def mirrored(self) -> "Xray":
        """The same image, interpreted as seen from the other side of the detector."""
        stored = None if self.stored_camera is None else self.stored_camera.mirrored()
        return replace(self, camera=self.camera.mirrored(), stored_camera=stored)

    def with_other_polarity(self) -> "Xray":
        """The same X-ray with the opposite meaning of grey values.

        Raises:
            ValueError: the polarity is not an assumption.
        """
        if self.other_image is None:
            raise ValueError(f"{self.name}: the polarity is stated")
        warnings = tuple(one for one in self.warnings if not one.startswith(POLARITY))
        facts = tuple(
            replace(fact, value=OPPOSITE[fact.value], source="found by registering") if fact.value in OPPOSITE else fact
            for fact in self.facts
        )
        warnings = (*warnings, OTHER_POLARITY)
        return replace(self, image=self.other_image, other_image=self.image, facts=facts, warnings=warnings)


def expected_pose(patient: Patient, xray: Xray) -> Float[Tensor, "4 4"]:
    """The pose `volume_from_camera` (mm) that the device states, with its isocentre at the patient's centre.

    For X-rays of the workflow, without a stated position, it is the posterior-anterior pose `T_PA` (paper, 2.1).
    """
    return expected_rig_pose(patient) @ xray.rig_from_camera
