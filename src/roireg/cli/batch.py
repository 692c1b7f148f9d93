"""`roireg batch`: many X-rays of one patient, each on its own, in one process that reads the CT and compiles once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roireg.cli.common import (
    CameraOption,
    CenterOption,
    ConfigOption,
    CouchOption,
    CropOption,
    CtOption,
    ExcludeOption,
    Files,
    FrameOption,
    LabelsOption,
    MethodOption,
    MirrorOption,
    NamesOption,
    RescaleOption,
    SizeOption,
    err,
    one_line_errors,
    out,
)
from roireg.cli.options import MethodOptions, StartFiles

if TYPE_CHECKING:
    from roireg.data.patient import Patient

TABLE = "results.csv"
REFUSED_STATUS, FAILED_STATUS = 1, 3


def batch(
    ct: CtOption,
    xrays: Annotated[list[Path], typer.Argument(help="X-rays of one patient, such as xrays/*.dcm.")],
    camera: CameraOption = None,
    labels: LabelsOption = None,
    label_names: NamesOption = None,
    exclude: ExcludeOption = None,
    center_on: CenterOption = None,
    rescale: RescaleOption = (1.0, 0.0),
    couch: CouchOption = "remove",
    frame: FrameOption = 0,
    crop: CropOption = 0,
    mirror: MirrorOption = False,
    size: SizeOption = 128,
    method: MethodOption = None,
    config: ConfigOption = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    output: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("registrations"),
) -> None:
    """Find and judge the pose of each of many X-rays of one patient.

    Writes results.csv with a row for each X-ray, and for each a folder with the files of `roireg register`. An X-ray
    that cannot be read has a row that says why, and does not stop the others.
    """
    with one_line_errors():
        from rich.progress import track

        from roireg.files import check_writable, write_rows
        from roireg.report.result_files import folders_of

        check_writable(output)
        options = MethodOptions(method, config, exclude or ())
        options.check()
        files = Files(ct, xrays, camera, labels, label_names, center_on, rescale, frame, crop, mirror, couch)
        single = files.one_by_one()
        patient = files.patient(None)
        rows: list[dict[str, Any]] = []
        folders = folders_of(output, [path.name for path in xrays]) if len(xrays) > 1 else [output / "1"]
        pairs = [*zip(single, folders, strict=True)]
        for one, folder in track(pairs, "X-rays", console=err, transient=True):
            rows.append(_row(patient, one, size, options, seed, folder))
            write_rows(output / TABLE, rows)
            _print(rows[-1])
    grades = [row["verdict"] for row in rows]
    counts = ", ".join(f"{grades.count(grade)} {grade}" for grade in ("trusted", "check", "failed", "refused"))
    out.print(f"{counts}; {output / TABLE}", markup=False, soft_wrap=True)
    if "refused" in grades or "failed" in grades:
        raise typer.Exit(REFUSED_STATUS if "refused" in grades else FAILED_STATUS)


def _row(
    patient: "Patient", files: Files, size: int, options: MethodOptions, seed: int, folder: Path
) -> dict[str, Any]:
    """Register an X-ray, write its files, and return its row.

    Raises:
        InputError: the method or a label is unknown.
    """
    from roireg.errors import InputError
    from roireg.register.registration import register_xrays
    from roireg.report.batch_files import batch_row, refused_row
    from roireg.report.result_files import write_result

    (path,) = files.xray
    try:
        xrays = files.xrays(size)
    except InputError as fault:
        return refused_row(str(path), str(fault))
    # What is wrong with the options would be wrong for every X-ray.
    chosen, _ = options.method(patient, xrays, StartFiles(None, None))
    result = register_xrays(patient, xrays, chosen, seed)
    write_result(folder, patient, result)
    return batch_row(str(path), str(folder), result.xrays[0], result.seconds)


def _print(row: dict[str, Any]) -> None:
    from roireg.cli.printing import COLOURS

    grade = row["verdict"]
    out.print(f"[bold {COLOURS.get(grade, 'red')}]{grade}[/] ", end="")
    told = row["reasons"] if row["folder"] == "" else f"{Path(row['xray']).name}: {row['reasons']}"
    out.print(told, markup=False, soft_wrap=True)
