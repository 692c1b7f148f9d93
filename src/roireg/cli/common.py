"""Common parts of the commands: console output, options, one-line errors, and reading of patients and X-rays."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from roireg.data.readers.frames import FrameFile
from roireg.errors import InputError
from roireg.extras import missing_extra
from roireg.files import write_error

if TYPE_CHECKING:
    from roireg.data.couch import Couch
    from roireg.data.patient import Patient
    from roireg.data.xray import Xray

# File names and units hold letters that a locale may not have.
for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
# Results go to standard output, progress and errors to standard error.
out, err = Console(), Console(stderr=True, highlight=False)

CtOption = Annotated[Path, typer.Option("--ct", help="NIfTI, NRRD or MHA file, or a folder with one DICOM series.")]
XrayOption = Annotated[
    list[Path], typer.Option("--xray", help="DICOM, PNG or TIFF; repeatable: several X-rays are registered jointly.")
]
CameraOption = Annotated[
    list[Path] | None,
    typer.Option("--camera", help="Camera file of pictures: one for all X-rays, or one for each, in their order."),
]
LabelsOption = Annotated[Path | None, typer.Option("--labels", help="Image of integer labels on the CT's grid.")]
NamesOption = Annotated[Path | None, typer.Option("--label-names", help="YAML file with lines such as '1: left hip'.")]
CenterOption = Annotated[
    list[str] | None, typer.Option("--center-on", help="Label on whose centre the X-ray is centred; repeatable.")
]
RescaleOption = Annotated[
    tuple[float, float], typer.Option("--rescale", help="Slope and intercept that convert stored values to HU.")
]
CouchOption = Annotated[
    Literal["remove", "keep"],
    typer.Option("--couch", help="Leave out what the CT shows beside the patient, such as the couch, or keep it."),
]
FrameOption = Annotated[int, typer.Option("--frame", min=0, help="Frame of a sequence, from 0.")]
FramesOption = Annotated[
    str | None,
    typer.Option(
        "--frames",
        metavar="A:B",
        help="Frames A to B of a sequence, from 0, both included: of a multi-frame file, or of a folder of frames.",
    ),
]
CropOption = Annotated[int, typer.Option("--crop", min=0, help="Pixels to crop from each side (collimator).")]
MirrorOption = Annotated[bool, typer.Option("--mirror", help="Flip the X-ray left to right.")]
SizeOption = Annotated[int, typer.Option("--size", min=64, max=1024, help="Longer side of the image, in pixels.")]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Label that may have moved since the CT, such as a femur; repeatable."),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method", help="Name of a method of the configuration, such as ours; default: a search without a network."
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file with keys that override the default configuration.")
]


@dataclass(frozen=True)
class Files:
    """What a command was given of a patient and X-rays, to be read at one resolution or another."""

    ct: Path
    xray: Sequence[Path]
    camera: Sequence[Path] | None
    labels: Path | None
    label_names: Path | None
    center_on: Sequence[str] | None
    rescale: tuple[float, float]
    frame: int
    crop: int
    mirror: bool
    couch: "Couch" = "remove"

    def patient(self, voxel_mm: float | None) -> "Patient":
        """The CT, its voxels averaged to a size (mm)."""
        return load_patient(self.ct, self.labels, self.label_names, self.center_on, self.rescale, voxel_mm, self.couch)

    def xrays(self, size_px: int) -> list["Xray"]:
        """The X-rays, the longer side of so many pixels."""
        return load_xrays(self.xray, self.camera, self.frame, self.crop, size_px, self.mirror)

    def one_by_one(self) -> list["Files"]:
        """What was given, for each X-ray on its own.

        Raises:
            InputError: there are neither one camera file nor as many as X-rays.
        """
        cameras = _camera_of_each(self.camera, len(self.xray))
        return [
            replace(self, xray=[path], camera=None if camera is None else [camera])
            for path, camera in zip(self.xray, cameras, strict=True)
        ]

    def frame_xrays(self, views: Sequence[FrameFile], size_px: int) -> list["Xray"]:
        """The X-rays of one moment of a sequence, one for each view; their warnings are not printed."""
        return _xrays(views, self.camera, self.crop, size_px, self.mirror)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Context that turns faults of the input, the disk, the memory or the installation into one line and status 1."""
    try:
        yield
    except (InputError, OSError, MemoryError, ModuleNotFoundError) as error:
        told = _told(error)
        if told is None:
            raise
        err.print("[bold red]error:[/] ", end="")
        err.print(told, markup=False, soft_wrap=True)
        sys.exit(1)


def _told(error: Exception) -> str | None:
    """The line for an error; None for one that users cannot mend."""
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory. Use a smaller image, or close other programs"
    if isinstance(error, OSError):
        unwritten = write_error(error.filename or "the output", error)
        return None if unwritten is None else str(unwritten)
    return str(error)


def load_patient(
    ct: Path,
    labels: Path | None,
    label_names: Path | None,
    center_on: Sequence[str] | None,
    rescale: tuple[float, float],
    voxel_mm: float | None = None,
    couch: "Couch" = "remove",
) -> "Patient":
    """The patient, and what looks odd of him; finer voxels are averaged to `voxel_mm` or the reader's default."""
    from roireg.data.readers.ct import VOXEL_MM, read_patient

    with err.status(f"reading {ct}"):
        patient = read_patient(
            ct, labels, label_names, center_on or (), rescale, VOXEL_MM if voxel_mm is None else voxel_mm, couch
        )
    warn(patient.name, patient.warnings)
    return patient


def load_xrays(
    xrays: Sequence[Path], cameras: Sequence[Path] | None, frame: int, crop: int, size: int, mirror: bool
) -> list["Xray"]:
    """Load the X-rays, each with its camera file if there is one, and print their warnings."""
    found = _xrays([FrameFile(path, frame) for path in xrays], cameras, crop, size, mirror)
    for xray in found:
        warn(xray.name, xray.warnings)
    return found


def _xrays(
    views: Sequence[FrameFile], cameras: Sequence[Path] | None, crop: int, size: int, mirror: bool
) -> list["Xray"]:
    from roireg.data.readers.xray import read_xray

    pairs = zip(views, _camera_of_each(cameras, len(views)), strict=True)
    found = [read_xray(view.path, camera, view.frame, crop, size) for view, camera in pairs]
    return [xray.mirrored() if mirror else xray for xray in found]


def _camera_of_each(cameras: Sequence[Path] | None, count: int) -> list[Path | None]:
    given: list[Path | None] = [*cameras] if cameras else [None]
    if len(given) == 1:
        given *= count
    if len(given) != count:
        fault = f"{len(given)} camera files for {count} X-rays"
        raise InputError("--camera", fault, "Give one for all, or one for each in the order of the X-rays")
    return given


def warn(name: str, warnings: Sequence[str]) -> None:
    """Print warnings: assumptions that were made, and unusual properties."""
    for warning in warnings:
        err.print(f"[yellow]note:[/] {name}: ", end="")
        err.print(warning, markup=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table under its title."""
    out.print(title, markup=False, style="bold", soft_wrap=True)
    shown = Table()
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    out.print(shown)
