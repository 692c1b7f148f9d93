"""One specimen as all stages after `prepare_specimen` read it: CT, labels, landmarks, X-rays, cameras, poses."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from roireg.data.label_names import label_ids
from roireg.data.volume import Volume
from roireg.files import atomic_path
from roireg.geometry.camera import Camera

COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


@dataclass(frozen=True, eq=False)
class Xray:
    """A preprocessed X-ray.

    Attributes:
        name: key of the projection in its dataset.
        image: `(H, W)` log attenuation scaled to [0, 1]; bone is bright.
        mask: `(H, W)` label ids, or None where the dataset has none.
        camera: detector of `image`.
        pose: true `volume_from_camera` of the pelvis, mm, float64.
    """

    name: str
    image: Float[Tensor, "H W"]
    mask: UInt8[Tensor, "H W"] | None
    camera: Camera
    pose: Float[Tensor, "4 4"]


@dataclass(frozen=True, eq=False)
class Specimen:
    """A patient.

    Attributes:
        name: its key in the dataset.
        volume: attenuation in 1/mm.
        labels: `(z, y, x)` label ids on the volume's grid.
        label_names: name by label id.
        landmark_names, landmarks_mm: 3D landmarks, volume frame.
        isocenter_mm: the point about which perturbations turn, volume frame.
        pa_pose: `T_PA`, the reference view.
        xrays: in the order of their names.
    """

    name: str
    volume: Volume
    labels: UInt8[Tensor, "D H W"]
    label_names: dict[int, str]
    landmark_names: tuple[str, ...]
    landmarks_mm: Float[Tensor, "N 3"]
    isocenter_mm: Float[Tensor, "3"]
    pa_pose: Float[Tensor, "4 4"]
    xrays: tuple[Xray, ...]

    def label_mask(self, names: Iterable[str], key: str = "label") -> Bool[Tensor, "D H W"]:
        """Voxels of any of the named labels; see `label_mask`."""
        return label_mask(self.labels, self.label_names, names, key)


def label_mask(
    labels: UInt8[Tensor, "D H W"], label_names: dict[int, str], names: Iterable[str], key: str = "label"
) -> Bool[Tensor, "D H W"]:
    """Voxels of any of the named labels, compared by `label_names.normalized`; `key` says who asked for them.

    Raises:
        InputError: there is no label of that name.
    """
    return torch.isin(labels, torch.tensor(label_ids(label_names, tuple(names), key), dtype=labels.dtype))


def write_specimen(path: str | Path, specimen: Specimen) -> None:
    """Write a specimen file, whole or not at all."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["name"] = specimen.name
        volume = file.create_group("volume")
        volume.create_dataset("mu_per_mm", data=specimen.volume.values.numpy(), **COMPRESSION)
        volume["volume_from_voxel"] = specimen.volume.volume_from_voxel.numpy()
        volume.create_dataset("labels", data=specimen.labels.numpy(), **COMPRESSION)
        for label, name in specimen.label_names.items():
            volume[f"label_names/{label}"] = name
        landmarks = file.create_group("landmarks", track_order=True)
        for name, position in zip(specimen.landmark_names, specimen.landmarks_mm.numpy(), strict=True):
            landmarks[name] = position
        file["isocenter_mm"] = specimen.isocenter_mm.numpy()
        file["pa_pose"] = specimen.pa_pose.numpy()
        for xray in specimen.xrays:
            group = file.create_group(f"xrays/{xray.name}")
            group.create_dataset("image", data=xray.image.numpy(), **COMPRESSION)
            if xray.mask is not None:
                group.create_dataset("mask", data=xray.mask.numpy(), **COMPRESSION)
            group["pose"] = xray.pose.numpy()
            group["intrinsics_px"] = xray.camera.intrinsics_px.numpy()
            group["pixel_spacing_mm"] = xray.camera.pixel_spacing_mm


def read_specimen(path: str | Path) -> Specimen:
    """Read what `write_specimen` wrote."""
    with h5py.File(path, "r") as file:
        volume = file["volume"]
        landmarks = file["landmarks"]
        names = tuple(landmarks)
        positions = np.stack([landmarks[name][()] for name in names]) if names else np.zeros((0, 3))
        return Specimen(
            name=file.attrs["name"],
            volume=Volume(torch.from_numpy(volume["mu_per_mm"][()]), torch.from_numpy(volume["volume_from_voxel"][()])),
            labels=torch.from_numpy(volume["labels"][()]),
            label_names={int(k): v.asstr()[()] for k, v in volume.get("label_names", {}).items()},
            landmark_names=names,
            landmarks_mm=torch.from_numpy(positions),
            isocenter_mm=torch.from_numpy(file["isocenter_mm"][()]),
            pa_pose=torch.from_numpy(file["pa_pose"][()]),
            xrays=tuple(_read_xray(name, group) for name, group in sorted(file["xrays"].items())),
        )


def _read_xray(name: str, group: h5py.Group) -> Xray:
    image = torch.from_numpy(group["image"][()])
    spacing = tuple(float(x) for x in group["pixel_spacing_mm"][()])
    return Xray(
        name=name,
        image=image,
        mask=torch.from_numpy(group["mask"][()]) if "mask" in group else None,
        camera=Camera(torch.from_numpy(group["intrinsics_px"][()]), *image.shape, spacing),
        pose=torch.from_numpy(group["pose"][()]),
    )
