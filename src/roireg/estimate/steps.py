"""Measures the seconds of single steps: a batch of a training, an iteration of a registration."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from roireg.data.patient import Patient
from roireg.data.results import Estimate
from roireg.data.xray import Xray, expected_pose
from roireg.encode.settings import encoder_settings, training_data
from roireg.encode.train import Run, train_encoder
from roireg.register.method import method_from_config, with_estimates, with_segmenters
from roireg.register.registry import OPTIMIZERS
from roireg.register.run import Placement, register_specimen
from roireg.register.settings import EncoderStartSettings
from roireg.segment.batches import Fold
from roireg.segment.examples import Examples
from roireg.segment.medsam import MedSamSettings
from roireg.segment.model import Segmenter
from roireg.segment.settings import training_settings
from roireg.segment.train_medsam import train_medsam
from roireg.segment.train_unet import train_unet
from roireg.segment.unet import UNetSettings
from roireg.training.drrs import SynthesisSettings
from roireg.training.loop import Checkpoint, Length

# Iterations of a measured registration.
ITERATIONS = 2
GFLOP_SIZE, GFLOP_REPEATS = 1024, 8


@dataclass(frozen=True, eq=False)
class Step:
    """Measured seconds of a training step, and the network that was trained."""

    seconds: float
    network: torch.nn.Module | None = None


def _unused(folder: str) -> Checkpoint:
    """A checkpoint that is never written."""
    return Checkpoint(Path(folder) / "checkpoint.pt", "", every_seconds=float("inf"))


def segmenter_step(settings: dict[str, Any], rois: Sequence[str], xray: Xray, device: torch.device) -> Step:
    """Measure one batch of a segmenter's training, after a first batch that includes initialisation.

    Args:
        settings: entries `segmenter`, `recipe` and `augmentation` of the config.
        rois: names of the ROIs.
        xray: training image; its labels are learned.
        device: device to train on.
    """
    entry = settings["segmenter"]
    training = replace(training_settings(**settings), length=Length(2, 1))
    sources = [Examples(xray.image[None], xray.labels[None])]
    fold = Fold(0, "estimate", xray.name)
    with tempfile.TemporaryDirectory() as folder:
        if entry["type"] == "unet":
            architecture = UNetSettings(entry["image_size_px"], tuple(entry["widths"]))
            network, history = train_unet(architecture, rois, sources, training, fold, _unused(folder), device)
        else:
            architecture = MedSamSettings(entry["variant"], None, None, "")
            jitter_px = entry["box_jitter_px"]
            network, history = train_medsam(
                architecture, rois, sources, training, jitter_px, fold, _unused(folder), device
            )
    return Step(history[1].seconds - history[0].seconds, network)


def encoder_step(
    settings: dict[str, Any],
    synthesis: SynthesisSettings,
    rois: list[str],
    patient: Patient,
    xray: Xray,
    segmenter: Segmenter | None,
    device: torch.device,
) -> Step:
    """Measure one batch of an encoder's training with all terms of its loss.

    The time to render its DRRs is included, even if the encoder is configured to train on a stored pool.
    """
    entry = {**settings["encoder"], "epochs": 2, "batches_per_epoch": 1, "samples": "online", "stages": 1}
    entry["loss"] = {**entry["loss"], "images_from": 0.0}
    run = Run(0, "estimate", patient.name)
    data = training_data(patient, xray, entry, synthesis, rois, None, segmenter, None, run, device)
    training = encoder_settings(entry, settings["recipe"], settings["augmentation"])
    seconds: list[float] = []

    def timed(epoch, rng):
        seconds.append(time.perf_counter())
        return draw(epoch, rng)

    draw = data.draw
    small = replace(data.validation, images=data.validation.images[:1], poses=data.validation.poses[:1])
    with tempfile.TemporaryDirectory() as folder:
        encoder, _ = train_encoder(replace(data, draw=timed, validation=small), training, run, _unused(folder), device)
    return Step(time.perf_counter() - seconds[1], encoder.network)


def registration_step(
    settings: dict[str, Any],
    rois: list[str],
    patient: Patient,
    xray: Xray,
    segmenters: dict[str, Segmenter],
    device: torch.device,
) -> float:
    """Seconds of one iteration; for an optimizer whose iterations differ in cost, seconds of a whole registration.

    Args:
        settings: settings of a method, made by `method_settings`.
        rois: names of the ROIs.
        patient, xray: the X-ray is registered to the patient.
        segmenters: segmenters by name; they need not be trained.
        device: device of the optimizer.
    """
    method = method_from_config("estimate", **settings, rois=rois, step_mm=None)
    if isinstance(method.start, EncoderStartSettings):
        method = with_estimates(method, {xray.name: Estimate(expected_pose(patient, xray), 0.0)})
    if method.regions is not None:
        method = with_segmenters(method, {name: segmenters[name] for name in method.regions.segmenter_names})
    by_iteration = OPTIMIZERS[method.search.type].equal_iterations
    if by_iteration:
        method = replace(method, search=replace(method.search, iterations=ITERATIONS))
    (result,) = register_specimen(patient, [xray] * method.views, method, 0, Placement(device, 1))
    return result.row["seconds"] / (len(result.trace.poses) if by_iteration else 1)


def gflops() -> float:
    """Speed of this process in a product of float32 matrices, in billions of operations per second."""
    a = torch.randn(GFLOP_SIZE, GFLOP_SIZE)
    a @ a
    start = time.perf_counter()
    for _ in range(GFLOP_REPEATS):
        a @ a
    return 2 * GFLOP_SIZE**3 * GFLOP_REPEATS / (time.perf_counter() - start) / 1e9
