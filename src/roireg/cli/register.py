"""`roireg register`: one X-ray or several jointly, one bone or more, one frame or a sequence."""

from pathlib import Path
from typing import Annotated

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
    FramesOption,
    LabelsOption,
    MethodOption,
    MirrorOption,
    NamesOption,
    RescaleOption,
    SizeOption,
    XrayOption,
    err,
    one_line_errors,
)
from roireg.cli.options import MethodOptions, StartFiles, refuse_together
from roireg.cli.sequence import bone_sequence, sequence

FAILED_STATUS = 3


def register(
    ct: CtOption,
    xray: XrayOption,
    camera: CameraOption = None,
    labels: LabelsOption = None,
    label_names: NamesOption = None,
    exclude: ExcludeOption = None,
    bone: Annotated[
        list[str] | None,
        typer.Option(
            help="Label that is registered alone (A+B: labels that move together), or the name of a CT's only bone; "
            "repeat for more."
        ),
    ] = None,
    center_on: CenterOption = None,
    rescale: RescaleOption = (1.0, 0.0),
    couch: CouchOption = "remove",
    frame: FrameOption = 0,
    frames: FramesOption = None,
    crop: CropOption = 0,
    mirror: MirrorOption = False,
    size: SizeOption = 128,
    method: MethodOption = None,
    config: ConfigOption = None,
    initial: Annotated[Path | None, typer.Option(help="pose.json with an initial pose of the first X-ray.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Model made by `roireg train encoder`; its pose is the start.")
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="Model made by `roireg train segmenter`, for a ROI term and for the verdict.")
    ] = None,
    roi: Annotated[list[str] | None, typer.Option(help="ROI of the segmenter; repeat for all, in its order.")] = None,
    gif: Annotated[bool, typer.Option("--gif", help="Also write an animation of the optimization.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    output: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("registration"),
) -> None:
    """Find the pose of one or more X-rays, and judge it.

    Writes pose.json, pose.txt, pose.tfm, points.mrk.json, scene.mrml and overlay.png; prints the verdict.
    """
    files = Files(ct, xray, camera, labels, label_names, center_on, rescale, frame, crop, mirror, couch)
    with one_line_errors():
        from roireg.files import check_writable

        if bone:
            refuse_together("--bone", {"--method": method, "--config": config, "--exclude": exclude})
            refuse_together("--bone", {"--segmenter": segmenter, "--roi": roi, "--gif": gif})
        if frames:
            refuse_together("--frames", {"--frame": frame, "--segmenter": segmenter, "--roi": roi, "--gif": gif})
        check_writable(output)
        options = MethodOptions(method, config, exclude or (), segmenter, roi or ())
        options.check()
        start = StartFiles(initial, encoder)
        if bone and frames:
            failed = bone_sequence(files, bone, frames, size, start, seed, output)
        elif bone:
            failed = bones(files, bone, size, start, seed, output)
        elif frames:
            failed = sequence(files, frames, size, options, start, seed, output)
        else:
            failed = whole(files, size, options, start, seed, gif, output)
    if failed:
        raise typer.Exit(FAILED_STATUS)


def whole(
    files: Files, size: int, options: MethodOptions, start: StartFiles, seed: int, gif: bool, output: Path
) -> bool:
    """Register the whole CT to X-rays; whether it failed."""
    from roireg.cli.printing import print_result
    from roireg.register.registration import register_xrays
    from roireg.register.roi_check import check_rois
    from roireg.report.result_files import write_result
    from roireg.report.slicer_scene import write_scene

    patient, xrays = files.patient(None), files.xrays(size)
    chosen, initial = options.method(patient, xrays, start)
    with err.status("compiling and registering"):
        result = register_xrays(patient, xrays, chosen, seed, initial, err.print)
    if options.segmenter is not None:
        result = check_rois(patient, result, options.segmenter, list(options.roi))
    folders = write_result(output, patient, result, gif)
    for folder, one in zip(folders, result.xrays, strict=True):
        write_scene(folder, files.ct, one.xray, one.pose)
    print_result(result, folders)
    return result.verdict.grade == "failed"


def bones(files: Files, names: list[str], size: int, start: StartFiles, seed: int, output: Path) -> bool:
    """Register bones of the CT to X-rays, each with a pose of its own; whether one of them failed."""
    from roireg.cli.bones import SIZE_PX, VOXEL_MM, print_bones, searched_start
    from roireg.register.bones import register_bones
    from roireg.report.bone_files import write_bones

    patient, xrays = files.patient(VOXEL_MM), files.xrays(SIZE_PX)
    pose = start.rig_pose(xrays[0])
    if pose is None:
        pose = searched_start(names, lambda: files.patient(None), lambda: files.xrays(size), seed)
    with err.status("compiling and registering"):
        results = register_bones(patient, xrays, names, pose, seed=seed)
    print_bones(results, write_bones(output, patient, results))
    return any(one.verdict.grade == "failed" for one in results)
