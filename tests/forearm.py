"""A simulated forearm: two bones that the CT cuts off, and X-rays in which each has moved on its own."""

import numpy as np
import torch

from roireg.data.images import scaled
from roireg.data.patient import Patient, find_bone_points_mm
from roireg.data.volume import Volume, attenuation_from_hu
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.geometry.camera import Camera
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert

DOUBLE = {"dtype": torch.float64}
SPACING_MM = 0.8
SHAPE = (100, 70, 70)
NAMES = {1: "radius", 2: "ulna", 3: "carpals"}


def hu_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """A forearm's end in soft tissue: two shafts that the CT cuts off below, each with a head; small bones above."""
    z, y, x = (np.arange(n) * SPACING_MM for n in SHAPE)
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    hu = np.where(((x - 28) / 27) ** 2 + ((y - 28) / 24) ** 2 < 1, 30.0, -1000.0)
    labels = np.zeros(SHAPE, np.uint8)

    def add(label: int, inside: np.ndarray, core: np.ndarray) -> None:
        hu[inside], labels[inside] = 900.0, label
        hu[core] = 250.0

    def shaft(label: int, cx: float, cy: float, r: float, head: float, top: float) -> None:
        bend = 2.0 * np.sin(z / 20)
        radius = r + head * np.exp(-(((z - top + 9) / 9) ** 2))
        across = np.hypot((x - cx - bend) / 1.25, y - cy)
        flank = np.hypot(x - cx - 5, y - cy - 2) + (z - top).clip(0) * 3
        inside = ((across < radius) & (z < top)) | ((flank < 3) & (z < top + 4) & (z > top - 6))
        add(label, inside, (across < radius - 1.6) & (z < top - 1.6))

    shaft(1, 19.0, 26.0, 5.5, 5.0, 50.0)
    shaft(2, 40.0, 31.0, 4.5, 2.5, 47.0)
    for cx, cy, cz, r in ((16, 24, 62, 6), (27, 30, 61, 5.5), (37, 27, 60, 5.5), (22, 31, 72, 5)):
        distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2)
        add(3, distance < r, distance < r - 1.3)
    return hu, labels


FRAME = torch.diag(torch.tensor([SPACING_MM] * 3 + [1.0], **DOUBLE))


def forearm() -> Patient:
    """The patient whose CT it is."""
    hu, labels = hu_and_labels()
    volume = Volume(attenuation_from_hu(torch.from_numpy(hu).float()), FRAME)
    points = find_bone_points_mm(Volume(torch.from_numpy(hu).float(), FRAME))
    return Patient("forearm", volume, torch.from_numpy(labels), NAMES, volume.center_mm, points)


def camera() -> Camera:
    """Off the image's middle, as after a crop."""
    focal = 1300.0 / 0.6
    k = [[focal, 0.0, 118.0], [0.0, focal, 131.0], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, **DOUBLE), 256, 256, (0.6, 0.6))


MOTIONS = {
    "radius": torch.tensor([0.06, -0.03, 0.05, 1.5, -1.0, 0.8], **DOUBLE),
    "ulna": torch.tensor([-0.05, 0.04, -0.06, -1.0, 1.5, 0.5], **DOUBLE),
}


def two_views(patient: Patient) -> tuple[list[Xray], dict[str, torch.Tensor]]:
    """Two views in which radius and ulna have moved, each on its own, and where each is (`volume_from_rig`, mm)."""
    center = patient.volume.center_mm
    front = torch.eye(4, **DOUBLE)
    front[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], **DOUBLE)
    front[:3, 3] = center - 1080.0 * front[:3, 2]
    side = perturb(front, torch.tensor([0.0, 0.0, 1.1, 0.0, 0.0, 0.0], **DOUBLE), center)
    truths = {name: perturb(front, twist, center) for name, twist in MOTIONS.items()}
    rest = patient.volume.values.clone()
    pieces = {}
    for label, name in NAMES.items():
        if name in MOTIONS:
            mask = patient.labels == label
            pieces[name] = patient.volume.with_values(torch.where(mask, rest - 0.0198, 0).clamp_min(0))
            rest = torch.where(mask, 0.0198, rest)
    generator = torch.Generator().manual_seed(2)
    xrays = []
    for number, pose in enumerate((front, side)):
        rig = invert(front) @ pose
        total = render(patient.volume.with_values(rest), camera(), pose[None])[0]
        for name, volume in pieces.items():
            total = total + render(volume, camera(), (truths[name] @ rig)[None])[0]
        noise = 0.01 * torch.randn(total.shape, generator=generator)
        xrays.append(Xray(f"view {number}", scaled((total + noise)[None])[0], camera(), rig, camera(), true_pose=pose))
    return xrays, truths
