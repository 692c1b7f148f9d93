"""Random exposures (camera pose, hip rotation, instruments, collimator), and the demo's C-arm."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.deepfluoro_records import ProjectionParameters
from roireg.demo.anatomy import LEFT_FEMUR, RIGHT_FEMUR
from roireg.errors import InputError
from roireg.geometry.camera import Camera, project, rotate_image_180
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, camera_twist, pa_pose, perturb
from roireg.geometry.se3 import invert, se3_exp
from roireg.simulation.xray_formation import Aperture, Cylinder

FEMUR_SD_DEG, FEMUR_MAX_DEG = 8.0, 24.0
POSE_TRIES = 1000

EXTRINSIC_TWIST = (0.3, -1.1, 0.2, 120.0, -45.0, 310.0)
PRINCIPAL_OFFSET_MM = (1.7, -1.2)

INSTRUMENT_RADIUS_MM = (1.0, 3.0)
INSTRUMENT_LENGTH_MM = (60.0, 150.0)
INSTRUMENT_REACH_MM = 60.0

APERTURE_FRACTION = (0.98, 1.06)
APERTURE_EXPONENT = (5.0, 40.0)
APERTURE_SHIFT_FRACTION = 0.015


@dataclass(frozen=True)
class ExposureSettings:
    """Distribution of exposures: the posterior-anterior (PA) pose, perturbed by a truncated normal twist.

    Triples are along the camera's axes in the PA pose: x across the image, y down, z along the central ray. Rotations
    are about the centre of the pelvis.

    Attributes:
        mean_rotation_deg, mean_translation_mm: mean of the twist; zeros stand for the PA pose.
        rotation_sd_deg, translation_sd_mm: standard deviations of the twist.
        rotation_max_deg, translation_max_mm: largest deviation from the mean.
        min_visible_landmarks: exposures that show fewer of the 14 landmarks are rejected.
    """

    mean_rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mean_translation_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_sd_deg: tuple[float, float, float] = (10.0, 10.0, 10.0)
    rotation_max_deg: tuple[float, float, float] = (28.0, 28.0, 28.0)
    translation_sd_mm: tuple[float, float, float] = (25.0, 25.0, 25.0)
    translation_max_mm: tuple[float, float, float] = (60.0, 60.0, 60.0)
    min_visible_landmarks: int = 8


def exposure_settings(entry: dict[str, Any]) -> ExposureSettings:
    """Settings from the section `demo.views` of the config."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return ExposureSettings(**values)


@dataclass(frozen=True, eq=False)
class Exposure:
    """One exposure.

    Attributes:
        pose: `volume_from_camera` of the image as it is stored, float64.
        femur_poses: pose of the camera relative to each femur, by label; in the volume frame of the CT, in which the
            femur does not move.
        upside_down: True if the stored image must be rotated by 180 degrees to be upright.
    """

    pose: torch.Tensor
    femur_poses: dict[int, torch.Tensor]
    upside_down: bool


def carm(rows: int, columns: int, pixel_mm: float, source_to_detector_mm: float) -> ProjectionParameters:
    """The demo's C-arm. Its world frame is not the camera frame and its principal point is off-centre, to test both."""
    focal = source_to_detector_mm / pixel_mm
    offset = np.array(PRINCIPAL_OFFSET_MM) / pixel_mm
    intrinsic = np.array(
        [[-focal, 0, (columns - 1) / 2 + offset[0]], [0, -focal, (rows - 1) / 2 + offset[1]], [0, 0, 1]]
    )
    extrinsic = se3_exp(torch.tensor(EXTRINSIC_TWIST, dtype=torch.float64)).numpy()
    return ProjectionParameters(extrinsic, intrinsic, rows, columns, pixel_mm, pixel_mm)


def truncated_normal(
    rng: np.random.Generator, sd: Float[np.ndarray, "N"], limit: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """Normal random values with mean 0 and the given standard deviations, truncated to +/- `limit`."""
    out = rng.normal(0, sd)
    while (outside := np.abs(out) > limit).any():
        out[outside] = rng.normal(0, sd[outside])
    return out


def draw_twist(rng: np.random.Generator, settings: ExposureSettings, pa: Float[Tensor, "4 4"]) -> Float[Tensor, "6"]:
    """A random twist (rad, mm) that perturbs the pose `pa`; along the volume's axes, as `perturb` expects."""

    def along_volume(values: tuple[float, float, float]) -> Float[np.ndarray, "3"]:
        """Standard deviations along the volume's axes from those along the camera's, which are parallel in `pa`."""
        return pa[:3, :3].abs().numpy() @ np.array(values)

    rotation = truncated_normal(rng, along_volume(settings.rotation_sd_deg), along_volume(settings.rotation_max_deg))
    shift = truncated_normal(rng, along_volume(settings.translation_sd_mm), along_volume(settings.translation_max_mm))
    mean = torch.tensor([*np.deg2rad(settings.mean_rotation_deg), *settings.mean_translation_mm], dtype=torch.float64)
    return camera_twist(mean, pa) + torch.from_numpy(np.concatenate([np.deg2rad(rotation), shift]))


def articulated(pose: torch.Tensor, rotation_rad: np.ndarray, head_mm: np.ndarray) -> torch.Tensor:
    """The camera's pose relative to a femur that is rotated about the centre of its head.

    Args:
        pose: pose relative to the pelvis, `volume_from_camera`, mm.
        rotation_rad: rotation vector of the femur, volume frame.
        head_mm: centre of the femoral head, volume frame.
    """
    twist = torch.from_numpy(np.concatenate([rotation_rad, np.zeros(3)]))
    motion = perturb(torch.eye(4, dtype=torch.float64), twist, torch.from_numpy(head_mm))
    return invert(motion) @ pose


def visible(landmarks_px: torch.Tensor, camera: Camera) -> int:
    """Number of the positions `(column, row)`, `(N, 2)`, that lie on the detector."""
    size = landmarks_px.new_tensor([camera.width, camera.height])
    return int(((landmarks_px >= -0.5) & (landmarks_px <= size - 0.5)).all(-1).sum())


def draw_exposure(
    rng: np.random.Generator,
    camera: Camera,
    center_mm: np.ndarray,
    landmarks_mm: dict[str, np.ndarray],
    upside_down: bool,
    settings: ExposureSettings,
) -> Exposure:
    """A random exposure, centred on a point, that shows enough landmarks.

    Args:
        rng: random generator.
        camera: the detector.
        center_mm: point on the central ray of the PA pose, volume frame.
        landmarks_mm: landmarks by name, volume frame.
        upside_down: whether the image is stored rotated by 180 degrees.
        settings: distribution of exposures.

    Raises:
        InputError: none of `POSE_TRIES` random exposures shows enough landmarks.
    """
    center = torch.from_numpy(center_mm)
    points = torch.from_numpy(np.stack(list(landmarks_mm.values())))
    start = pa_pose(center, SOURCE_TO_ISOCENTER_FRACTION * camera.source_to_detector_mm)
    for _ in range(POSE_TRIES):
        pose = perturb(start, draw_twist(rng, settings, start), center)
        if upside_down:
            pose = rotate_image_180(camera, pose)[1]
        if visible(project(points, camera, pose), camera) >= settings.min_visible_landmarks:
            break
    else:
        what = f"none of {POSE_TRIES} random exposures shows {settings.min_visible_landmarks} landmarks"
        raise InputError("config: demo.views", what, "Lower the spreads, or `min_visible_landmarks`")
    femur_poses = {}
    for label, head in ((LEFT_FEMUR, "FH-l"), (RIGHT_FEMUR, "FH-r")):
        turn = np.deg2rad(truncated_normal(rng, np.full(3, FEMUR_SD_DEG), np.full(3, FEMUR_MAX_DEG)))
        femur_poses[label] = articulated(pose, turn, landmarks_mm[head])
    return Exposure(pose, femur_poses, upside_down)


def draw_instruments(rng: np.random.Generator, center_mm: np.ndarray) -> list[Cylinder]:
    """One or two metal rods at random positions near a point of the pelvis."""
    out = []
    for _ in range(rng.integers(1, 3)):
        middle = center_mm + rng.uniform(-INSTRUMENT_REACH_MM, INSTRUMENT_REACH_MM, 3)
        direction = rng.standard_normal(3)
        half = direction / np.linalg.norm(direction) * rng.uniform(*INSTRUMENT_LENGTH_MM) / 2
        out.append(Cylinder(tuple(middle - half), tuple(middle + half), float(rng.uniform(*INSTRUMENT_RADIUS_MM))))
    return out


def draw_aperture(rng: np.random.Generator, camera: Camera) -> Aperture:
    """A collimator opening about as large as the image; in about a third of the images it hides the corners."""
    size = np.array([camera.width, camera.height])
    center = (size - 1) / 2 + rng.uniform(-APERTURE_SHIFT_FRACTION, APERTURE_SHIFT_FRACTION, 2) * size
    half = size / 2 * rng.uniform(*APERTURE_FRACTION, 2)
    return Aperture(tuple(center), tuple(half), float(np.exp(rng.uniform(*np.log(APERTURE_EXPONENT)))))
