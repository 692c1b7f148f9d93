"""How far along a long CT a C-arm may look: where the patient can be expected, along his axis."""

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.volume import Volume
from roireg.data.xray import Xray
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION

# A CT is long if it shows more than so many pictures, one beside the other.
LONG_PICTURES = 2.0
# Of a picture, at least so much must lie on the CT.
LEAST_SHARE = 0.25


def long_axis(volume: Volume) -> Float[Tensor, "3"]:
    """Direction of the grid's axis that runs along the patient, volume frame."""
    axis = int(volume.volume_from_voxel[2, :3].abs().argmax())
    return volume.volume_from_voxel[:3, axis] / volume.spacing_mm[axis]


def length_mm(volume: Volume) -> float:
    """Of the CT along that axis."""
    axis = int(volume.volume_from_voxel[2, :3].abs().argmax())
    return float(volume.spacing_mm[axis]) * volume.values.shape[2 - axis]


def reach_along_mm(patient: Patient, xray: Xray) -> float:
    """How far from the middle of the CT, along its axis, the middle of the X-ray may lie; 0 for a CT that is not long.

    Where the patient's centre was named (`--center-on`), the C-arm was aimed there, and it is 0 too.
    """
    aimed = float((patient.center_mm - patient.volume.center_mm).norm()) > 1.0
    camera = xray.camera
    picture_mm = SOURCE_TO_ISOCENTER_FRACTION * max(
        size * pixel for size, pixel in zip((camera.width, camera.height), camera.pixel_spacing_mm, strict=True)
    )
    length = length_mm(patient.volume)
    if aimed or length < LONG_PICTURES * picture_mm:
        return 0.0
    return length / 2 - LEAST_SHARE * picture_mm


def beyond_reach_mm(patient: Patient, xray: Xray, moved_mm: Float[Tensor, "3"]) -> float:
    """Length of the patient's displacement (mm, volume frame), less what a long CT explains of it."""
    reach = reach_along_mm(patient, xray)
    along = moved_mm @ long_axis(patient.volume)
    return float((moved_mm - torch.clamp(along, -reach, reach) * long_axis(patient.volume)).norm())
