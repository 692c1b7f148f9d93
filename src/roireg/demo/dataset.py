"""The demo data set: specimens and simulated X-rays, written in the DeepFluoro full-resolution HDF5 layout."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from roireg.data.deepfluoro_records import POSES, Ct, Projection, ProjectionParameters
from roireg.data.volume import Volume
from roireg.data.writers.deepfluoro import write_parameters, write_specimen
from roireg.demo.anatomy import (
    FEMURS,
    LABEL_NAMES,
    LEFT_FEMUR,
    LEFT_HEMIPELVIS,
    RIGHT_FEMUR,
    RIGHT_HEMIPELVIS,
    load_anatomy,
    points_mm,
)
from roireg.demo.exposures import Exposure, ExposureSettings, carm, draw_aperture, draw_exposure, draw_instruments
from roireg.demo.specimens import SimulatedPatient, make_specimens
from roireg.drr import project_mask
from roireg.files import atomic_hdf5
from roireg.geometry.camera import Camera, project
from roireg.geometry.conversions import pose_to_deepfluoro
from roireg.seeds import generator
from roireg.simulation.xray_formation import (
    MM_PER_CM,
    STEEL_G_PER_CM3,
    Body,
    Cylinder,
    Detector,
    areal_densities,
    cylinder_chord,
    detect,
    split_bodies,
    transmission,
)

UPSIDE_DOWN_FRACTION = 1 / 3
INSTRUMENT_FRACTION = 1 / 3

PHOTONS = 1e5
SCATTER_TO_PRIMARY = 0.3
SCATTER_SIGMA_MM = 40.0
BLUR_SIGMA_MM = 0.2

NEAR_PA = ExposureSettings()

PAINT_ORDER = (3, 4, 1, 2, 5, 6)
MASK_STEP_MM = 1.0


def specimen_bodies(specimen: SimulatedPatient) -> list[Body]:
    """The true patient as rigid bodies: everything except the femurs, then each femur with its metal."""
    truth = specimen.truth
    pieces = []
    for femur in FEMURS:
        bone = (truth.labels == femur) & ((truth.metal == 0) | (truth.metal == femur))
        pieces.append(bone | (truth.metal == femur))
    return split_bodies(truth.hu, truth.metal > 0, pieces, truth.volume_from_voxel)


def expose(
    bodies: list[Body],
    view: Exposure,
    camera: Camera,
    instruments: list[Cylinder],
    photons: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The simulated X-ray of an exposure: `(H, W)` uint16."""
    poses = [view.pose, *(view.femur_poses[femur] for femur in FEMURS)]
    areal = areal_densities(bodies, [pose.numpy() for pose in poses], camera)
    for instrument in instruments:
        areal[..., 2] += cylinder_chord(instrument, camera, view.pose.numpy()) * (STEEL_G_PER_CM3 / MM_PER_CM)
    spacing = camera.pixel_spacing_mm[0]
    detector = Detector(photons, SCATTER_TO_PRIMARY, SCATTER_SIGMA_MM / spacing, BLUR_SIGMA_MM / spacing)
    return detect(transmission(areal), detector, draw_aperture(rng, camera), rng)


def label_volumes(specimen: SimulatedPatient) -> dict[int, Volume]:
    """The labels of the scan as masks, by label id."""
    frame = torch.from_numpy(specimen.ct.volume_from_voxel)
    return {
        label: Volume(torch.from_numpy((specimen.ct.labels == label).astype(np.float32)), frame)
        for label in LABEL_NAMES
    }


def pelvis_center_mm(specimen: SimulatedPatient) -> Float[np.ndarray, "3"]:
    """The point on which the C-arm is centred: centre of the box of both hemipelves, down to the lowest landmark.

    It is computed from the true patient and not from the scan, so that X-rays do not depend on where the scan ends.
    """
    truth = specimen.truth
    lowest_mm = min(position[2] for position in specimen.landmarks_mm.values())
    voxels = np.argwhere(np.isin(truth.labels, (LEFT_HEMIPELVIS, RIGHT_HEMIPELVIS)))
    points = points_mm(voxels, truth.volume_from_voxel)
    points = points[points[:, 2] >= lowest_mm]
    return (points.min(axis=0) + points.max(axis=0)) / 2


def segmentation(masks: dict[int, Volume], view: Exposure, camera: Camera) -> np.ndarray:
    """Mask of an X-ray, `(H, W)` uint8 label ids: silhouettes of the scan's labels, femurs under their own poses.

    A pixel has one id although bones overlap in an X-ray. Silhouettes are painted in `PAINT_ORDER`, so that hemipelves
    cover spine and sacrum, and femurs cover hemipelves.
    """
    out = np.zeros((camera.height, camera.width), np.uint8)
    for label in PAINT_ORDER:
        pose = view.femur_poses.get(label, view.pose)
        out[project_mask(masks[label], camera, pose[None], MASK_STEP_MM)[0].numpy()] = label
    return out


def specimen_ct(specimen: SimulatedPatient) -> Ct:
    """The scan in the form in which `write_specimen` stores it."""
    ct = specimen.ct
    return Ct(
        hu=ct.hu,
        labels=ct.labels,
        spacing_mm=ct.spacing_mm,
        origin_mm=ct.volume_from_voxel[:3, 3],
        direction=np.eye(3),
        label_names=LABEL_NAMES,
        landmarks_mm=specimen.landmarks_mm,
    )


def chosen(rng: np.random.Generator, count: int, fraction: float) -> set[int]:
    """A random subset of `range(count)` with about the given fraction of its elements."""
    return set(rng.permutation(count)[: round(count * fraction)].tolist())


def projections(
    specimen: SimulatedPatient,
    parameters: ProjectionParameters,
    count: int,
    seed: int,
    photons: float,
    views: ExposureSettings,
) -> Iterator[Projection]:
    """Simulate the X-rays of a specimen with their ground truth, one at a time."""
    camera = parameters.camera()
    bodies, masks = specimen_bodies(specimen), label_volumes(specimen)
    extrinsic = torch.from_numpy(parameters.extrinsic)
    names = list(specimen.landmarks_mm)
    points = torch.from_numpy(np.stack(list(specimen.landmarks_mm.values())))
    center = pelvis_center_mm(specimen)
    rng = generator(seed, specimen.name, "choices")
    upside_down, equipped = chosen(rng, count, UPSIDE_DOWN_FRACTION), chosen(rng, count, INSTRUMENT_FRACTION)
    for index in range(count):
        name = f"{index:03d}"
        rng = generator(seed, specimen.name, name)
        view = draw_exposure(rng, camera, center, specimen.landmarks_mm, index in upside_down, views)
        instruments = draw_instruments(rng, center) if index in equipped else []
        positions = project(points, camera, view.pose).numpy()
        stored = (view.pose, view.femur_poses[LEFT_FEMUR], view.femur_poses[RIGHT_FEMUR])
        yield Projection(
            name=name,
            intensity=expose(bodies, view, camera, instruments, photons, rng),
            segmentation=segmentation(masks, view, camera),
            landmarks_px=dict(zip(names, positions, strict=True)),
            poses={key: pose_to_deepfluoro(pose, extrinsic).numpy() for key, pose in zip(POSES, stored, strict=True)},
            rotate_180_for_up=view.upside_down,
        )


def make_dataset(
    ct: str | Path,
    labels: str | Path,
    out: str | Path,
    specimens: int = 3,
    xrays_per_specimen: int = 6,
    seed: int = 0,
    rows: int = 768,
    columns: int = 768,
    pixel_mm: float = 0.388,
    source_to_detector_mm: float = 1020.0,
    photons: float = PHOTONS,
    ct_below_landmarks_mm: float = 4.0,
    views: ExposureSettings = NEAR_PA,
    progress: Callable[[Iterator[Projection], int, str], Iterator[Projection]] | None = None,
) -> None:
    """Write the demo data set, atomically.

    Args:
        ct, labels: NIfTI files written by `roireg.demo.source.download`.
        out: the HDF5 file.
        specimens, xrays_per_specimen: numbers of specimens and of X-rays.
        seed: seed of all random choices.
        rows, columns, pixel_mm, source_to_detector_mm: the detector.
        photons: expected count of an unattenuated pixel.
        ct_below_landmarks_mm: distance from the lowest landmark to the inferior end of the CT. X-rays do not depend on
            it.
        views: distribution of the exposures.
        progress: wraps the iterator of a specimen's X-rays to show progress; it gets their number and a description,
            like `roireg.workflow.job.progress`.

    Raises:
        InputError: an input file cannot be used, the patient ends above the requested end of the CT, or no exposure
            shows enough landmarks.
    """
    source = load_anatomy(ct, labels)
    parameters = carm(rows, columns, pixel_mm, source_to_detector_mm)
    with atomic_hdf5(out) as file:
        write_parameters(file, parameters)
        for specimen in make_specimens(source, specimens, seed, ct_below_landmarks_mm):
            xrays = projections(specimen, parameters, xrays_per_specimen, seed, photons, views)
            if progress is not None:
                xrays = progress(xrays, xrays_per_specimen, f"{specimen.name} X-ray")
            write_specimen(file, specimen.name, specimen_ct(specimen), xrays)
