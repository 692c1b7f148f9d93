"""Small data sets for tests, in the DeepFluoro layout and unlike the demo's in everything that may vary."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from roireg.data.deepfluoro import PARAMETERS
from roireg.data.deepfluoro_records import POSES, Ct, Projection, ProjectionParameters
from roireg.data.patient import Patient
from roireg.data.prepare import PrepareSettings, prepare_specimen
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.volume import Volume, attenuation_from_hu
from roireg.data.writers.deepfluoro import write_parameters, write_specimen
from roireg.data.xray import Xray
from roireg.drr import project_mask, render
from roireg.geometry.conversions import pose_to_deepfluoro
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, pa_pose, perturb
from roireg.geometry.se3 import se3_exp
from roireg.seeds import generator

SOURCE_TO_DETECTOR_MM = 1020.0
I0 = 60000.0
MU_WATER_PER_MM = 0.0192
MU_BONE_PER_MM = 0.0384
BONE_HU = 900.0
LABEL_NAMES = {3: "tibia", 7: "talus", 12: "loose plate"}
TURNED_EXTRINSIC = se3_exp(torch.tensor([0.1, 0.4, -0.2, 30.0, -90.0, 400.0], dtype=torch.float64)).numpy()
OBLIQUE_DIRECTION = se3_exp(torch.tensor([0.05, -0.1, 0.2, 0.0, 0.0, 0.0], dtype=torch.float64)).numpy()[:3, :3]

SHAPE = (44, 36, 40)
SPACING_MM = (6.0, 5.5, 6.0)
BODY_RADII_MM = (100.0, 80.0, 115.0)
# Centre from the middle of the body, and radii; without symmetry, so that a mirrored or turned image is another one.
BONES_MM = (
    ((45.0, -10.0, 30.0), (25.0, 20.0, 45.0)),
    ((-50.0, 15.0, -20.0), (20.0, 30.0, 40.0)),
    ((0.0, 35.0, 60.0), (15.0, 15.0, 30.0)),
    ((20.0, -20.0, -70.0), (30.0, 15.0, 12.0)),
)


def carm(
    rows: int = 220,
    columns: int = 200,
    row_spacing_mm: float = 1.5,
    column_spacing_mm: float = 1.55,
    principal_px: tuple[float, float] | None = None,
    extrinsic: np.ndarray = TURNED_EXTRINSIC,
) -> ProjectionParameters:
    """A C-arm of 1020 mm; `principal_px` is (column, row), by default a few pixels off the middle."""
    column, row = ((columns - 1) / 2 + 4.2, (rows - 1) / 2 - 6.7) if principal_px is None else principal_px
    fx, fy = SOURCE_TO_DETECTOR_MM / column_spacing_mm, SOURCE_TO_DETECTOR_MM / row_spacing_mm
    intrinsic = np.array([[-fx, 0.0, column], [0.0, -fy, row], [0.0, 0.0, 1.0]])
    return ProjectionParameters(extrinsic, intrinsic, rows, columns, row_spacing_mm, column_spacing_mm)


def prepare_settings(**changes) -> PrepareSettings:
    """Settings that fit `carm`; the attenuation of the X-rays made here."""
    settings = {
        "image_size_px": 96,
        "crop_px": 10,
        "ct_shift_voxels": 0.0,
        "isocenter": (),
        "source_to_isocenter": SOURCE_TO_ISOCENTER_FRACTION,
        "mu_water_per_mm": MU_WATER_PER_MM,
        "mu_bone_per_mm": MU_BONE_PER_MM,
    }
    return PrepareSettings(**settings | changes)


def phantom_ct(
    name: str = "P01", label_names: dict[int, str] = LABEL_NAMES, direction: np.ndarray = OBLIQUE_DIRECTION
) -> Ct:
    """An ellipsoid of water with one denser ellipsoid per label (four at most); `name` moves the bones a little."""
    if len(label_names) > len(BONES_MM):
        raise ValueError(f"at most {len(BONES_MM)} labels")
    rng = generator(0, "phantom", name)
    spacing, size = np.array(SPACING_MM), np.array(SHAPE[::-1])
    origin = np.array([-130.0, 40.0, -700.0]) + rng.uniform(-20, 20, 3)
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    from_middle = (np.stack([x, y, z], axis=-1) - (size - 1) / 2) * spacing
    hu = np.where(((from_middle / BODY_RADII_MM) ** 2).sum(-1) < 1, 0.0, -1000.0)
    labels = np.zeros(SHAPE, np.uint8)
    landmarks = {}
    for label, (center, radii) in zip(label_names, BONES_MM, strict=False):
        center = np.array(center) + rng.uniform(-6, 6, 3)
        inside = (((from_middle - center) / radii) ** 2).sum(-1) < 1
        hu[inside], labels[inside] = BONE_HU, label
        for end, offset in (("c", (0, 0, 0)), ("x", (1, 0, 0)), ("y", (0, 1, 0)), ("z", (0, 0, -1))):
            point = center + np.array(offset) * radii
            landmarks[f"L{label}-{end}"] = origin + direction @ (point + (size - 1) / 2 * spacing)
    return Ct(hu.astype(np.float32), labels, spacing, origin, direction, dict(label_names), landmarks)


def attenuation(ct: Ct) -> Volume:
    """What the X-rays are made of."""
    mu = attenuation_from_hu(torch.from_numpy(ct.hu), MU_WATER_PER_MM, MU_BONE_PER_MM)
    return Volume(mu, torch.from_numpy(ct.volume_from_voxel()))


def middle_mm(ct: Ct) -> torch.Tensor:
    """The middle of the grid."""
    return torch.from_numpy(ct.volume_from_voxel() @ [*((np.array(SHAPE[::-1]) - 1) / 2), 1.0])[:3]


def view_pose(ct: Ct, name: str) -> torch.Tensor:
    """`volume_from_camera` of a view near the posterior-anterior one; the same for the same name."""
    center = middle_mm(ct)
    twist = generator(0, "view", name).uniform(-1, 1, 6) * [0.25, 0.25, 0.25, 12.0, 12.0, 12.0]
    start = pa_pose(center, SOURCE_TO_ISOCENTER_FRACTION * SOURCE_TO_DETECTOR_MM)
    return perturb(start, torch.from_numpy(twist), center)


def deepfluoro_pixels(points_mm: np.ndarray, stored: np.ndarray, parameters: ProjectionParameters) -> np.ndarray:
    """`(column, row)` of points as the DeepFluoro file defines it: none of our conventions is used."""
    in_world = np.linalg.inv(stored) @ np.c_[points_mm, np.ones(len(points_mm))].T
    homogeneous = parameters.intrinsic @ (parameters.extrinsic @ in_world)[:3]
    return (homogeneous[:2] / homogeneous[2]).T


def expose(
    ct: Ct,
    parameters: ProjectionParameters,
    name: str,
    upside_down: bool = False,
    dtype: type = np.uint16,
    optional: bool = True,
) -> Projection:
    """The X-ray of the view `name`.

    Args:
        upside_down: the C-arm is turned by half a turn about its axis, and the projection flagged `rot-180-for-up`.
        dtype: of the stored intensity.
        optional: with segmentation, landmarks and poses of femurs.
    """
    camera, volume = parameters.camera(), attenuation(ct)
    pose = view_pose(ct, name)
    if upside_down:
        pose = pose @ torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    intensity = I0 * np.exp(-render(volume, camera, pose[None])[0].double().numpy())
    intensity = np.round(intensity).astype(dtype) if np.issubdtype(dtype, np.integer) else intensity.astype(dtype)
    stored = pose_to_deepfluoro(pose, torch.from_numpy(parameters.extrinsic)).numpy()
    poses, landmarks, segmentation = {POSES[0]: stored}, {}, None
    if optional:
        poses |= {key: _turned(stored, ct, angle) for key, angle in zip(POSES[1:], (0.1, -0.2), strict=True)}
        pixels = deepfluoro_pixels(np.stack([*ct.landmarks_mm.values()]), stored, parameters)
        landmarks = dict(zip(ct.landmarks_mm, pixels, strict=True))
        segmentation = np.zeros(intensity.shape, np.uint8)
        for label in ct.label_names:
            mask = volume.with_values(torch.from_numpy((ct.labels == label).astype(np.float32)))
            segmentation[project_mask(mask, camera, pose[None])[0].numpy()] = label
    return Projection(name, intensity, segmentation, landmarks, poses, upside_down)


def _turned(stored: np.ndarray, ct: Ct, angle_rad: float) -> np.ndarray:
    twist = torch.tensor([angle_rad, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return perturb(torch.from_numpy(stored), twist, middle_mm(ct)).numpy()


def write_small_dataset(
    path: str | Path,
    specimens: Sequence[str] = ("P01",),
    upside_down: Sequence[bool] = (False, True),
    parameters: ProjectionParameters | None = None,
    label_names: dict[int, str] = LABEL_NAMES,
    direction: np.ndarray = OBLIQUE_DIRECTION,
    dtype: type = np.uint16,
    optional: bool = True,
    column_vectors: bool = False,
) -> Path:
    """Write a data set whose X-rays are monochromatic and without noise.

    Args:
        specimens: names of the specimens.
        upside_down: one entry per X-ray of each specimen, `000` onwards: is it flagged `rot-180-for-up`?
        parameters: the C-arm; `carm()` if not given.
        label_names: name by label id, four at most.
        direction: `dir-mat` of the CT.
        dtype: of the stored intensities.
        optional: with what a user's file may lack: `gt-seg`, `gt-landmarks`, femur poses, `rot-180-for-up`.
        column_vectors: store origins, spacings and landmarks as `(3, 1)` and `(2, 1)`.
    """
    parameters = carm() if parameters is None else parameters
    with h5py.File(path, "w") as file:
        write_parameters(file, parameters)
        for specimen in specimens:
            ct = phantom_ct(specimen, label_names, direction)
            exposures = (
                expose(ct, parameters, f"{index:03d}", turned, dtype, optional)
                for index, turned in enumerate(upside_down)
            )
            write_specimen(file, specimen, ct, exposures)
        if not optional:
            _remove_flags(file)
        if column_vectors:
            _as_columns(file)
    return Path(path)


def small_specimen(
    folder: Path, name: str = "P01", upside_down: Sequence[bool] = (False,), image_size_px: int = 96, **dataset
) -> tuple[Patient, tuple[Xray, ...]]:
    """The patient and the X-rays of one specimen of `write_small_dataset`, prepared.

    Args:
        folder: for the data set's file.
        name, upside_down, dataset: of `write_small_dataset`.
        image_size_px: of the prepared X-rays.
    """
    path = write_small_dataset(folder / f"{name}.h5", (name,), upside_down, **dataset)
    with open_dataset(path) as file:
        return prepare_specimen(file, name, prepare_settings(image_size_px=image_size_px))


def _remove_flags(file: h5py.File) -> None:
    for specimen in set(file) - {PARAMETERS}:
        for projection in file[specimen]["projections"].values():
            del projection["rot-180-for-up"]


def _as_columns(file: h5py.File) -> None:
    vectors = []
    file.visititems(
        lambda key, item: vectors.append(key) if isinstance(item, h5py.Dataset) and item.shape in {(2,), (3,)} else None
    )
    for key in vectors:
        value = file[key][()]
        del file[key]
        file[key] = value[:, None]
