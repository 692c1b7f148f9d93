"""A trained pose encoder: estimates the pose of an X-ray from its image and camera; saved and loaded as safetensors."""

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from roireg.data.images import scaled
from roireg.data.readers.camera_file import check_rigid
from roireg.data.readers.numbers import numbers_of
from roireg.data.writers.poses import camera_of_entries
from roireg.encode.network import NETWORK_TYPES, NetworkSettings, build_network
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.geometry.poses import camera_twist, perturb
from roireg.training.model_file import READ_ERRORS, checked_sizes, network_of, read_model, unreadable, write_model

DESCRIPTION = "roireg_encoder"
MIN_SHARED_FIELD = 0.5
FAR = (-1e5, 1e5)


@dataclass(frozen=True, eq=False)
class PoseFrame:
    """Converts a network's output, a twist relative to the PA pose, to a pose.

    Attributes:
        pa_pose: `T_PA`, `volume_from_camera`, mm.
        isocenter_mm: centre of rotation, volume frame.
        twist_unit: rad and mm, along the camera's axes, of one unit of each output.
        camera: camera of the network's input images.
    """

    pa_pose: Float[Tensor, "4 4"]
    isocenter_mm: Float[Tensor, "3"]
    twist_unit: Float[Tensor, "6"]
    camera: Camera

    def poses(self, output: Float[Tensor, "B 6"]) -> Float[Tensor, "B 4 4"]:
        """Poses `Exp([r, t]) T_PA` (paper, section 2.1) from a network's output; float64, differentiable."""
        twist = camera_twist(output.double() * self.twist_unit, self.pa_pose)
        return perturb(self.pa_pose.expand(len(output), 4, 4), twist, self.isocenter_mm)

    def to(self, device: torch.device) -> "PoseFrame":
        """The same frame on `device`."""
        return PoseFrame(
            self.pa_pose.to(device), self.isocenter_mm.to(device), self.twist_unit.to(device), self.camera.to(device)
        )


@dataclass(frozen=True, eq=False)
class PoseEncoder:
    """A network, and the frame that converts its output to a pose."""

    network: nn.Module
    frame: PoseFrame

    @torch.no_grad()
    def estimate(self, image: Float[Tensor, "H W"], camera: Camera) -> Float[Tensor, "4 4"]:
        """The pose (`volume_from_camera`, mm) of an X-ray, on the network's device.

        Args:
            image: log attenuation; its scale does not matter.
            camera: camera of the X-ray, which may differ from the one that the encoder was trained for.

        Raises:
            InputError: less than half of the field of view that the encoder was trained for lies on this detector.
        """
        # At the X-ray's own resolution, so that the network shrinks it as it does the DRRs that it learned from.
        device = self.frame.pa_pose.device
        trained = self.frame.camera.resized(camera.height, camera.width)
        seen = seen_by(image[None].to(device), camera.to(device), trained)
        return self.frame.poses(self.network(scaled(seen)).twist)[0]


def seen_by(images: Float[Tensor, "B H W"], camera: Camera, other: Camera) -> Float[Tensor, "B H2 W2"]:
    """Images of one camera as another one with the same source and axes sees them, all on one device.

    Both detectors measure line integrals along the same rays, so this is exact up to interpolation: `q = K K_2^-1 q_2`.
    Rays beyond the image get the value of its nearest pixel.

    Raises:
        InputError: less than half of the other detector's rays meet this one.
    """
    rows, columns = (torch.arange(n, device=images.device) for n in (other.height, other.width))
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).to(camera.intrinsics_px)
    found = pixels @ (camera.intrinsics_px @ torch.linalg.inv(other.intrinsics_px)).T
    size = found.new_tensor([camera.width, camera.height])
    grid = (2 * found[..., :2] + 1) / size - 1
    shared = float((grid.abs() <= 1).all(-1).double().mean())
    if shared < MIN_SHARED_FIELD:
        fault = f"only {shared:.0%} of the rays that the encoder was trained for meet this detector"
        raise InputError("X-ray", fault, "Check its intrinsics, or train an encoder for it")
    grid = grid.to(images).expand(len(images), *grid.shape)
    return grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def save_encoder(path: str | Path, encoder: PoseEncoder, settings: NetworkSettings) -> None:
    """Write an encoder, atomically: weights as safetensors, with a description in JSON."""
    type_names = {settings_type: name for name, settings_type in NETWORK_TYPES.items()}
    frame = encoder.frame
    description = {
        "network": {"type": type_names[type(settings)], **asdict(settings)},
        "pa_pose": frame.pa_pose.tolist(),
        "isocenter_mm": frame.isocenter_mm.tolist(),
        "twist_unit": frame.twist_unit.tolist(),
        "camera": {**asdict(frame.camera), "intrinsics_px": frame.camera.intrinsics_px.tolist()},
    }
    write_model(path, DESCRIPTION, description, encoder.network)


def load_encoder(path: str | Path, device: torch.device) -> PoseEncoder:
    """Read a file written by `save_encoder`, for inference: its weights do not require a gradient.

    Raises:
        InputError: the file is not an encoder, or is damaged.
    """
    try:
        model = read_model(path, DESCRIPTION)
        entry = checked_sizes(model.description["network"], model)
        network = network_of(path, model, lambda: build_network(network_settings(entry)))
        frame = _frame(path, model.description)
    except READ_ERRORS as error:
        raise unreadable(path, "an encoder", error) from None
    return PoseEncoder(network.to(device).eval().requires_grad_(False), frame.to(device))


def _frame(path: str | Path, description: dict[str, Any]) -> PoseFrame:
    def tensor(key: str, *shape: int) -> Tensor:
        flat = torch.tensor(description[key], dtype=torch.float64).flatten().tolist()
        return torch.tensor(numbers_of(f"{path}: {key}", flat, prod(shape), FAR), dtype=torch.float64).reshape(shape)

    pa_pose = tensor("pa_pose", 4, 4)
    check_rigid(f"{path}: pa_pose", pa_pose.numpy())
    return PoseFrame(
        pa_pose,
        tensor("isocenter_mm", 3),
        tensor("twist_unit", 6),
        camera_of_entries(f"{path}: camera", description["camera"]),
    )


def network_settings(entry: dict[str, Any]) -> NetworkSettings:
    """Settings from an encoder's `network` in the config."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key != "type"}
    return NETWORK_TYPES[entry["type"]](**values)
