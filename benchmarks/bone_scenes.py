"""Simulated X-rays of hips, and of the same at the size of a wrist, with bones that moved each on its own.

Settings of `roireg.register.bone_registration` are chosen on these and on nothing else. A scene is a deformed copy of
the demo's CT, never the undeformed one, without the plate in his femur, seen by a calibrated pair of cameras 60 degrees
apart. Both femurs are turned about their heads; their true poses are known. The CT ends below the hip, so that both
shafts are sawn off inside the pictures. At a scale of 0.4 the shaft of a femur is as thick as that of a radius, and the
cameras are a wrist's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from roireg.data.patient import Patient, find_bone_points_mm
from roireg.data.preprocess import RAW_INTENSITY, preprocess, size_within
from roireg.data.volume import Volume, attenuation_from_hu
from roireg.data.xray import Xray
from roireg.demo.anatomy import LABEL_NAMES, LEFT_FEMUR, RIGHT_FEMUR, load_anatomy
from roireg.demo.dataset import PHOTONS, expose, pelvis_center_mm, specimen_bodies
from roireg.demo.exposures import FEMUR_MAX_DEG, FEMUR_SD_DEG, Exposure, articulated, truncated_normal
from roireg.demo.source import download
from roireg.demo.specimens import SimulatedPatient, make_specimens
from roireg.geometry.camera import Camera
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import invert
from roireg.seeds import generator
from roireg.simulation.xray_formation import Body

SEED = 5
CT_BELOW_LANDMARKS_MM = 60.0
SECOND_DEG = 60.0
# The plate and the screw become dense bone.
DENSEST_HU = 1600.0
VIEW_SD_DEG, VIEW_SD_MM = 6.0, 6.0
FEMURS = {"left femur": LEFT_FEMUR, "right femur": RIGHT_FEMUR}
STORED_PX, REGISTERED_PX = 768, 768


@dataclass(frozen=True)
class Rig:
    """A size of the patient, and the cameras that see him: source to detector and to the patient, and the detector."""

    scale: float
    source_to_detector_mm: float
    source_to_patient_mm: float
    detector_mm: float


RIGS = {"hip": Rig(1.0, 1020.0, 740.0, 300.0), "wrist": Rig(0.4, 1300.0, 1080.0, 190.0)}


@dataclass(frozen=True, eq=False)
class Scene:
    """A patient, his X-rays from front and side in one rig, and where each femur truly is: `volume_from_rig`, mm."""

    name: str
    patient: Patient
    xrays: tuple[Xray, ...]
    true_rig_poses: dict[str, torch.Tensor]
    pelvis_rig_pose: torch.Tensor


def scaled_frame(frame: np.ndarray, scale: float) -> np.ndarray:
    """`volume_from_voxel` of a patient of another size."""
    return np.diag([scale, scale, scale, 1.0]) @ frame


def without_metal(specimen: SimulatedPatient) -> SimulatedPatient:
    """The same patient without an implant."""
    truth, ct = (
        replace(one, hu=np.minimum(one.hu, DENSEST_HU).astype(one.hu.dtype), metal=np.zeros_like(one.metal))
        for one in (specimen.truth, specimen.ct)
    )
    return replace(specimen, truth=truth, ct=ct)


def patient_of(specimen: SimulatedPatient, scale: float) -> Patient:
    """The scan, as `read_patient` would read it from files."""
    frame = torch.from_numpy(scaled_frame(specimen.ct.volume_from_voxel, scale))
    hu = torch.from_numpy(specimen.ct.hu).float()
    volume = Volume(attenuation_from_hu(hu), frame)
    labels = torch.from_numpy(specimen.ct.labels.astype(np.uint8))
    points = find_bone_points_mm(Volume(hu, frame))
    return Patient(specimen.name, volume, labels, LABEL_NAMES, volume.center_mm, points)


def camera_of(rig: Rig) -> Camera:
    """A square detector, its principal point off the middle, seen from behind."""
    spacing = rig.detector_mm / STORED_PX
    focal, middle = rig.source_to_detector_mm / spacing, (STORED_PX - 1) / 2
    k = [[-focal, 0.0, middle + 7.0], [0.0, focal, middle - 5.0], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, dtype=torch.float64), STORED_PX, STORED_PX, (spacing, spacing))


def scenes(folder: Path, kinds: list[str], copies: int) -> Iterator[Scene]:
    """Scenes of deformed copies, the undeformed CT left out."""
    files = folder / "ct.nii.gz", folder / "labels.nii.gz"
    if not all(file.is_file() for file in files):
        download(*files)
    for specimen in islice(make_specimens(load_anatomy(*files), 1 + copies, SEED, CT_BELOW_LANDMARKS_MM), 1, None):
        specimen = without_metal(specimen)
        bodies = specimen_bodies(specimen)
        for kind in kinds:
            yield _scene(specimen, bodies, kind)


def _scene(specimen: SimulatedPatient, bodies: list[Body], kind: str) -> Scene:
    rig, camera = RIGS[kind], camera_of(RIGS[kind])
    rng = generator(SEED, "bone scenes", specimen.name, kind)
    small = [replace(one, volume_from_voxel=scaled_frame(one.volume_from_voxel, rig.scale)) for one in bodies]
    # The hips are in the middle of the picture.
    heads = {
        name: specimen.landmarks_mm[key] * rig.scale for name, key in (("left femur", "FH-l"), ("right femur", "FH-r"))
    }
    center = torch.from_numpy((pelvis_center_mm(specimen) * rig.scale + sum(heads.values())) / 3)
    twist = rng.normal(size=6) * np.repeat([np.deg2rad(VIEW_SD_DEG), VIEW_SD_MM * rig.scale], 3)
    front = perturb(pa_pose(center, rig.source_to_patient_mm), torch.from_numpy(twist), center)
    turn = torch.tensor([0.0, 0.0, np.deg2rad(SECOND_DEG), 0.0, 0.0, 0.0], dtype=torch.float64)
    poses = front, perturb(front, turn, center)
    turns = {
        name: np.deg2rad(truncated_normal(rng, np.full(3, FEMUR_SD_DEG), np.full(3, FEMUR_MAX_DEG))) for name in FEMURS
    }
    xrays = []
    for number, pose in enumerate(poses):
        own = {FEMURS[name]: articulated(pose, turns[name], heads[name]) for name in FEMURS}
        stored = expose(small, Exposure(pose, own, False), camera, [], PHOTONS, rng)
        size = size_within(stored.shape, REGISTERED_PX)
        image, seen = preprocess("scene", stored, camera, RAW_INTENSITY, size)
        xrays.append(Xray(f"view {number + 1}", image, seen, invert(front) @ pose, camera, true_pose=pose))
    true = {name: articulated(front, turns[name], heads[name]) for name in FEMURS}
    return Scene(f"{specimen.name}/{kind}", patient_of(specimen, rig.scale), tuple(xrays), true, front)
