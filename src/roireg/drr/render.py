"""`render` makes DRRs of a volume; `BACKENDS` lists its interchangeable implementations."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from roireg.data.volume import Volume
from roireg.drr import diffdrr, fused, nanodrr, sampled
from roireg.geometry.camera import Camera

BACKENDS: dict[str, Callable[[Volume, Camera, Tensor, float], Tensor]] = {
    "fused": fused.render,
    "nanodrr": nanodrr.render,
    "diffdrr": diffdrr.render,
}
MASK_BACKENDS: dict[str, Callable[[Volume, Camera, Tensor, float], Tensor]] = {
    "fused": fused.project_mask,
    "nanodrr": sampled.project_mask,
}
STEP_VOXELS = 0.75


def default_step_mm(volume: Volume) -> float:
    """Three quarters of the smallest voxel edge: about one sample per voxel crossed."""
    return STEP_VOXELS * volume.smallest_spacing_mm


def default_backend(device: torch.device) -> str:
    """`fused` on the CPU, `nanodrr` elsewhere."""
    return "fused" if device.type == "cpu" else "nanodrr"


def _batched(pose: Tensor) -> Float[Tensor, "B 4 4"]:
    if pose.ndim != 3 or pose.shape[-2:] != (4, 4):
        raise ValueError(f"pose must have the shape (B, 4, 4), not {tuple(pose.shape)}")
    return pose


def render(
    volume: Volume,
    camera: Camera,
    pose: Float[Tensor, "B 4 4"],
    step_mm: float | None = None,
    backend: str | None = None,
) -> Float[Tensor, "B H W"]:
    r"""Digitally reconstructed radiographs (DRRs): line integrals of a volume along the rays of a camera.

    $$I(u, v) = \int V(x)\, dx \approx |d - s| \, dt \sum_k V(s + t_k (d - s)), \quad t_k = (k + 1/2)\,dt$$

    with s the source, d the pixel, V interpolated trilinearly between voxels and zero outside the grid. This is the
    paper's $\mathcal{R}(\mathbf V, \mathbf T)$ (section 2.1).

    Args:
        volume: attenuation in 1/mm.
        camera: the detector.
        pose: `volume_from_camera`, mm; gradients flow to it.
        step_mm: distance between samples on the central ray; None for `default_step_mm(volume)`.
        backend: a key of `BACKENDS`; None for the `default_backend` of the volume's device.

    Returns:
        Dimensionless integrals; `exp(-I)` is the transmitted fraction of a monochromatic beam.

    Raises:
        ValueError: unknown backend, a pose that is not `(B, 4, 4)`, or a step that is not positive.
    """
    step_mm = default_step_mm(volume) if step_mm is None else step_mm
    if not step_mm > 0:
        raise ValueError(f"step_mm must be positive, not {step_mm}")
    backend = default_backend(volume.values.device) if backend is None else backend
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    return BACKENDS[backend](volume, camera, _batched(pose), step_mm)


def render_with_jacobian(
    volume: Volume,
    camera: Camera,
    pose: Float[Tensor, "B 4 4"],
    center_mm: Float[Tensor, "3"],
    step_mm: float | None = None,
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W 6"]]:
    """DRRs, and the derivative of every pixel with respect to a perturbation of the pose, on the volume's device.

    On the CPU, the image is that of `render`. On a GPU, where `render` takes other samples, it is the CPU's.

    Args:
        volume, camera, step_mm: as for `render`.
        pose: `volume_from_camera`, mm, on the CPU; from elsewhere it is read.
        center_mm: point about which the perturbation rotates, volume frame.

    Returns:
        The image, and its derivative with respect to the twist of `perturb(pose, twist, center_mm)` at
        twist 0: three columns for rotation (per rad), three for translation (per mm).
    """
    step_mm = default_step_mm(volume) if step_mm is None else step_mm
    backend = fused if volume.values.device.type == "cpu" else sampled
    return backend.render_with_jacobian(volume, camera, _batched(pose), center_mm, step_mm)


def project_mask(
    mask: Volume, camera: Camera, pose: Float[Tensor, "B 4 4"], step_mm: float | None = None
) -> Bool[Tensor, "B H W"]:
    """Pixels whose ray meets a non-zero voxel of `mask`, on the device of the poses, without gradient."""
    step_mm = default_step_mm(mask) if step_mm is None else step_mm
    return MASK_BACKENDS[default_backend(pose.device)](mask, camera, _batched(pose), step_mm)
