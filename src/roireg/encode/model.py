"""A trained pose encoder: estimates the pose of an X-ray from its image and camera; saved and loaded as safetensors."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from roireg.data.images import scaled
from roireg.encode.network import NETWORK_TYPES, NetworkSettings, build_network
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.geometry.camera import Camera
from roireg.geometry.poses import perturb
from roireg.training.drrs import camera_twist

DESCRIPTION = "roireg_encoder"
MIN_SHARED_FIELD = 0.5
# Raised by torch, safetensors or the constructors for a file that is no encoder or has an invalid description.
READ_ERRORS = (
    OSError,
    SafetensorError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    AssertionError,
)


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
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, {DESCRIPTION: json.dumps(description)})


def load_encoder(path: str | Path, device: torch.device) -> PoseEncoder:
    """Read a file written by `save_encoder`, for inference: its weights do not require a gradient.

    Raises:
        InputError: the file is not an encoder, or is damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            description = json.loads((file.metadata() or {})[DESCRIPTION])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = build_network(network_settings(description["network"]))
        network.load_state_dict(state)
        pa_pose, isocenter_mm, twist_unit = (
            torch.tensor(description[key], dtype=torch.float64).reshape(shape)
            for key, shape in (("pa_pose", (4, 4)), ("isocenter_mm", (3,)), ("twist_unit", (6,)))
        )
        camera = Camera(
            **{**description["camera"], "pixel_spacing_mm": tuple(description["camera"]["pixel_spacing_mm"])}
        )
        intrinsics_px = torch.tensor(camera.intrinsics_px, dtype=torch.float64).reshape(3, 3)
        frame = PoseFrame(pa_pose, isocenter_mm, twist_unit, replace(camera, intrinsics_px=intrinsics_px))
    except READ_ERRORS as error:
        fault = f"cannot be read as an encoder ({type(error).__name__})"
        raise InputError(str(path), fault, "Train it again, with `roireg` or the workflow") from None
    return PoseEncoder(network.to(device).eval().requires_grad_(False), frame.to(device))


def network_settings(entry: dict) -> NetworkSettings:
    """Settings from an encoder's `network` in the config."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key != "type"}
    return NETWORK_TYPES[entry["type"]](**values)
