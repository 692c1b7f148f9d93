"""A small file in the exact layout of DeepFluoro's full-resolution HDF5, as published, with all its peculiarities.

Written without the package's own writer, so that a misreading is not undone by a like miswriting. What is as in the
real file: names and types of everything, vectors as float32 columns, labels' names with hyphens in strings of fixed
length, a seventh label, flags as uint8, `good-fov`, landmarks outside the picture, a CT of 1 mm that covers the view,
femurs under poses of their own, and poses that the dataset's own software (xReg) moves by -0.5 mm along each axis
before it uses them. What is smaller: two specimens of three X-rays, a detector of 192 px and 149 mm, a patient of that
size, made of ellipsoids.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from builders import SOURCE_TO_DETECTOR_MM, TURNED_EXTRINSIC, deepfluoro_pixels
from scipy import ndimage

from roireg.data.volume import Volume, attenuation_from_hu
from roireg.drr import project_mask, render
from roireg.geometry.camera import Camera
from roireg.geometry.conversions import camera_from_deepfluoro, pose_to_deepfluoro
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import se3_exp, translation
from roireg.seeds import generator

SPECIMENS = ("17-1882", "18-1109")
XRAYS = 3
UPSIDE_DOWN = (False, True, False)
GOOD_FOV = (True, True, False)
SIDE_PX = 192
PIXEL_MM = 0.776
I0 = 65487.0
PHOTONS = 2e5
SHAPE = (150, 90, 130)
TRUNK_RADII_MM = (56.0, 39.0)
# xReg moves stored poses by this before use.
XREG_MM = -0.5
LABELS = {
    1: "left-hemipelvis",
    2: "right-hemipelvis",
    3: "vertebrae",
    4: "upper-sacrum",
    5: "left-femur",
    6: "right-femur",
    7: "lower-sacrum",
}
FEMURS = {5: "cam-to-left-femur-vol", 6: "cam-to-right-femur-vol"}
# Centre from the middle of the grid, and radii, in mm; x to the left, y to the back, z up. Femurs go on below the CT.
BONES_MM = {
    1: (((26, 2, 12), (15, 7, 22)), ((20, -8, -14), (9, 12, 12))),
    2: (((-27, 4, 11), (14, 8, 23)), ((-21, -7, -15), (10, 11, 13))),
    3: (((2, 20, 58), (9, 9, 26)),),
    4: (((0, 22, 24), (11, 7, 9)),),
    5: (((34, -4, -22), (7, 7, 7)), ((40, -3, -60), (5, 5, 42))),
    6: (((-35, -2, -23), (7, 7, 7)), ((-41, -2, -62), (5, 6, 43))),
    7: (((-1, 25, 6), (8, 5, 9)),),
}
LANDMARKS_MM = {
    "ASIS": (30, -4, 32),
    "FH": (34, -4, -22),
    "GSN": (22, 10, -2),
    "IOF": (18, -12, -26),
    "MOF": (13, -12, -18),
    "SPS": (4, -16, -12),
    # Outside the picture.
    "IPS": (12, -10, -70),
}


@dataclass(frozen=True)
class Body:
    """A patient: Hounsfield units and label ids, `(z, y, x)` at 1 mm, and where the first voxel is, LPS, mm."""

    hu: np.ndarray
    labels: np.ndarray
    origin_mm: np.ndarray
    landmarks_mm: dict[str, np.ndarray]

    def frame(self) -> torch.Tensor:
        """`volume_from_voxel`, `(4, 4)`."""
        return translation(torch.from_numpy(self.origin_mm))

    @property
    def middle_mm(self) -> torch.Tensor:
        """The middle of the grid."""
        return torch.from_numpy(self.origin_mm + (np.array(SHAPE[::-1]) - 1) / 2)


def body(specimen: str) -> Body:
    """The patient of that name: a trunk of soft tissue that goes on beyond the CT, and bones with some texture."""
    rng = generator(0, "deepfluoro file", specimen)
    z, y, x = (axis - (size - 1) / 2 for axis, size in zip(np.indices(SHAPE), SHAPE, strict=True))
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.0)
    texture /= texture.std()
    trunk = (x / TRUNK_RADII_MM[0]) ** 2 + (y / TRUNK_RADII_MM[1]) ** 2 < 1
    hu = np.where(trunk, 30 + 15 * texture, -1000.0)
    labels = np.zeros(SHAPE, np.uint8)
    moved = rng.uniform(-2, 2, (len(LABELS) + 1, 3))
    for label, parts in BONES_MM.items():
        for center, radii in parts:
            dx, dy, dz = (
                (axis - middle) / radius
                for axis, middle, radius in zip((x, y, z), np.array(center) + moved[label], radii, strict=True)
            )
            labels[dx**2 + dy**2 + dz**2 < 1] = label
    hu = np.where(labels > 0, (500 + 200 * texture).clip(100), hu)
    origin = np.array([-70.0, -180.0, -420.0]) + rng.uniform(-20, 20, 3)
    middle = origin + (np.array(SHAPE[::-1]) - 1) / 2
    landmarks = {}
    for name, offset in LANDMARKS_MM.items():
        landmarks[f"{name}-l"] = middle + np.array(offset) + moved[0]
        landmarks[f"{name}-r"] = middle + np.array(offset) * [-1, 1, 1] + moved[0]
    return Body(hu.astype(np.float32), labels, origin, landmarks)


def intrinsic() -> np.ndarray:
    """In px, with the file's negative focal entries."""
    focal = SOURCE_TO_DETECTOR_MM / PIXEL_MM
    return np.array([[-focal, 0.0, (SIDE_PX - 1) / 2 + 1.5], [0.0, -focal, (SIDE_PX - 1) / 2 - 2.0], [0.0, 0.0, 1.0]])


def camera() -> Camera:
    """The detector in our convention."""
    return camera_from_deepfluoro(torch.from_numpy(intrinsic()), SIDE_PX, SIDE_PX, (PIXEL_MM, PIXEL_MM))


def true_pose(patient: Body, specimen: str, index: int) -> torch.Tensor:
    """`volume_from_camera` at which the X-ray was really taken."""
    rng = generator(0, "deepfluoro file", specimen, str(index))
    twist = torch.from_numpy(rng.uniform(-1, 1, 6) * [0.1, 0.35, 0.15, 4.0, 4.0, 15.0])
    start = pa_pose(patient.middle_mm, 0.72 * SOURCE_TO_DETECTOR_MM)
    pose = perturb(start, twist, patient.middle_mm)
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    return pose @ half_turn if UPSIDE_DOWN[index] else pose


def femur_pose(patient: Body, pose: torch.Tensor, label: int, specimen: str, index: int) -> torch.Tensor:
    """`volume_from_camera` of a femur, which turned about its head since the CT."""
    rng = generator(0, "deepfluoro file", specimen, str(index), str(label))
    head = torch.from_numpy(patient.landmarks_mm["FH-l" if label == 5 else "FH-r"])
    turn = se3_exp(torch.from_numpy(np.r_[rng.uniform(-1, 1, 3) * [0.1, 0.05, 0.05], 0, 0, 0]))
    return translation(head) @ turn @ translation(-head) @ pose


def stored(pose: torch.Tensor) -> np.ndarray:
    """The matrix that the file has for a true pose: xReg's -0.5 mm makes the true one of it."""
    away = translation(torch.full((3,), -XREG_MM, dtype=torch.float64))
    return pose_to_deepfluoro(away @ pose, torch.from_numpy(TURNED_EXTRINSIC)).numpy().astype(np.float32)


def expose(patient: Body, poses: dict[int, torch.Tensor], seed: np.random.Generator) -> np.ndarray:
    """Raw intensities, `(rows, columns)`; `poses` by label, 0 for all but the femurs."""
    mu = attenuation_from_hu(torch.from_numpy(patient.hu))
    soft = attenuation_from_hu(torch.full((1, 1, 1), 30.0))
    integrals = torch.zeros(SIDE_PX, SIDE_PX, dtype=torch.float64)
    for label in FEMURS:
        bone = torch.from_numpy(patient.labels == label)
        surplus = Volume(torch.where(bone, mu - soft, 0.0), patient.frame())
        mu = torch.where(bone, soft, mu)
        integrals += render(surplus, camera(), poses[label][None])[0]
    integrals += render(Volume(mu, patient.frame()), camera(), poses[0][None])[0]
    counts = seed.poisson(PHOTONS * np.exp(-integrals.numpy()))
    return (counts * (I0 / PHOTONS)).round().clip(1, 65535)


def segmentation(patient: Body, poses: dict[int, torch.Tensor]) -> np.ndarray:
    """Label ids of the X-ray, femurs under their own poses, `(rows, columns)`."""
    out = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    for label in (3, 4, 7, 1, 2, 5, 6):
        mask = Volume(torch.from_numpy((patient.labels == label).astype(np.float32)), patient.frame())
        pose = poses.get(label, poses[0])
        out[project_mask(mask, camera(), pose[None], 0.5)[0].numpy()] = label
    return out


def write_deepfluoro_file(path: str | Path) -> Path:
    """Write the file."""
    single, column = np.float32, lambda values: np.asarray(values, np.float32)[:, None]
    with h5py.File(path, "w") as file:
        parameters = file.create_group("proj-params")
        parameters["extrinsic"], parameters["intrinsic"] = TURNED_EXTRINSIC.astype(single), intrinsic().astype(single)
        parameters["num-cols"], parameters["num-rows"] = np.uint64(SIDE_PX), np.uint64(SIDE_PX)
        parameters["pixel-col-spacing"], parameters["pixel-row-spacing"] = single(PIXEL_MM), single(PIXEL_MM)
        for specimen, intensity_type in zip(SPECIMENS, (np.uint16, np.float32), strict=True):
            patient = body(specimen)
            for key, pixels in (("vol", patient.hu), ("vol-seg/image", patient.labels)):
                group = file.create_group(f"{specimen}/{key}")
                group.create_dataset("pixels", data=pixels, compression="gzip", compression_opts=1, shuffle=True)
                group["spacing"], group["origin"] = column([1.0, 1.0, 1.0]), column(patient.origin_mm)
                group["dir-mat"] = np.eye(3, dtype=single)
            for label, name in LABELS.items():
                file[f"{specimen}/vol-seg/labels-def/{label}"] = np.bytes_(name)
            for name, position in patient.landmarks_mm.items():
                file[f"{specimen}/vol-landmarks/{name}"] = column(position)
            for index in range(XRAYS):
                group = file.create_group(f"{specimen}/projections/{index:03d}")
                _write_projection(group, patient, specimen, index, intensity_type)
    return Path(path)


def _write_projection(group: h5py.Group, patient: Body, specimen: str, index: int, intensity_type: type) -> None:
    pose = true_pose(patient, specimen, index)
    poses = {0: pose} | {label: femur_pose(patient, pose, label, specimen, index) for label in FEMURS}
    group["image/pixels"] = expose(patient, poses, generator(0, "noise", specimen, str(index))).astype(intensity_type)
    group["gt-seg/pixels"] = segmentation(patient, poses)
    group["gt-poses/cam-to-pelvis-vol"] = stored(pose)
    for label, key in FEMURS.items():
        group[f"gt-poses/{key}"] = stored(poses[label])
    positions = np.stack([*patient.landmarks_mm.values()])
    parameters = _Parameters(intrinsic(), TURNED_EXTRINSIC)
    pixels = deepfluoro_pixels(positions, stored(pose).astype(np.float64), parameters)
    for name, pixel in zip(patient.landmarks_mm, pixels, strict=True):
        group[f"gt-landmarks/{name}"] = pixel.astype(np.float32)[:, None]
    group["rot-180-for-up"] = np.uint8(UPSIDE_DOWN[index])
    group["good-fov"] = np.uint8(GOOD_FOV[index])


@dataclass(frozen=True)
class _Parameters:
    intrinsic: np.ndarray
    extrinsic: np.ndarray
