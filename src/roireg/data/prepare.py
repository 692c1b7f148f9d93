"""Preprocesses one specimen (CT and X-rays) of a dataset in the DeepFluoro layout."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data import deepfluoro
from roireg.data.deepfluoro_records import BONE_POSES, PELVIS_POSE, Ct, Projection, ProjectionParameters
from roireg.data.measured import mask_at, measured_pixels
from roireg.data.patient import Patient, find_bone_points_mm, label_mask
from roireg.data.preprocess import RAW_INTENSITY, cut_out, preprocess, preprocess_labels
from roireg.data.volume import TWO_SLOPES, AttenuationSettings, Volume, box_center_mm
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.geometry.camera import rotate_image_180
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.geometry.poses import pa_pose

# Voxel size of the grid on which points of bone are searched; the CT itself keeps its voxel size.
BONE_GRID_MM = 2.0


@dataclass(frozen=True)
class PrepareSettings:
    """Settings of the preprocessing: the section `prepare` of the config."""

    image_size_px: int
    crop_px: int
    ct_shift_voxels: float
    isocenter: tuple[str, ...]
    source_to_isocenter: float
    mu_water_per_mm: float
    mu_bone_per_mm: float
    attenuation: str = TWO_SLOPES
    bone_multiplier: float = 1.0

    @property
    def of_attenuation(self) -> AttenuationSettings:
        """Settings of the conversion from Hounsfield units to attenuation."""
        return AttenuationSettings(self.mu_water_per_mm, self.mu_bone_per_mm, self.attenuation, self.bone_multiplier)


def prepare_settings(entry: Mapping[str, Any]) -> PrepareSettings:
    """Settings from the section `prepare` of the config."""
    return PrepareSettings(**{**entry, "isocenter": tuple(entry["isocenter"])})


def prepare_xray(
    where: str,
    projection: Projection,
    parameters: ProjectionParameters,
    settings: PrepareSettings,
) -> Xray:
    """Make an X-ray upright, crop and resample it, and adapt its camera and pose.

    Args:
        where: location of the projection in its file, for error messages.
        projection, parameters: the stored X-ray and C-arm.
        settings: settings of the preprocessing.

    Raises:
        InputError: nothing is left after the crop, or the cropped image is blank.
    """
    camera = parameters.camera()
    if 2 * settings.crop_px >= min(camera.height, camera.width) - 1:
        raise InputError(
            "config: prepare.crop_px", f"{settings.crop_px} px on each side leave nothing of the image", "Reduce it"
        )
    extrinsic = torch.from_numpy(parameters.extrinsic)
    poses = {key: pose_from_deepfluoro(torch.from_numpy(one), extrinsic) for key, one in projection.poses.items()}
    intensity, labels = projection.intensity, projection.segmentation
    if projection.rotate_180_for_up:
        poses = {key: rotate_image_180(camera, pose)[1] for key, pose in poses.items()}
        camera, _ = rotate_image_180(camera, poses[PELVIS_POSE])
        intensity = intensity[::-1, ::-1]
        labels = None if labels is None else labels[::-1, ::-1]
    rows, columns = (slice(settings.crop_px, n - settings.crop_px) for n in (camera.height, camera.width))
    part, window = cut_out(intensity, rows, columns, camera)
    size = (settings.image_size_px, settings.image_size_px)
    pixels = f"{where}/image/pixels"
    valid = measured_pixels(pixels, part, RAW_INTENSITY.bone_bright)
    image, small = preprocess(pixels, part, window, RAW_INTENSITY, size, valid)
    source_mm = settings.source_to_isocenter * camera.source_to_detector_mm
    return Xray(
        name=projection.name,
        image=image,
        camera=small,
        # The dataset does not contain a position stated by the device, so the posterior-anterior pose is assumed.
        rig_from_camera=pa_pose(torch.zeros(3, dtype=torch.float64), source_mm),
        labels=None if labels is None else preprocess_labels(labels[rows, columns], small.height, small.width),
        mask=mask_at(valid, size),
        true_pose=poses[PELVIS_POSE],
        bone_poses={BONE_POSES[key]: pose for key, pose in poses.items() if key in BONE_POSES},
    )


def prepare_specimen(file: h5py.File, name: str, settings: PrepareSettings) -> tuple[Patient, tuple[Xray, ...]]:
    """Read and preprocess a specimen: the patient and the X-rays, in the order of their names.

    Raises:
        InputError: the specimen is not in the file, or its data cannot be used.
    """
    if name not in deepfluoro.specimen_names(file):
        known = ", ".join(deepfluoro.specimen_names(file))
        raise InputError(
            f"config: dataset.specimens: {name}", f"{file.filename} does not contain it", f"Choose among: {known}"
        )
    ct = deepfluoro.read_ct(file, name)
    hu = torch.from_numpy(ct.hu).float()
    try:
        mu = settings.of_attenuation.of(hu)
    except InputError as error:
        raise InputError(f"{file.filename}:{name}/vol/pixels", error.what, error.remedy) from None
    volume_from_voxel = torch.from_numpy(ct.volume_from_voxel())
    shift = volume_from_voxel.new_full((3,), settings.ct_shift_voxels)
    volume_from_voxel[:3, 3] += volume_from_voxel[:3, :3] @ shift
    volume = Volume(mu, volume_from_voxel)
    landmark_names = tuple(sorted(ct.landmarks_mm))
    landmarks = np.stack([ct.landmarks_mm[key] for key in landmark_names]) if landmark_names else np.zeros((0, 3))
    labels = torch.from_numpy(ct.labels.astype(np.uint8))
    isocenter = _isocenter(volume, ct, labels, settings)
    patient = Patient(
        name=name,
        volume=volume,
        labels=labels,
        label_names=ct.label_names,
        center_mm=isocenter,
        bone_points_mm=_bone_points_mm(hu, volume),
        landmark_names=landmark_names,
        landmarks_mm=torch.from_numpy(landmarks),
    )
    return patient, tuple(prepare_xrays(file, name, settings))


def prepare_xrays(file: h5py.File, name: str, settings: PrepareSettings) -> Iterator[Xray]:
    """The X-rays of a specimen, preprocessed one at a time, in the order of their names.

    Raises:
        InputError: the file has no such specimen, or its data cannot be used.
    """
    parameters = deepfluoro.read_parameters(file)
    for key in deepfluoro.projection_names(file, name):
        projection = deepfluoro.read_projection(file, name, key, parameters)
        yield prepare_xray(f"{file.filename}:{name}/projections/{key}", projection, parameters, settings)


def large_settings(file: h5py.File, settings: PrepareSettings, largest_px: int) -> PrepareSettings:
    """The same preparation, with X-rays as large as they are stored after the crop, or up to a size."""
    parameters = deepfluoro.read_parameters(file)
    stored_px = min(parameters.rows, parameters.columns) - 2 * settings.crop_px
    return replace(settings, image_size_px=min(largest_px, stored_px))


def _bone_points_mm(hu: Float[Tensor, "D H W"], volume: Volume) -> Float[Tensor, "N 3"]:
    return find_bone_points_mm(volume.with_values(hu).block_means(volume.voxels_of(BONE_GRID_MM)))


def _isocenter(volume: Volume, ct: Ct, labels: Tensor, settings: PrepareSettings) -> Float[Tensor, "3"]:
    if not settings.isocenter:
        return volume.center_mm
    return box_center_mm(label_mask(labels, ct.label_names, settings.isocenter, "config: prepare.isocenter"), volume)
