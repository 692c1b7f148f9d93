"""Prints patients, X-rays, data sets and results for users of the command."""

from collections.abc import Sequence
from pathlib import Path

from roireg.cli.common import out, table
from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.register.registration import Registration

COLOURS = {"trusted": "green", "check": "yellow", "failed": "red"}


def print_ct(patient: Patient) -> None:
    """Print the properties of a CT."""
    table(f"CT {patient.name}", ["what", "value"], [[name, value] for name, value in patient.facts.items()])


def print_xray(xray: Xray) -> None:
    """Print the properties of an X-ray, with the source of each."""
    size = f"{xray.camera.width} x {xray.camera.height} px of {xray.camera.pixel_spacing_mm[0]:.3g} mm"
    rows = [[fact.name, fact.value, fact.source] for fact in xray.facts]
    table(f"X-ray {xray.name}", ["what", "value", "from"], [*rows, ["preprocessed image", size, ""]])


def print_hdf5(path: Path) -> None:
    """Print the specimens of a data set in the DeepFluoro layout."""
    from roireg.data import deepfluoro
    from roireg.data.readers.hdf5_file import open_dataset

    with open_dataset(path) as file:
        parameters = deepfluoro.read_parameters(file)
        camera = parameters.camera()
        size = f"{camera.width} x {camera.height} px of {camera.pixel_spacing_mm[0]:.3g} mm"
        rows = []
        for name in deepfluoro.specimen_names(file):
            ct = deepfluoro.read_ct(file, name)
            voxels = " x ".join(map(str, ct.hu.shape[::-1]))
            spacing = " x ".join(f"{s:.3g}" for s in ct.spacing_mm)
            xrays = str(len(deepfluoro.projection_names(file, name)))
            rows.append([name, f"{voxels} of {spacing} mm", str(len(ct.landmarks_mm)), xrays])
    title = f"{path}: DeepFluoro layout, detector {size}, {camera.source_to_detector_mm:.0f} mm from the source"
    table(title, ["specimen", "CT", "landmarks", "X-rays"], rows)


def print_result(result: Registration, folders: Sequence[Path]) -> None:
    """Print the verdict with its reasons, the predicted standard deviations, and the paths of the files."""
    for found, folder in zip(result.xrays, folders, strict=True):
        grade, sd = found.verdict.grade, found.spread
        out.print(f"[bold {COLOURS[grade]}]{grade}[/] ", end="")
        out.print(f"{found.xray.name}: {'; '.join(found.verdict.reasons)}", markup=False, soft_wrap=True)
        turns = ", ".join(f"{angle:.2f}" for angle in sd.rotation_deg)
        where = f"{sd.across_mm:.2f} mm across, {sd.down_mm:.2f} mm down, {sd.depth_mm:.2f} mm in depth"
        out.print(f"  predicted sd: {where}; {turns}° about these axes", markup=False, soft_wrap=True)
        files = "pose.json, pose.txt, pose.tfm, points.mrk.json, scene.mrml, overlay.png"
        out.print(f"  {folder}/: {files}", markup=False, soft_wrap=True)
    if len(result.xrays) == 1:
        out.print("  a single view determines depth least; a second view from the side helps", markup=False)
    out.print(f"{result.seconds:.1f} s", markup=False)
