"""The commands `roireg train`: train networks from a user's own CTs."""

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
)
from roireg.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Train a pose encoder of one patient, or a segmenter of X-rays.")

XrayLike = Annotated[Path, typer.Option("--xray", help="A representative X-ray; only its geometry is used.")]
DrrsOption = Annotated[int, typer.Option(min=10, help="Number of training DRRs of each patient.")]
SeedOption = Annotated[int, typer.Option(help="Random seed.")]
RoiOption = Annotated[list[str] | None, typer.Option("--roi", help="Name of a label; repeatable, in order.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Number of epochs; default: the configuration's.")]


def _drawing(done: int, total: int) -> None:
    if done == total or done % 50 == 0:
        err.print(f"DRR {done}/{total}")


def _log_to_console() -> None:
    """Print the training's log, with a line for each epoch."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("roireg")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@app.command()
def encoder(
    ct: CtOption,
    xray: XrayLike,
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
    entry: Annotated[str, typer.Option("--encoder", help="Entry of `encoders` in the configuration.")] = "diffpose",
    segmenter: Annotated[
        Path | None, typer.Option(help="Model made by `roireg train segmenter`, for a ROI term.")
    ] = None,
    roi: RoiOption = None,
    drrs: DrrsOption = 300,
    epochs: EpochsOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    output: Annotated[Path, typer.Option("--out", "-o", help="File of the model.")] = Path("encoder.safetensors"),
) -> None:
    """Train a pose encoder of this patient on DRRs of the CT, for `roireg register --encoder`."""
    with one_line_errors():
        from roireg.register.own_networks import train_own_encoder
        from roireg.workflow.config import default_config

        settings = default_config(config)
        _log_to_console()
        if epochs is not None and entry in settings["encoders"]:
            settings["encoders"][entry]["epochs"] = epochs
        patient = load_patient(ct, labels, label_names, center_on, rescale, couch=couch)
        like = load_xrays([xray], camera, frame, crop, size, mirror)[0]
        history = train_own_encoder(output, patient, like, settings, entry, segmenter, roi or [], drrs, seed, _drawing)
        last = history[-1].measures
        found, start = last["validation_mpd_mm"], last["pa_validation_mpd_mm"]
        out.print(f"{output}: median mpd {found:.1f} mm on new DRRs ({start:.1f} mm without it)", markup=False)


@app.command()
def segmenter(
    ct: Annotated[list[Path], typer.Option("--ct", help="CT of a patient with labels; repeatable.")],
    labels: Annotated[list[Path], typer.Option("--labels", help="Labels of each CT, in the same order.")],
    xray: XrayLike,
    roi: Annotated[list[str], typer.Option("--roi", help="Name of a label; repeatable, in order.")],
    camera: CameraOption = None,
    label_names: NamesOption = None,
    rescale: RescaleOption = (1.0, 0.0),
    couch: CouchOption = "remove",
    frame: FrameOption = 0,
    crop: CropOption = 0,
    mirror: MirrorOption = False,
    size: SizeOption = 128,
    entry: Annotated[str, typer.Option("--segmenter", help="Entry of `segment` in the configuration.")] = "unet",
    drrs: DrrsOption = 300,
    epochs: EpochsOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    output: Annotated[Path, typer.Option("--out", "-o", help="File of the model.")] = Path("segmenter.safetensors"),
) -> None:
    """Train a segmenter, by default a U-Net, on DRRs with projected labels; no annotated X-rays are needed."""
    with one_line_errors():
        if len(ct) != len(labels):
            raise InputError("--labels", f"{len(labels)} for {len(ct)} CTs", "Give one for each CT, in their order")
        from roireg.register.own_networks import train_own_segmenter
        from roireg.workflow.config import default_config

        settings = default_config(config)
        _log_to_console()
        if epochs is not None and entry in settings["segment"]:
            settings["segment"][entry]["epochs"] = epochs
        patients = [
            load_patient(one, own, label_names, (), rescale, couch=couch) for one, own in zip(ct, labels, strict=True)
        ]
        like = load_xrays([xray], camera, frame, crop, size, mirror)[0]
        history = train_own_segmenter(output, patients, like, settings, entry, roi, drrs, seed, _drawing)
        out.print(f"{output}: loss {history[0].loss:.3f} to {history[-1].loss:.3f}", markup=False)
