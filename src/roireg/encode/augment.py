"""Augmentation of DRRs for a pose encoder: rotations of the camera, and changes that make DRRs more like X-rays."""

from dataclasses import dataclass

import kornia.augmentation as kornia
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from roireg.geometry.camera import Camera
from roireg.geometry.se3 import se3_exp
from roireg.training.loop import torch_seeded

BLUR_SIZE_PX = 5
MIN_LIGHT = 0.01
# Grey values of metal: above 1, the largest value of an image without metal, since metal attenuates more than bone.
METAL = (1.0, 2.0)
ROD_LENGTH_FRACTION = (0.15, 0.6)
ROD_WIDTH_FRACTION = (0.01, 0.04)


@dataclass(frozen=True)
class EncoderAugmentation:
    """Strength of the augmentation; images are in [0, 1].

    Attributes:
        turn_sd_deg: standard deviations of the camera's rotation about its own axes x, y (which shift the image) and z.
        probability: probability of each of the following changes.
        gamma: range of the exponent of a gamma correction.
        light: largest slope of a brightness that grows linearly across the image, as scatter and the heel effect cause.
        blur_sigma_px: range of the sigma of a Gaussian blur, in px of the network's images.
        noise_sd: standard deviation of Gaussian noise.
        rods: largest number of opaque metal rods.
    """

    turn_sd_deg: tuple[float, float, float]
    probability: float
    gamma: tuple[float, float]
    light: float
    blur_sigma_px: tuple[float, float]
    noise_sd: float
    rods: int


def image_changes(settings: EncoderAugmentation) -> nn.Module:
    """Kornia module of random gamma, illumination, blur and noise for `(B, 1, H, W)` images."""
    p = settings.probability
    return nn.Sequential(
        kornia.RandomGamma(settings.gamma, p=p),
        kornia.RandomLinearIllumination(gain=(MIN_LIGHT, settings.light), p=p),
        kornia.RandomGaussianBlur((BLUR_SIZE_PX, BLUR_SIZE_PX), settings.blur_sigma_px, p=p),
        kornia.RandomGaussianNoise(std=settings.noise_sd, p=p),
    )


def with_rods(
    images: Float[Tensor, "B H W"], settings: EncoderAugmentation, rng: np.random.Generator
) -> Float[Tensor, "B H W"]:
    """Images with up to `rods` straight pieces of metal (such as screws and wires) at random positions and angles."""
    height, width = images.shape[1:]
    size = max(height, width)
    rows = torch.arange(height, dtype=torch.float64, device=images.device)[:, None]
    columns = torch.arange(width, dtype=torch.float64, device=images.device)
    out = images.clone()
    for image in out:
        if rng.uniform() >= settings.probability:
            continue
        for _ in range(rng.integers(1, settings.rods + 1) if settings.rods else 0):
            row, column = rng.uniform(0, height), rng.uniform(0, width)
            angle = rng.uniform(0, np.pi)
            along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
            across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
            length, thick = rng.uniform(*ROD_LENGTH_SHARE) * size, rng.uniform(*ROD_WIDTH_SHARE) * size
            inside = (along.abs() < length / 2) & (across.abs() < max(1.0, thick) / 2)
            image.masked_fill_(inside, rng.uniform(*METAL))
    return out


def changed(
    images: Float[Tensor, "B H W"], settings: EncoderAugmentation, changes: nn.Module, rng: np.random.Generator
) -> Float[Tensor, "B H W"]:
    """Images after random changes, the `image_changes` of the settings and rods, that depend on `rng` only.

    They are made where the images are; random numbers come from the CPU, so that they are the same on every device.
    """
    if settings.probability == 0:
        return images.clamp(0, 1)
    with torch_seeded(rng):
        return with_rods(changes(images[:, None].clamp(0, 1))[:, 0], settings, rng)


def turned(
    images: Float[Tensor, "B H W"],
    poses: Float[Tensor, "B 4 4"],
    camera: Camera,
    turns_rad: Float[Tensor, "B 3"],
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B 4 4"]]:
    r"""Images and poses after a rotation of the camera about its source: exact new examples without rendering.

    When a camera rotates about its source, each ray keeps its line integral and only falls on another pixel. The image
    is therefore resampled by the homography $K R K^{-1}$; pixels outside the old image repeat its edge.

    Args:
        images: seen by `camera`, on any device.
        poses: `volume_from_camera`, mm, on the CPU.
        camera: the detector, at the images' size, on the CPU.
        turns_rad: rotation vectors in the camera frame.
    """
    twists = torch.cat([turns_rad, torch.zeros_like(turns_rad)], dim=-1)
    old_from_new = se3_exp(twists)
    k = camera.intrinsics_px
    homography = (k @ old_from_new[:, :3, :3] @ torch.linalg.inv(k)).to(images.device)
    pixels, size = _pixels(camera, images.device)
    found = torch.einsum("bij,hwj->bhwi", homography, pixels)
    grid = (2 * found[..., :2] / found[..., 2:] + 1) / size - 1
    out = grid_sample(images[:, None], grid.to(images), padding_mode="border", align_corners=False)[:, 0]
    return out, poses @ old_from_new


def _pixels(camera: Camera, device: torch.device) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "2"]]:
    """Homogeneous pixels `(column, row, 1)` of a camera, and its width and height, on a device, once."""
    key = f"pixels on {device}"
    if key not in camera.derived:
        rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
        pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).to(camera.intrinsics_px)
        camera.derived[key] = pixels.to(device), pixels.new_tensor([camera.width, camera.height]).to(device)
    return camera.derived[key]


def sample_turns(settings: EncoderAugmentation, count: int, rng: np.random.Generator) -> Float[Tensor, "B 3"]:
    """Normally distributed rotation vectors of the camera; rad, camera frame."""
    return torch.from_numpy(rng.normal(size=(count, 3)) * np.deg2rad(settings.turn_sd_deg))
