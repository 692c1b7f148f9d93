"""An X-ray with all that is known of how it was taken."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from roireg.data.patient import Patient, expected_rig_pose
from roireg.geometry.camera import Camera

# Directions of the patient (DICOM PS3.3, C.7.6.1.1.1), volume frame.
DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


@dataclass(frozen=True)
class Fact:
    """One thing that is known of an X-ray: what, its value, and where from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, eq=False)
class Xray:
    """An X-ray as it is registered.

    Attributes:
        name: of the projection in its dataset, or of the file.
        image: `(H, W)` log attenuation scaled to [0, 1]; bone is bright.
        camera: detector of `image`.
        rig_from_camera: the camera in the frame in which all X-rays of the patient are known, mm. For a C-arm that is
            its isocentre, with axes as the patient lies (LPS). It is what the device states, not what is sought.
        stored_camera: detector of the image as it is stored, before crop and shrinking, of the same rays; None where
            the image is not written back.
        labels: `(H, W)` label ids drawn in the image, or None.
        true_pose: `volume_from_camera`, mm, float64, where it is known; only errors are computed from it.
        facts: how it was taken.
        warnings: what was assumed.
    """

    name: str
    image: Float[Tensor, "H W"]
    camera: Camera
    rig_from_camera: Float[Tensor, "4 4"]
    stored_camera: Camera | None = None
    labels: UInt8[Tensor, "H W"] | None = None
    true_pose: Float[Tensor, "4 4"] | None = None
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()

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
        """The same picture, taken to be seen from the other side of the detector."""
        stored = None if self.stored_camera is None else self.stored_camera.mirrored()
        return replace(self, camera=self.camera.mirrored(), stored_camera=stored)


def expected_pose(patient: Patient, xray: Xray) -> Float[Tensor, "4 4"]:
    """`volume_from_camera` (mm) as the device states it, with its isocentre in the patient's centre.

    For the workflow's X-rays, of which no position is known, it is the posterior-anterior pose `T_PA` (paper, 2.1).
    """
    return expected_rig_pose(patient) @ xray.rig_from_camera
