"""Measures single steps, a batch of a training or an iteration of a registration: their seconds, or their work."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from roireg.data.estimate import Estimate
from roireg.data.patient import Patient
from roireg.data.xray import Xray, expected_pose
from roireg.encode.samples import DrrSet
from roireg.encode.settings import encoder_settings, training_data
from roireg.encode.train import Run, train_encoder
from roireg.estimate.work import Measuring, Work, counted, counted_renderings
from roireg.register.judgement import judgement
from roireg.register.method import MethodSettings, method_from_config, with_estimates, with_segmenters
from roireg.register.registration import batch, once, problem_of
from roireg.register.registry import OPTIMIZERS
from roireg.register.run import Placement, register_specimen
from roireg.register.settings import EncoderStartSettings
from roireg.register.weights import weight_map
from roireg.segment.batches import Fold, TrainingSettings, batches
from roireg.segment.examples import Examples
from roireg.segment.model import Segmenter
from roireg.segment.network import SegmentationNetwork
from roireg.segment.train import SegmenterTraining, train_segmenter
from roireg.segment.training_inputs import training_settings
from roireg.training.drrs import SynthesisSettings
from roireg.training.loop import Checkpoint
from roireg.training.recipe import Length

# Iterations of a measured registration, apart from those of the first run.
ITERATIONS = 2
GFLOP_SIZE, GFLOP_REPEATS = 1024, 8


Network = TypeVar("Network", bound=torch.nn.Module)


@dataclass(frozen=True, eq=False)
class Step(Generic[Network]):
    """What a training step costs, and the network that was trained.

    Attributes:
        seconds: measured time.
        work: counted work; of a segmenter, with the initialisation.
        preparation_seconds: time of one core to prepare the batch, wherever the network is.
        network: the network.
    """

    seconds: float
    work: Work
    preparation_seconds: float
    network: Network


def _unused(folder: str) -> Checkpoint:
    """A checkpoint that is never written."""
    return Checkpoint(Path(folder) / "checkpoint.pt", "", every_seconds=float("inf"))


def segmenter_step(
    settings: dict[str, Any], rois: Sequence[str], xray: Xray, device: torch.device, how: Measuring
) -> Step[SegmentationNetwork]:
    """Measure one batch of a segmenter's training.

    Args:
        settings: entries `segmenter`, `recipe` and `augmentation` of the config.
        rois: names of the ROIs.
        xray: training image; its labels are learned.
        device: device to train on.
        how: number of batches, and how work is counted.
    """
    # A batch takes as long from random weights as from pretrained ones, which may not be at hand.
    entry = settings["segmenter"] | ({"checkpoint": None} if "checkpoint" in settings["segmenter"] else {})
    steps = replace(training_settings(**settings), length=Length(how.steps, 1))
    sources = [Examples(xray.image[None], xray.known_labels[None])]
    fold = Fold(0, "estimate", xray.name)
    preparation_seconds = _prepared(sources, rois, steps, fold)
    with tempfile.TemporaryDirectory() as folder, how.count() as work:
        training = SegmenterTraining(rois, sources, steps, fold, _unused(folder), device)
        network, history = train_segmenter(entry, training)
    before = history[-2].seconds if len(history) > 1 else 0.0
    return Step(history[-1].seconds - before, work, preparation_seconds, network)


def _prepared(sources: Sequence[Examples], rois: Sequence[str], training: TrainingSettings, fold: Fold) -> float:
    """Seconds of one core to draw and augment a batch."""
    batch = batches(sources, rois, training, fold, torch.device("cpu"))
    batch(0)
    began = time.process_time()
    batch(1)
    return time.process_time() - began


def encoder_step(
    settings: dict[str, Any],
    synthesis: SynthesisSettings,
    rois: list[str],
    patient: Patient,
    xray: Xray,
    segmenter: Segmenter | None,
    device: torch.device,
    how: Measuring,
) -> Step[torch.nn.Module]:
    """Measure one batch of an encoder's training with all terms of its loss.

    The time to render its DRRs is included, even if the encoder is configured to train on a stored pool.
    """
    entry = {**settings["encoder"], "epochs": how.steps, "batches_per_epoch": 1, "samples": "online", "stages": 1}
    entry["loss"] = {**entry["loss"], "images_from": 0.0}
    run = Run(0, "estimate", patient.name)
    data = training_data(patient, xray, entry, synthesis, rois, None, segmenter, None, run, device)
    training = encoder_settings(entry, settings["recipe"], settings["augmentation"])
    one = slice(1)
    small = replace(
        data.validation,
        images=data.validation.images[one],
        poses=data.validation.poses[one],
        bone_contrasts=data.validation.bone_contrasts[one],
    )
    began, before = 0.0, Work()
    draw, rendered = data.draw, Work()
    with counted_renderings(rendered):
        core = time.process_time()
        draw(0, run.generator("preparation"))
        preparation_seconds = time.process_time() - core - rendered.rendering_seconds

    def marked(epoch: int, rng: np.random.Generator) -> DrrSet:
        nonlocal began, before
        began, before = time.perf_counter(), replace(work)
        return draw(epoch, rng)

    with tempfile.TemporaryDirectory() as folder, how.count() as work:
        observed = replace(data, draw=marked, validation=small)
        encoder, _ = train_encoder(observed, training, run, _unused(folder), device)
    return Step(time.perf_counter() - began, work - before, preparation_seconds, encoder.network)


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
    method = _method(settings, rois, patient, xray, segmenters)
    by_iteration = OPTIMIZERS[method.search.type].equal_iterations
    if by_iteration:
        method = replace(method, search=replace(method.search, iterations=ITERATIONS))
    (result,) = register_specimen(patient, [xray] * method.views, method, 0, Placement(device, 1))
    return float(result.row["seconds"]) / (len(result.trace.poses) if by_iteration else 1)


def counted_iteration(
    settings: dict[str, Any], rois: list[str], patient: Patient, xray: Xray, segmenters: dict[str, Segmenter]
) -> tuple[Work, float]:
    """Work of one iteration of Adam for one X-ray, and the seconds of one core to judge its result.

    The work to segment the X-ray, which is done once, is part of it. Arguments are those of `registration_step`.
    """
    method = once(_method(settings, rois, patient, xray, segmenters))
    problem = problem_of(xray, patient, weight_map(patient, method.pixels), method.step_mm)
    start = expected_pose(patient, xray)
    with counted() as work:
        (trace,) = batch(patient, [xray], start[None], problem, method)
    began = time.process_time()
    judgement(patient, [xray], [problem], trace)
    return work.scaled(1 / len(trace.poses)), time.process_time() - began


def _method(
    settings: dict[str, Any], rois: list[str], patient: Patient, xray: Xray, segmenters: dict[str, Segmenter]
) -> MethodSettings:
    method = method_from_config("estimate", **settings, rois=rois, step_mm=None)
    if isinstance(method.start, EncoderStartSettings):
        method = with_estimates(method, {xray.name: Estimate(expected_pose(patient, xray), 0.0)})
    if method.regions is not None:
        method = with_segmenters(method, {name: segmenters[name] for name in method.regions.segmenter_names})
    return method


def gflops() -> float:
    """Speed of this process in a product of float32 matrices, in billions of operations per second."""
    a = torch.randn(GFLOP_SIZE, GFLOP_SIZE)
    a @ a
    start = time.perf_counter()
    for _ in range(GFLOP_REPEATS):
        a @ a
    return 2 * GFLOP_SIZE**3 * GFLOP_REPEATS / (time.perf_counter() - start) / 1e9
