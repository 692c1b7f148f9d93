"""Writes and reads the file of one prepared specimen (a patient and the X-rays), which all later stages read."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from roireg.data.patient import Patient
from roireg.data.volume import Volume
from roireg.data.xray import Xray
from roireg.files import atomic_hdf5
from roireg.geometry.camera import Camera

COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def write_specimen(path: str | Path, patient: Patient, xrays: Sequence[Xray]) -> None:
    """Write a patient with labels, and X-rays with known poses, atomically."""
    with atomic_hdf5(path) as file:
        file.attrs["name"] = patient.name
        volume = file.create_group("volume")
        volume.create_dataset("mu_per_mm", data=patient.volume.values.numpy(), **COMPRESSION)
        volume["volume_from_voxel"] = patient.volume.volume_from_voxel.numpy()
        volume.create_dataset("labels", data=patient.known_labels.numpy(), **COMPRESSION)
        for label, name in patient.label_names.items():
            volume[f"label_names/{label}"] = name
        landmarks = file.create_group("landmarks", track_order=True)
        for name, position in zip(patient.landmark_names, patient.landmarks_mm.numpy(), strict=True):
            landmarks[name] = position
        file["center_mm"] = patient.center_mm.numpy()
        file["bone_points_mm"] = patient.bone_points_mm.numpy()
        for xray in xrays:
            group = file.create_group(f"xrays/{xray.name}")
            group.create_dataset("image", data=xray.image.numpy(), **COMPRESSION)
            if xray.labels is not None:
                group.create_dataset("labels", data=xray.labels.numpy(), **COMPRESSION)
            if xray.mask is not None:
                group.create_dataset("mask", data=xray.mask.numpy(), **COMPRESSION)
            group["true_pose"] = xray.known_pose.numpy()
            for name, pose in xray.bone_poses.items():
                group[f"bone_poses/{name}"] = pose.numpy()
            group["rig_from_camera"] = xray.rig_from_camera.numpy()
            group["intrinsics_px"] = xray.camera.intrinsics_px.numpy()
            group["pixel_spacing_mm"] = xray.camera.pixel_spacing_mm


def read_specimen(path: str | Path) -> tuple[Patient, tuple[Xray, ...]]:
    """Read a file written by `write_specimen`: the patient, and the X-rays in the order of their names."""
    with h5py.File(path, "r") as file:
        volume = file["volume"]
        landmarks = file["landmarks"]
        names = tuple(landmarks)
        positions = np.stack([landmarks[name][()] for name in names]) if names else np.zeros((0, 3))
        patient = Patient(
            name=file.attrs["name"],
            volume=Volume(torch.from_numpy(volume["mu_per_mm"][()]), torch.from_numpy(volume["volume_from_voxel"][()])),
            labels=torch.from_numpy(volume["labels"][()]),
            label_names={int(k): v.asstr()[()] for k, v in volume.get("label_names", {}).items()},
            center_mm=torch.from_numpy(file["center_mm"][()]),
            bone_points_mm=torch.from_numpy(file["bone_points_mm"][()]),
            landmark_names=names,
            landmarks_mm=torch.from_numpy(positions),
        )
        return patient, tuple(_read_xray(name, group) for name, group in sorted(file["xrays"].items()))


def _read_xray(name: str, group: h5py.Group) -> Xray:
    image = torch.from_numpy(group["image"][()])
    height, width = image.shape
    across_mm, down_mm = (float(x) for x in group["pixel_spacing_mm"][()])
    return Xray(
        name=name,
        image=image,
        camera=Camera(torch.from_numpy(group["intrinsics_px"][()]), height, width, (across_mm, down_mm)),
        rig_from_camera=torch.from_numpy(group["rig_from_camera"][()]),
        labels=torch.from_numpy(group["labels"][()]) if "labels" in group else None,
        mask=torch.from_numpy(group["mask"][()]) if "mask" in group else None,
        true_pose=torch.from_numpy(group["true_pose"][()]),
        bone_poses={bone: torch.from_numpy(pose[()]) for bone, pose in group.get("bone_poses", {}).items()},
    )
