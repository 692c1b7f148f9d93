"""Measures errors, verdicts and the benefit of two views on deformed copies of the demo's CT. Run by `make own-study`.

The thresholds of the verdict (`roireg.register.verdict`) and the factor on standard deviations
(`roireg.register.uncertainty.INFLATION`) were chosen on the first three specimens of config/study.yaml (seed 0). Here
the same CT is deformed with another seed. The first specimen, demo-01, is the undeformed CT for every seed and was used
for tuning, so it is left out. The copies are not other patients: they are one person's CT with other shapes, sizes and
bone densities, every second one mirrored.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from roireg.data.patient import Patient, find_bone_points_mm
from roireg.data.preprocess import RAW_INTENSITY, cut_out, preprocess
from roireg.data.volume import Volume, attenuation_from_hu
from roireg.data.xray import Xray
from roireg.demo.anatomy import LABEL_NAMES, load_anatomy
from roireg.demo.dataset import PHOTONS, expose, pelvis_center_mm, specimen_bodies
from roireg.demo.exposures import Exposure, ExposureSettings, carm, draw_exposure, draw_instruments
from roireg.demo.source import download
from roireg.demo.specimens import SimulatedPatient, make_specimens
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose, perturb
from roireg.geometry.se3 import invert, transform_points
from roireg.metrics.pose_errors import registration_errors
from roireg.register.method import search_method
from roireg.register.registration import Registration, register_xrays
from roireg.register.settings import PaSettings
from roireg.seeds import generator

SEED, COPIES, XRAYS = 1, 6, 8
# The CT ends inside the X-rays, like the CT that the demo is made from.
CT_BELOW_LANDMARKS_MM = 4.0
CROP_PX, SIZE_PX = 25, 128
# Resolution of the angles on a C-arm's display.
ANGLE_STEP_DEG = 1.0
SECOND_DEG = (60.0, 90.0)
METHOD = search_method(exclude=("left femur", "right femur"))
# The same method without its search, from a given start.
NO_SEARCH = replace(METHOD, start=PaSettings())
FAR_DEG, FAR_MM, FAR_STARTS = 8.0, 25.0, 4
TRUE_MM = 2.0
# Names of runs in which the CT does not belong to the X-ray.
OTHER_CT, MIRRORED_CT = "another copy's CT", "a mirrored copy's CT"


@dataclass(frozen=True, eq=False)
class Case:
    """A copy of the CT and two X-rays of it, with their true poses."""

    name: str
    patient: Patient
    landmarks_mm: torch.Tensor
    xrays: tuple[Xray, Xray]


def as_patient(specimen: SimulatedPatient) -> Patient:
    """The specimen's scan as a patient, as `read_patient` would return it."""
    frame = torch.from_numpy(specimen.ct.volume_from_voxel)
    hu = torch.from_numpy(specimen.ct.hu).float()
    volume = Volume(attenuation_from_hu(hu), frame)
    labels = torch.from_numpy(specimen.ct.labels.astype(np.uint8))
    return Patient("demo", volume, labels, LABEL_NAMES, volume.center_mm, find_bone_points_mm(Volume(hu, frame)))


def angles_deg(pose: torch.Tensor) -> tuple[float, float]:
    """The C-arm's angles at a pose, rounded as on its display."""
    left, posterior, superior = pose[:3, 2].tolist()
    exact = np.rad2deg([np.arctan2(left, -posterior), np.arcsin(superior)])
    return tuple(float(x) for x in np.round(exact / ANGLE_STEP_DEG) * ANGLE_STEP_DEG)


def turned(view: Exposure, degrees: float, center_mm: np.ndarray) -> Exposure:
    """The exposure after a rotation of the C-arm about the patient's long axis."""
    twist = torch.tensor([0.0, 0.0, np.deg2rad(degrees), 0.0, 0.0, 0.0], dtype=torch.float64)
    pose = perturb(view.pose, twist, torch.from_numpy(center_mm))
    return Exposure(pose, {key: femur @ invert(view.pose) @ pose for key, femur in view.femur_poses.items()}, False)


def cases(folder: Path) -> Iterator[Case]:
    """X-rays of the deformed copies (without the undeformed CT); a quarter of them show instruments."""
    files = folder / "ct.nii.gz", folder / "labels.nii.gz"
    if not all(file.is_file() for file in files):
        download(*files)
    parameters = carm(768, 768, 0.388, 1020.0)
    camera = parameters.camera()
    for specimen in islice(make_specimens(load_anatomy(*files), 1 + COPIES, SEED, CT_BELOW_LANDMARKS_MM), 1, None):
        bodies, center = specimen_bodies(specimen), pelvis_center_mm(specimen)
        patient = as_patient(specimen)
        landmarks = torch.from_numpy(np.stack(list(specimen.landmarks_mm.values())))
        for index in range(XRAYS):
            rng = generator(SEED, "own study", specimen.name, str(index))
            first = draw_exposure(rng, camera, center, specimen.landmarks_mm, False, ExposureSettings())
            second = turned(first, rng.choice([-1, 1]) * rng.uniform(*SECOND_DEG), center)
            instruments = draw_instruments(rng, center) if index % 3 == 2 else []
            expected = carm_pose(
                torch.zeros(3, dtype=torch.float64),
                SOURCE_TO_ISOCENTER_FRACTION * camera.source_to_detector_mm,
                *angles_deg(first.pose),
            )
            xrays = []
            for exposure in (first, second):
                stored = expose(bodies, exposure, camera, instruments, PHOTONS, rng)
                part = slice(CROP_PX, 768 - CROP_PX)
                image, small = preprocess(
                    "demo", *cut_out(stored, part, part, camera), RAW_INTENSITY, (SIZE_PX, SIZE_PX)
                )
                rig = expected @ invert(first.pose) @ exposure.pose
                xrays.append(Xray(f"{index:03d}", image, small, rig, camera, true_pose=exposure.pose))
            yield Case(f"{specimen.name}/{index:03d}", patient, landmarks, tuple(xrays))


def errors(case: Case, pose: torch.Tensor, xray: Xray) -> dict[str, float]:
    """Errors at the demo's landmarks, and the error in depth at the patient's centre."""
    found = registration_errors(pose, xray.true_pose, xray.camera, case.landmarks_mm, case.patient.center_mm)
    ends = [transform_points(invert(one), case.patient.center_mm[None])[0] for one in (pose, xray.true_pose)]
    return {**found, "depth_mm": abs(float(ends[0][2] - ends[1][2]))}


def row(kind: str, case: Case, result: Registration) -> dict[str, object]:
    """The row of a registration: its errors, verdict and predicted standard deviations."""
    first = result.xrays[0]
    return {
        "kind": kind,
        "case": case.name,
        "verdict": str(result.verdict.grade),
        "ncc": first.evidence.ncc,
        "sd_mm": first.evidence.projection_sd_mm,
        "predicted_depth_mm": first.spread.depth_mm,
        "flip_told": "flipped" in result.verdict.reasons[0],
        "seconds": result.seconds,
        **errors(case, first.pose, first.xray),
    }


def rows_of(case: Case, others: dict[str, Patient]) -> Iterator[dict[str, object]]:
    """All registrations of an X-ray: alone, with a second view, and from far starts.

    Every second X-ray is also registered with the mistakes that users make: flipped, or to the CT of another patient.

    Args:
        case: the X-ray.
        others: CTs that do not belong to the X-ray, by name of the run.
    """
    patient, xray = case.patient, case.xrays[0]
    yield row("one view", case, register_xrays(patient, [xray], METHOD))
    yield row("two views", case, register_xrays(patient, case.xrays, METHOD))
    rng = generator(SEED, "far starts", case.name)
    for _ in range(FAR_STARTS):
        twist = rng.normal(size=6) * np.repeat([np.deg2rad(FAR_DEG), FAR_MM], 3)
        start = perturb(xray.true_pose, torch.from_numpy(twist), patient.center_mm) @ invert(xray.rig_from_camera)
        yield row("one far start, no search", case, register_xrays(patient, [xray], NO_SEARCH, initial=start))
    if int(xray.name) % 2:
        return
    yield row("flipped left to right", case, register_xrays(patient, [xray.mirrored()], METHOD))
    for kind, other in others.items():
        yield row(kind, case, register_xrays(other, [xray], METHOD))


def measured(folder: Path) -> pd.DataFrame:
    """All registrations, a row for each."""
    rows: list[dict[str, object]] = []
    patients: list[Patient] = []
    for case in track(cases(folder), "X-rays", COPIES * XRAYS):
        if not patients or patients[-1] is not case.patient:
            patients.append(case.patient)
        # Every second copy is mirrored: the previous copy is mirrored relative to this one, the one before it is not.
        others = {kind: patients[-back] for kind, back in ((MIRRORED_CT, 2), (OTHER_CT, 3)) if len(patients) >= back}
        rows += rows_of(case, others)
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors by kind of run, and precision and recall of the verdict `trusted`."""
    lines = []
    for kind, own in rows.groupby("kind", sort=False):
        right, trusted = own["mpd_mm"] < TRUE_MM, own["verdict"] == "trusted"
        lines.append(
            {
                "kind": kind,
                "runs": len(own),
                "below 2 mm": f"{right.mean():.0%}",
                "median mpd mm": f"{own['mpd_mm'].median():.2f}",
                "median tre mm": f"{own['tre_mm'].median():.2f}",
                "median depth mm": f"{own['depth_mm'].median():.2f}",
                "trusted": int(trusted.sum()),
                "trusted and wrong": int((trusted & ~right).sum()),
                "right and trusted": f"{trusted[right].mean():.0%}" if right.any() else "–",
                "failed": int((own["verdict"] == "failed").sum()),
                "flip told": int(own["flip_told"].sum()),
                "median s": f"{own['seconds'].median():.1f}",
            }
        )
    return pd.DataFrame(lines)


def calibration(rows: pd.DataFrame) -> str:
    """Ratios of errors to predicted standard deviations, and the improvement by a second view, as text."""
    good = rows[rows["mpd_mm"] < TRUE_MM]
    lines = []
    for kind in ("one view", "two views"):
        own = good[good["kind"] == kind]
        depth, shadow = own["depth_mm"] / own["predicted_depth_mm"], own["mpd_mm"] / own["sd_mm"]
        lines.append(
            f"{kind}: error / predicted sd, median (95th percentile): depth {depth.median():.2f} "
            f"({depth.quantile(0.95):.2f}), projection {shadow.median():.2f} ({shadow.quantile(0.95):.2f})"
        )
    one, two = (good[good["kind"] == kind].set_index("case") for kind in ("one view", "two views"))
    both = one.index.intersection(two.index)
    ratios = {name: two.loc[both, name].median() / one.loc[both, name].median() for name in ("depth_mm", "tre_mm")}
    lines.append(
        f"two views relative to one, medians over {len(both)} X-rays: "
        + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items())
    )
    return "\n".join(lines)


def main() -> None:
    """Write all registrations as CSV, and print the summary."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "results/own-study")
    rows = measured(out)
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "registrations.csv", index=False)
    print(summary(rows).to_string(index=False))
    print(calibration(rows))


if __name__ == "__main__":
    main()
