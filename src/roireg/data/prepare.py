"""From a dataset in the DeepFluoro layout to one specimen file: preprocessing of CT and X-rays."""

from dataclasses import dataclass

import h5py
import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from roireg.data import deepfluoro
from roireg.data.specimen import Specimen, Xray, label_mask
from roireg.data.volume import TWO_SLOPES, AttenuationSettings, Volume, box_center_mm
from roireg.errors import InputError
from roireg.geometry.camera import rotate_image_180
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.geometry.poses import pa_pose

BLUR_SIGMA_PX = 1.0
BLUR_RADIUS_PX = 2


@dataclass(frozen=True)
class PrepareSettings:
    """How images and volumes are prepared; see `prepare` in the config schema."""

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
        """How attenuation follows from Hounsfield units."""
        return AttenuationSettings(self.mu_water_per_mm, self.mu_bone_per_mm, self.attenuation, self.bone_multiplier)


class ConstantImage(ValueError):
    """What is left of an image after the crop shows nothing."""


def preprocess_intensity(intensity: np.ndarray, crop_px: int, size_px: int) -> Float[Tensor, "H W"]:
    """Log attenuation in [0, 1] from raw intensity, as DiffPose does it.

    Crop, Gaussian blur 5x5 of sigma 1, `ln I0 - ln I`, per-image min-max, area resampling. I0 is the image's largest
    value; it drops out in the min-max.

    Args:
        intensity: `(rows, columns)` raw values, integers or floats; not positive ones count as the smallest positive.
        crop_px: pixels taken off each side (the collimator's edge).
        size_px: height and width of the result.
    """
    cropped = intensity[crop_px : intensity.shape[0] - crop_px, crop_px : intensity.shape[1] - crop_px]
    if cropped.max() <= 0 or cropped.min() == cropped.max():
        raise ConstantImage(f"within the crop of {crop_px} px every pixel is {cropped.max()}")
    floor = cropped[cropped > 0].min()
    blurred = ndimage.gaussian_filter(
        np.maximum(cropped, floor).astype(np.float64), BLUR_SIGMA_PX, radius=BLUR_RADIUS_PX
    )
    log = torch.from_numpy(np.log(blurred.max()) - np.log(blurred))
    small = interpolate(log[None, None], size=(size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
    small = small[0, 0]
    return ((small - small.min()) / (small.max() - small.min())).float()


def preprocess_segmentation(segmentation: np.ndarray, crop_px: int, size_px: int) -> UInt8[Tensor, "H W"]:
    """Label ids at the preprocessed size, by nearest pixel centre."""
    cropped = segmentation[crop_px : segmentation.shape[0] - crop_px, crop_px : segmentation.shape[1] - crop_px]
    as_tensor = torch.from_numpy(cropped.astype(np.uint8))[None, None]
    return interpolate(as_tensor, size=(size_px, size_px), mode="nearest-exact")[0, 0]


def prepare_xray(
    projection: deepfluoro.Projection, parameters: deepfluoro.ProjectionParameters, settings: PrepareSettings
) -> Xray:
    """An X-ray upright, cropped and resampled, with the camera and pose that belong to it.

    Raises:
        InputError: the crop leaves nothing of the image.
    """
    camera = parameters.camera()
    if 2 * settings.crop_px >= min(camera.height, camera.width) - 1:
        raise InputError(
            "config: prepare.crop_px", f"{settings.crop_px} px a side leaves nothing of the image", "Make it smaller"
        )
    pose = pose_from_deepfluoro(
        torch.from_numpy(projection.poses["cam-to-pelvis-vol"]), torch.from_numpy(parameters.extrinsic)
    )
    intensity, segmentation = projection.intensity, projection.segmentation
    if projection.rotate_180_for_up:
        camera, pose = rotate_image_180(camera, pose)
        intensity = intensity[::-1, ::-1]
        segmentation = None if segmentation is None else segmentation[::-1, ::-1]
    size = settings.image_size_px
    mask = None if segmentation is None else preprocess_segmentation(segmentation, settings.crop_px, size)
    return Xray(
        name=projection.name,
        image=preprocess_intensity(intensity, settings.crop_px, size),
        mask=mask,
        camera=camera.cropped(settings.crop_px).resized(size, size),
        pose=pose,
    )


def prepare_specimen(file: h5py.File, name: str, settings: PrepareSettings) -> Specimen:
    """Everything that later stages need of one specimen.

    Raises:
        InputError: the specimen is not in the file, or what is there cannot be used.
    """
    if name not in deepfluoro.specimen_names(file):
        known = ", ".join(deepfluoro.specimen_names(file))
        raise InputError(
            f"config: dataset.specimens: {name}", f"{file.filename} does not hold it", f"It holds: {known}"
        )
    parameters = deepfluoro.read_parameters(file)
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
    names = deepfluoro.projection_names(file, name)
    projections = (deepfluoro.read_projection(file, name, key, parameters) for key in names)
    source_mm = settings.source_to_isocenter * parameters.camera().source_to_detector_mm
    return Specimen(
        name=name,
        volume=volume,
        labels=labels,
        label_names=ct.label_names,
        landmark_names=landmark_names,
        landmarks_mm=torch.from_numpy(landmarks),
        isocenter_mm=isocenter,
        pa_pose=pa_pose(isocenter, source_mm),
        xrays=tuple(_prepared(file, name, projection, parameters, settings) for projection in projections),
    )


def _prepared(
    file: h5py.File,
    specimen: str,
    projection: deepfluoro.Projection,
    parameters: deepfluoro.ProjectionParameters,
    settings: PrepareSettings,
) -> Xray:
    try:
        return prepare_xray(projection, parameters, settings)
    except ConstantImage as error:
        where = f"{file.filename}:{specimen}/projections/{projection.name}/image/pixels"
        raise InputError(where, str(error), "Leave this X-ray out, or change `prepare.crop_px`") from None


def _isocenter(volume: Volume, ct: deepfluoro.Ct, labels: Tensor, settings: PrepareSettings) -> Float[Tensor, "3"]:
    if not settings.isocenter:
        return volume.center_mm
    return box_center_mm(label_mask(labels, ct.label_names, settings.isocenter, "config: prepare.isocenter"), volume)
