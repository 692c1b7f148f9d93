"""Seconds of a registration, in one process and as a command, idle and beside a process that takes a core.

X-rays are DRRs of the demo's CT with noise: times depend little on what is seen. Gauss-Newton from a start some degrees
and mm off, and from a search; the command `roireg register` and `roireg inspect` from the start of their processes.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from common import busy_neighbour, report
from PIL import Image

from roireg.data.patient import Patient
from roireg.data.readers.ct import read_patient
from roireg.data.readers.xray import read_xray
from roireg.data.xray import Xray
from roireg.demo.source import download
from roireg.drr import render
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose, perturb
from roireg.geometry.se3 import invert
from roireg.register.method import search_method
from roireg.register.registration import register_xrays
from roireg.register.settings import PaSettings
from roireg.seeds import generator

XRAYS, COMMANDS = 8, 5
SIZE_PX, PIXEL_MM, SOURCE_TO_DETECTOR_MM = 512, 0.56, 1020.0
QUANTA = 3e4
OFF_DEG, OFF_MM = 3.0, 8.0


def write_xray(folder: Path, number: int, patient: Patient) -> tuple[Path, Path, torch.Tensor]:
    """A picture, its camera file, and its true pose `volume_from_camera` (mm)."""
    focal, middle = SOURCE_TO_DETECTOR_MM / PIXEL_MM, (SIZE_PX - 1) / 2
    intrinsics = torch.tensor([[-focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]], dtype=torch.float64)
    camera = Camera(intrinsics, SIZE_PX, SIZE_PX, (PIXEL_MM, PIXEL_MM))
    rng = generator(0, "bench", "register", str(number))
    twist = torch.from_numpy(rng.normal(size=6) * np.repeat([np.deg2rad(OFF_DEG), OFF_MM], 3))
    stated = carm_pose(patient.center_mm, SOURCE_TO_ISOCENTER_FRACTION * SOURCE_TO_DETECTOR_MM, 0.0, 0.0)
    pose = perturb(stated, twist, patient.center_mm)
    transmitted = torch.exp(-render(patient.volume, camera, pose[None])[0]).double().numpy()
    picture, file = folder / f"{number}.png", folder / f"{number}.yaml"
    Image.fromarray(rng.poisson(QUANTA * transmitted).clip(1, 65535).astype(np.uint16)).save(picture)
    entries = {
        "source_to_detector_mm": SOURCE_TO_DETECTOR_MM,
        "pixel_spacing_mm": PIXEL_MM,
        "bone": "dark",
        "intensity": "linear",
        "primary_deg": 0.0,
        "secondary_deg": 0.0,
    }
    file.write_text(yaml.safe_dump(entries))
    return picture, file, pose


def registered_s(patient: Patient, xrays: list[tuple[Xray, torch.Tensor]], searched: bool) -> float:
    """Median seconds of a registration, from where the C-arm says, or from a start that is off."""
    method = search_method() if searched else replace(search_method(), start=PaSettings())
    seconds = []
    for number, (xray, pose) in enumerate(xrays):
        rng = generator(1, "bench", "register", str(number))
        twist = torch.from_numpy(rng.normal(size=6) * np.repeat([np.deg2rad(OFF_DEG), OFF_MM], 3))
        start = perturb(pose, twist, patient.center_mm) @ invert(xray.rig_from_camera)
        seconds.append(register_xrays(patient, [xray], method, initial=None if searched else start).seconds)
    return statistics.median(seconds[1:])


def command_s(*arguments: object) -> float:
    """Median seconds of a process of the command, after one that compiles."""
    command = [Path(sys.executable).with_name("roireg"), *map(str, arguments)]
    seconds = []
    for _ in range(COMMANDS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    """Print seconds of each case with and without a neighbour."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ct = folder / "ct.nii.gz"
        download(ct, folder / "labels.nii.gz")
        patient = read_patient(ct)
        files = [write_xray(folder, number, patient) for number in range(XRAYS + 1)]
        xrays = [(read_xray(picture, camera), pose) for picture, camera, pose in files]
        shown = ["--camera", files[0][1]]
        cases: dict[str, Callable[[], float]] = {
            "Gauss-Newton from a start that is off, with its verdict": lambda: registered_s(patient, xrays, False),
            "search and Gauss-Newton, with their verdict": lambda: registered_s(patient, xrays, True),
            "roireg register, the whole process": lambda: command_s(
                "register", "--ct", ct, "--xray", files[0][0], *shown, "--out", folder / "out"
            ),
            "roireg inspect of the CT, the whole process": lambda: command_s("inspect", ct),
        }
        idle = {case: measure() for case, measure in cases.items()}
        with busy_neighbour():
            busy = {case: measure() for case, measure in cases.items()}
    report(
        "register",
        [
            {"case": case, "idle_s": idle[case], "busy_s": busy[case], "busy_to_idle": busy[case] / idle[case]}
            for case in cases
        ],
    )


if __name__ == "__main__":
    main()
