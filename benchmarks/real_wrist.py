"""Radius and ulna in real biplane X-rays of a wrist, against a reference by registration. `make real-wrist` runs it.

The data are Brown University's and no part of this project: a local copy is named on the command line
(docs/real-data.md). The reference is by another program's registration of both views, no gold standard: its own three
starts agree to 0.1-0.4 mm (radius) and 0.2-0.7 mm (ulna). Settings are those of `BoneSettings`, the same for both
bones; they were chosen on simulated scenes (benchmarks/bone_scenes.py), and nothing here is tuned on these X-rays.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from roireg.data.patient import Patient
from roireg.data.readers.ct import read_patient
from roireg.data.readers.xray import read_xray
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.figures.bone_overlay import write_bone_overlay
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert, transform_points, translation
from roireg.register.bone_judgement import BoneResult
from roireg.register.bone_registration import BoneSettings
from roireg.register.bones import register_bones
from roireg.seeds import generator

FRAME, BONES, CAMERAS = 99, ("rad", "uln"), (1, 2)
DRAWS, DRAW_DEG, DRAW_MM = 20, 3.0, 3.0
READ_PX = 1024
RIGHT_MM, WRONG_MM, SURE_SDS = 0.5, 2.0, 3.0
# The calibration knows nothing of how the bone is turned, and its volume's axes are not the patient's.
GUESS = replace(BoneSettings(), starts=1500, keep=16, rotation_sd_deg=60.0, translation_sd_mm=20.0)


@dataclass(frozen=True, eq=False)
class Wrist:
    """One instant: X-rays of both cameras; by bone its CT and its reference pose `volume_from_rig` (mm)."""

    xrays: tuple[Xray, ...]
    patients: dict[str, Patient]
    references: dict[str, torch.Tensor]


def needed_files(folder: Path) -> list[Path]:
    """What the benchmark reads."""
    views = [folder / f"xrays/frame{FRAME:03d}_cam{camera}.tif" for camera in CAMERAS]
    cameras = [folder / f"cameras/cam{camera}.yaml" for camera in CAMERAS]
    volumes = [folder / f"volumes/{bone}.nii.gz" for bone in BONES]
    return [*views, *cameras, *volumes, *(reference_file(folder, bone, 1) for bone in BONES)]


def reference_file(folder: Path, bone: str, camera: int) -> Path:
    """The reference pose of a bone in a camera."""
    return folder / f"reference/{bone}_frame{FRAME:03d}_cam{camera}.json"


def read_views(folder: Path, size_px: int = READ_PX) -> tuple[Xray, ...]:
    """The X-rays of both cameras, in the rig of their calibration."""
    return tuple(
        read_xray(folder / f"xrays/frame{FRAME:03d}_cam{n}.tif", folder / f"cameras/cam{n}.yaml", size_px=size_px)
        for n in CAMERAS
    )


def read_reference(folder: Path, bone: str) -> torch.Tensor:
    """`volume_from_rig` (mm) of a bone."""
    stored = json.loads(reference_file(folder, bone, 1).read_text())
    return invert(torch.tensor(stored["world_from_volume"], dtype=torch.float64))


def read_wrist(folder: Path) -> Wrist:
    """Everything.

    Raises:
        InputError: a file is not there.
    """
    absent = [path for path in needed_files(folder) if not path.is_file()]
    if absent:
        names = ", ".join(str(path.relative_to(folder)) for path in absent)
        raise InputError(folder, f"it lacks {names}", "Copy them as docs/real-data.md says")
    patients = {bone: read_patient(folder / f"volumes/{bone}.nii.gz", voxel_mm=0.0) for bone in BONES}
    return Wrist(read_views(folder), patients, {bone: read_reference(folder, bone) for bone in BONES})


def middle_of_rays_mm(xrays: Sequence[Xray]) -> torch.Tensor:
    """The point of the rig that is nearest to all rays through the middles of the X-rays."""
    total, right = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for xray in xrays:
        camera = xray.camera
        middle = camera.rays_mm() @ torch.tensor([(camera.width - 1) / 2, (camera.height - 1) / 2, 1.0]).double()
        along = xray.rig_from_camera[:3, :3] @ (middle / middle.norm())
        across = torch.eye(3, dtype=torch.float64) - torch.outer(along, along)
        total, right = total + across, right + across @ xray.rig_from_camera[:3, 3]
    return torch.linalg.solve(total, right)


def errors_mm(result: BoneResult, xrays: Sequence[Xray], reference: torch.Tensor) -> dict[str, float]:
    """At points of the bone, against the reference: in space; at right angles to the first X-ray's axis; along it."""
    ends = [
        transform_points(invert(pose @ xrays[0].rig_from_camera), result.bone.points_mm)
        for pose in (result.rig_pose, reference)
    ]
    apart = ends[0] - ends[1]
    return {
        "error_3d_mm": float(apart.norm(dim=-1).mean()),
        "in_plane_mm": float(apart[:, :2].norm(dim=-1).mean()),
        "depth_mm": float(apart[:, 2].mean()),
    }


def rows(wrist: Wrist, draws: int, pictures: Path | None) -> Iterator[dict[str, object]]:
    """Every bone by both views and by each, from perturbed references and from the calibration's own guess."""
    views = {"both": wrist.xrays, **{f"camera {n}": (one,) for n, one in zip(CAMERAS, wrist.xrays, strict=True)}}
    for bone, patient in wrist.patients.items():
        reference = wrist.references[bone]
        for name, xrays in views.items():
            for draw in range(draws):
                rng = generator(0, "real wrist", bone, str(draw))
                twist = rng.normal(size=6) * np.repeat([np.deg2rad(DRAW_DEG), DRAW_MM], 3)
                start = perturb(reference, torch.from_numpy(twist), patient.volume.center_mm)
                (result,) = register_bones(patient, xrays, [bone], start, seed=draw)
                yield row(bone, name, str(draw), result, xrays, reference)
                if pictures is not None and draw == 0:
                    for one in result.views:
                        path = pictures / f"{bone}-{name.replace(' ', '')}-{one.xray.name}.png"
                        title = f"{bone}, {name}: {result.verdict.grade}"
                        write_bone_overlay(path, [result.bone], one.xray, [one.pose], title)
            guess = translation(patient.volume.center_mm - middle_of_rays_mm(wrist.xrays))
            (result,) = register_bones(patient, xrays, [bone], guess, GUESS)
            yield row(bone, name, "guess", result, xrays, reference)


def row(
    bone: str, views: str, draw: str, result: BoneResult, xrays: Sequence[Xray], reference: torch.Tensor
) -> dict[str, object]:
    """What is kept of a registration."""
    spread = result.views[0].spread
    return {
        "bone": bone,
        "views": views,
        "draw": draw,
        **errors_mm(result, xrays, reference),
        "verdict": str(result.verdict.grade),
        "ncc": min(one.ncc for one in result.views),
        "projection_sd_mm": spread.projection_mm,
        "depth_sd_mm": spread.depth_mm,
        "held": result.held,
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """By bone and views, of the draws: medians, shares that are right, and what `trusted` is worth."""
    lines = []
    for (bone, views), own in table[table["draw"] != "guess"].groupby(["bone", "views"], sort=False):
        trusted = own[own["verdict"] == "trusted"]
        unseen = trusted["depth_mm"].abs() > SURE_SDS * trusted["depth_sd_mm"]
        lines.append(
            {
                "bone": bone,
                "views": views,
                "draws": len(own),
                "3D mm": own["error_3d_mm"].median(),
                f"3D < {RIGHT_MM:g} mm": (own["error_3d_mm"] < RIGHT_MM).mean(),
                f"in plane < {RIGHT_MM:g} mm": (own["in_plane_mm"] < RIGHT_MM).mean(),
                "|depth| mm": own["depth_mm"].abs().median(),
                "trusted": len(trusted),
                "of these wrong": int(((trusted["in_plane_mm"] > WRONG_MM) | unseen).sum()),
            }
        )
    return pd.DataFrame(lines)


def main() -> None:
    """Print the summary; write rows as CSV and pictures of the first draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path, default=Path("results/real-wrist"))
    arguments = parser.parse_args()
    try:
        wrist = read_wrist(arguments.data)
    except InputError as error:
        sys.exit(f"skipped: {error}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(list(rows(wrist, arguments.draws, arguments.out)))
    table.to_csv(arguments.out / "rows.csv", index=False)
    print(summary(table).to_string(index=False, float_format="%.2f"))
    print(table[table["draw"] == "guess"].to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    main()
