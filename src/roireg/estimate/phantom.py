"""Synthetic phantom of the target data's size, for timing only."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.volume import MU_BONE_PER_MM, MU_WATER_PER_MM, Volume
from roireg.data.xray import Xray, expected_pose
from roireg.drr import render
from roireg.drr.rois import project_rois, roi_volumes
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, pa_pose

# As in DeepFluoro: a detector of 298 mm (1536 px of 0.194 mm) at 1020 mm from the source.
SIDE_MM, DETECTOR_MM, SOURCE_TO_DETECTOR_MM = 360.0, 298.0, 1020.0


def phantom(rois: Sequence[str], image_size_px: int, voxels: int) -> tuple[Patient, Xray]:
    """A ball of water with one ball of bone for each ROI, and one X-ray of it.

    Args:
        rois: names of the labels.
        image_size_px: side of the X-ray.
        voxels: number of voxels along each side of the CT, which is 360 mm long.
    """
    spacing = SIDE_MM / voxels
    axis = (torch.arange(voxels, dtype=torch.float32) + 0.5) * spacing - SIDE_MM / 2
    z, y, x = axis[:, None, None], axis[:, None], axis
    values = torch.where(x**2 + y**2 + z**2 < (0.48 * SIDE_MM) ** 2, MU_WATER_PER_MM, 0.0)
    labels = torch.zeros(values.shape, dtype=torch.uint8)
    angles = torch.linspace(0, 2 * torch.pi, len(rois) + 1)[:-1]
    for number, angle in enumerate(angles, start=1):
        center_x, center_z = 70 * angle.cos(), 70 * angle.sin()
        inside = (x - center_x) ** 2 + (1.5 * y) ** 2 + (z - center_z) ** 2 < 30**2
        values[inside], labels[inside] = MU_BONE_PER_MM, number
    frame = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))
    volume = Volume(values, frame)
    pixel_mm = DETECTOR_MM / image_size_px
    focal_px, middle_px = SOURCE_TO_DETECTOR_MM / pixel_mm, (image_size_px - 1) / 2
    intrinsics = [[-focal_px, 0.0, middle_px], [0.0, focal_px, middle_px], [0.0, 0.0, 1.0]]
    camera = Camera(torch.tensor(intrinsics, dtype=torch.float64), image_size_px, image_size_px, (pixel_mm, pixel_mm))
    landmarks = volume.center_mm + torch.tensor([[60.0, 0, 0], [0, 60, 0], [0, 0, 60]], dtype=torch.float64)
    patient = Patient(
        name="phantom",
        volume=volume,
        labels=labels,
        label_names=dict(enumerate(rois, start=1)),
        center_mm=volume.center_mm,
        bone_points_mm=landmarks,
        landmark_names=("a", "b", "c"),
        landmarks_mm=landmarks,
    )
    rig_from_camera = pa_pose(torch.zeros(3, dtype=torch.float64), SOURCE_TO_ISOCENTER_FRACTION * SOURCE_TO_DETECTOR_MM)
    blank = Xray("000", torch.zeros(image_size_px, image_size_px), camera, rig_from_camera)
    pose = expected_pose(patient, blank)
    labels = project_rois(roi_volumes(patient, rois), camera, pose[None])[0]
    image = scaled(render(volume, camera, pose[None]))[0]
    return patient, replace(blank, image=image, labels=labels, true_pose=pose)
