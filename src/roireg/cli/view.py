"""`roireg view`: the workbench in the browser."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roireg.cli.common import (
    CameraOption,
    CenterOption,
    ConfigOption,
    CouchOption,
    CropOption,
    ExcludeOption,
    FrameOption,
    LabelsOption,
    MirrorOption,
    NamesOption,
    RescaleOption,
    SizeOption,
    err,
    one_line_errors,
    out,
)
from roireg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roireg.view.sources import XraySource

NEEDED = ("fastapi", "uvicorn", "websockets")


def view(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A CT and X-rays; or a session.json that the page saved; or a run's registrations/METHOD/SPECIMEN.csv."
        ),
    ] = None,
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
    exclude: ExcludeOption = None,
    config: ConfigOption = None,
    pose: Annotated[Path | None, typer.Option(help="pose.json of the first X-ray, to begin with.")] = None,
    truth: Annotated[Path | None, typer.Option(help="pose.json with its true pose, to compare with.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the server; default: any free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address only.")] = False,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder that the page may save results to.")
    ] = None,
) -> None:
    """See a CT and X-rays in the browser, place the patient by hand, and register from there.

    The server listens on this machine alone; end it with Ctrl-C.
    """
    with one_line_errors():
        # Before files are read, which can take long.
        for package in NEEDED:
            import_module(package)
        from roireg.data.readers.file_types import FileType, file_type
        from roireg.files import check_writable
        from roireg.view.serve import Opened, serve
        from roireg.view.sources import CtSource

        given = list(files or [])
        alone = {kind: [path for path in given if path.suffix.lower() == kind] for kind in (".json", ".csv")}
        sessions, studies = alone.values()
        if (sessions or studies) and len(given) > 1:
            what = "a session file, like a workflow's results, names its CT and X-rays itself"
            raise InputError([*sessions, *studies][0], what, "Give it alone")
        types = {} if sessions or studies else {path: file_type(path) for path in given}
        cts = [path for path, found in types.items() if found is FileType.CT]
        if len(cts) > 1:
            raise InputError(cts[1], "it is a second CT", "Give one CT")
        for path, found in types.items():
            if found is FileType.HDF5:
                raise InputError(path, "it is an HDF5 file", "Give a CT and X-rays")
        if output is not None:
            check_writable(output)
        xrays = [path for path, found in types.items() if found is FileType.XRAY]
        ct = CtSource(cts[0], labels, label_names, tuple(center_on or ()), rescale, couch) if cts else None
        opened = Opened(
            ct=ct,
            xrays=_sources(xrays, camera or [], frame, crop, mirror),
            session=sessions[0] if sessions else None,
            study=studies[0] if studies else None,
            pose=pose,
            truth=truth,
            config=config,
            exclude=exclude or (),
            size_px=size,
            out=output,
        )
        serve(opened, port, _announce, browse=not no_browser)


def _announce(address: str) -> None:
    out.print(address, markup=False, soft_wrap=True)
    err.print("Open it in a browser on this machine; Ctrl-C ends the server.", markup=False)


def _sources(
    paths: "Sequence[Path]", cameras: "Sequence[Path]", frame: int, crop: int, mirror: bool
) -> "list[XraySource]":
    """The X-rays with their camera files: none, one for all, or one for each."""
    from roireg.view.sources import XraySource

    given: list[Path | None] = [*cameras] if cameras else [None]
    if len(given) == 1:
        given *= len(paths)
    if len(given) != len(paths):
        fault = f"{len(given)} camera files for {len(paths)} X-rays"
        raise InputError("--camera", fault, "Give one for all, or one for each in the order of the X-rays")
    return [XraySource(path, own, frame, crop, mirror) for path, own in zip(paths, given, strict=True)]
