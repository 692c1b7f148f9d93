"""DiffPose's registration of an X-ray (Gopalakrishnan et al. 2024, register.py), written with the installed DiffDRR.

From roireg it uses only the X-ray, the frames of camera and CT, and `to_diffdrr`. Density, renderer, NCC and pose
logarithm are DiffDRR's; the optimizer is torch's. As in DiffDRR 0.3.9, on which DiffPose is based, the origin of a pose
is midway between source and detector, and the origin of the world is the corner of the CT.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from diffdrr.data import read
from diffdrr.drr import DRR
from diffdrr.metrics import MultiscaleNormalizedCrossCorrelation2d
from diffdrr.pose import RigidTransform, convert, se3_log_map
from jaxtyping import Float
from torch import Tensor
from torchio import ScalarImage

from roireg.data.volume import Volume
from roireg.data.xray import Xray
from roireg.geometry.conversions import RAS_FROM_LPS, to_diffdrr

RATE_ROTATION_RAD, RATE_TRANSLATION_MM = 7.5e-3, 7.5
DECAY_EVERY, DECAY_FACTOR = 25, 0.9
BONE_MULTIPLIER = 2.5
PATCH_SIZE = 13
# Mean and SD of images in [0, 1] in DiffPose's `Transforms`.
IMAGE_MEAN, IMAGE_SD = 0.3080, 0.1494
RANGE_EPS = 1e-6

# Function from a pose `volume_from_camera` (1, 4, 4) to a DRR (1, 1, H, W), differentiable in the pose.
Render = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Path:
    """The iterates of a registration.

    Attributes:
        poses: `volume_from_camera`, mm; the first is the initial pose.
        similarity: similarity at each pose; larger is better.
    """

    poses: Float[Tensor, "N 4 4"]
    similarity: Float[Tensor, "N"]


def diffdrr_module(hu: Volume, xray: Xray, renderer: str = "siddon") -> DRR:
    """DiffDRR's renderer for the CT (HU) and the X-ray's detector, with DiffDRR's density; bone multiplied by 2.5."""
    ras_from_voxel = torch.diag(hu.volume_from_voxel.new_tensor(RAS_FROM_LPS)) @ hu.volume_from_voxel
    image = ScalarImage(tensor=hu.values.permute(2, 1, 0)[None], affine=ras_from_voxel.numpy())
    subject = read(image, orientation=None, bone_attenuation_multiplier=BONE_MULTIPLIER, center_volume=False)
    detector = asdict(to_diffdrr(xray.camera, xray.true_pose[None]))
    del detector["pose"]
    # The nearest-voxel lookup of Siddon's method has no gradient; disabling autograd for it halves the time.
    options = {"stop_gradients_through_grid_sample": True} if renderer == "siddon" else {}
    return DRR(subject, renderer=renderer, **detector, **options)


def diffdrr_render(module: DRR, xray: Xray, **sampling: int) -> Render:
    """The module as a function of roireg's poses; `sampling` are arguments of its renderer."""
    return lambda pose: module(RigidTransform(to_diffdrr(xray.camera, pose).pose.float()), **sampling)


def standardized(image: Float[Tensor, "1 1 H W"]) -> Float[Tensor, "1 1 H W"]:
    """The image scaled to [0, 1], then normalised with DiffPose's fixed mean and SD."""
    scaled = (image - image.min()) / (image.max() - image.min() + RANGE_EPS)
    return (scaled - IMAGE_MEAN) / IMAGE_SD


class PoseLogarithm:
    """DiffPose's parameters of a pose: the se(3) logarithm of world-from-camera, in the frames of DiffDRR 0.3.9."""

    def __init__(self, hu: Volume, xray: Xray) -> None:
        """Compute the frames for a CT and a camera; the CT's axes must be parallel to the patient's."""
        ends = torch.stack([hu.volume_from_voxel[:3, 3], _last_voxel_mm(hu)]) * torch.tensor([-1.0, -1.0, 1.0])
        corner = torch.stack([ends[:, 0].min(), ends[:, 1].max(), ends[:, 2].min()])
        self.ras_from_world = torch.eye(4, dtype=torch.float64)
        self.ras_from_world[:3, 3] = corner
        # Convert the axes of DiffDRR's camera in the posterior-anterior view (x to the patient's left, y superior, z
        # anterior) to those of `Rz(pi/2) Rx(-pi/2)` in DiffDRR 0.3.9's world, whose y axis is mirrored.
        about_z = _turn(2, math.pi / 2)
        mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
        theirs = mirror @ about_z @ _turn(0, -math.pi / 2) @ mirror
        posterior_anterior = torch.tensor([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]], dtype=torch.float64)
        self.source_from_middle = torch.eye(4, dtype=torch.float64)
        self.source_from_middle[:3, :3] = posterior_anterior.T @ theirs
        self.source_from_middle[2, 3] = xray.camera.source_to_detector_mm / 2

    def of(self, pose: Float[Tensor, "1 4 4"]) -> tuple[Tensor, Tensor]:
        """The logarithm of a pose: rotation part (rad) and translation part (mm), float32."""
        matrix = torch.linalg.inv(self.ras_from_world) @ _ras_pose(pose) @ self.source_from_middle
        logarithm = se3_log_map(matrix.mT).float()
        return logarithm[:, 3:], logarithm[:, :3]

    def pose(self, rotation: Float[Tensor, "1 3"], translation: Float[Tensor, "1 3"]) -> Float[Tensor, "1 4 4"]:
        """The pose `volume_from_camera`, mm, of a logarithm."""
        matrix = convert(rotation, translation, parameterization="se3_log_map").matrix.double()
        ras = self.ras_from_world @ matrix @ torch.linalg.inv(self.source_from_middle)
        return _ras_pose(ras)


def _turn(axis: int, angle_rad: float) -> Float[Tensor, "3 3"]:
    twist = torch.zeros(1, 3, dtype=torch.float64)
    twist[0, axis] = angle_rad
    return convert(twist, torch.zeros_like(twist), parameterization="axis_angle").matrix[0, :3, :3]


def _ras_pose(pose: Float[Tensor, "1 4 4"]) -> Float[Tensor, "1 4 4"]:
    """Convert a pose from LPS and roireg's camera axes to RAS and DiffDRR's (180 degrees about z), or back."""
    half_turn = torch.diag(pose.new_tensor([-1.0, -1.0, 1.0, 1.0]))
    return torch.diag(pose.new_tensor(RAS_FROM_LPS)) @ pose @ half_turn


def _last_voxel_mm(volume: Volume) -> Float[Tensor, "3"]:
    size = volume.volume_from_voxel.new_tensor(list(volume.values.shape[::-1])) - 1
    return volume.volume_from_voxel[:3, :3] @ size + volume.volume_from_voxel[:3, 3]


def register(hu: Volume, xray: Xray, initial_pose: Float[Tensor, "4 4"], iterations: int, render: Render) -> Path:
    """DiffPose's optimization from an initial pose. As in DiffPose, the X-ray is normalised and the DRR is not."""
    criterion = MultiscaleNormalizedCrossCorrelation2d([None, PATCH_SIZE], [0.5, 0.5])
    frame = PoseLogarithm(hu, xray)
    rotation, translation = (torch.nn.Parameter(part) for part in frame.of(initial_pose[None]))
    optimizer = torch.optim.Adam(
        [{"params": [rotation], "lr": RATE_ROTATION_RAD}, {"params": [translation], "lr": RATE_TRANSLATION_MM}],
        maximize=True,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, DECAY_EVERY, DECAY_FACTOR)
    fixed = standardized(xray.image[None, None])
    poses, values = [], []
    for iteration in range(iterations + 1):
        optimizer.zero_grad()
        pose = frame.pose(rotation, translation)
        value = criterion(render(pose), fixed)
        poses.append(pose.detach()[0])
        values.append(float(value.detach()))
        if iteration < iterations:
            value.sum().backward()
            optimizer.step()
            schedule.step()
    return Path(torch.stack(poses), torch.tensor(values))
