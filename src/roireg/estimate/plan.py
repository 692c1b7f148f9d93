"""Costs of a run from its plan (numbers of jobs and steps); each different step is measured once."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from roireg.data.volume import attenuation_settings
from roireg.data.xray import Xray
from roireg.estimate import large_medsam
from roireg.estimate.card import ASSUMED_CARD
from roireg.estimate.costs import SECONDS_PER_HOUR, Cost, OnGpu
from roireg.estimate.phantom import phantom
from roireg.estimate.steps import Step, counted_iteration, encoder_step, registration_step, segmenter_step
from roireg.estimate.work import COUNTED, TIMED, Measuring, Work
from roireg.register.registry import OPTIMIZERS
from roireg.register.settings import segmenter_names
from roireg.segment.model import Segmenter
from roireg.training.drrs import settings_from_config

# Voxels of 1 mm along the phantom's side of 360 mm, as in DeepFluoro's CTs.
VOXELS = 360


def run_costs(
    plan: Mapping[str, Any], settings: Mapping[str, Any], device: torch.device, logger: logging.Logger
) -> list[Cost]:
    """Measure each different step of a plan, and multiply it by the number of steps.

    The work of steps on a GPU is counted, and their time derived from it, if there is none.

    Args:
        plan: `specimens` (number), `segmenters`, `encoders` and `methods` by name, each with its `settings`, `jobs`
            and, for methods, `xrays` and `bytes` (of their traces); `drrs` (number of jobs that synthesize DRRs),
            `xrays` (number).
        settings: sections of the config: `prepare`, `synthesize`, `rois`, `training` and `registration`.
        device: device of jobs that ask for a GPU.
        logger: logs what is being measured.
    """
    rois, size_px = list(settings["rois"]), settings["prepare"]["image_size_px"]
    patient, xray = phantom(rois, size_px, VOXELS)
    synthesis = settings_from_config(settings["synthesize"], attenuation_settings(settings["prepare"]))
    costs, segmenters = [], {}
    how = COUNTED if settings["training"]["gpu"] > 0 and device.type == "cpu" else TIMED
    for name, part in plan["segmenters"].items():
        logger.info("measuring a batch of %s", name)
        step = _segmenter(part["settings"], rois, xray, device, how)
        segmenters[name] = Segmenter(tuple(rois), step.network.eval().requires_grad_(False))
        costs.append(_training("train_segmenter", name, part, "segmenter", step, settings))
    for name, part in plan["encoders"].items():
        logger.info("measuring a batch of the encoder %s", name)
        entry = part["settings"]["encoder"]
        segmenter = segmenters[part["segmenter"]] if entry["loss"]["roi"] > 0 else None
        encoder = encoder_step(part["settings"], synthesis, rois, patient, xray, segmenter, device, how)
        costs.append(_training("train_encoder", name, part, "encoder", encoder, settings))
    # Seconds, or the work of an iteration and the seconds to judge its result.
    measured: dict[str, float | tuple[Work, float]] = {}
    for name, part in plan["methods"].items():
        method, optimizer = part["settings"]["method"], part["settings"]["optimizer"]
        optimizer_kind = OPTIMIZERS[optimizer["type"]]
        by_iteration = optimizer_kind.equal_iterations
        gpu = optimizer_kind.gpu_pays and settings["registration"]["gpu"] > 0
        # Methods that differ only in their similarity take about the same time: renderer and networks dominate.
        kind = str((method["roi"], method["optimizer"], method["weights"], by_iteration or method["init"]))
        if kind not in measured:
            logger.info("measuring a registration by %s", name)
            used_device = device if gpu else torch.device("cpu")
            inputs = (part["settings"], rois, patient, xray, segmenters)
            if gpu and device.type == "cpu":
                work, judging_seconds = counted_iteration(*inputs)
                if _moving_is_large(part, plan["segmenters"]):
                    work = work + large_medsam.iteration_work(len(rois), size_px)
                measured[kind] = work, judging_seconds
            else:
                measured[kind] = registration_step(*inputs, used_device)
        found = measured[kind]
        derived = found if isinstance(found, float) else _on_gpu(*found, part, plan["segmenters"], settings)
        iterates = optimizer["iterations"] + 1 if by_iteration else 1
        costs.append(
            Cost(
                rule="register",
                what=name,
                jobs=part["jobs"],
                steps=part["xrays"] * iterates,
                step="iterations" if by_iteration else "X-rays",
                seconds=derived if isinstance(derived, float) else derived.seconds(ASSUMED_CARD),
                gpu=gpu,
                bytes=part["bytes"],
                derived=None if isinstance(derived, float) else derived,
            )
        )
    return costs


def _is_large(segmenter: Mapping[str, Any]) -> bool:
    """True for MedSAM of full size, by its entry in the plan."""
    return segmenter["settings"]["segmenter"].get("variant") == large_medsam.VARIANT


def _moving_is_large(part: Mapping[str, Any], segmenters: Mapping[str, Any]) -> bool:
    """True if a method segments a DRR by MedSAM of full size in each iteration."""
    moving = (part["settings"]["roi_term"] or {}).get("moving")
    return moving is not None and moving in segmenters and _is_large(segmenters[moving])


def _segmenter(
    settings: Mapping[str, Any], rois: list[str], xray: Xray, device: torch.device, how: Measuring
) -> Step[Any]:
    """A batch of a segmenter's training. For MedSAM of full size, where work is counted, the small one is trained."""
    entry = settings["segmenter"]
    if how is TIMED or entry.get("variant") != large_medsam.VARIANT:
        return segmenter_step(dict(settings), rois, xray, device, how)
    small = segmenter_step({**settings, "segmenter": {**entry, "variant": "tiny"}}, rois, xray, device, how)
    return replace(small, work=large_medsam.training_work(entry["batch_size"], len(rois), xray.image.shape[-1]))


def _on_gpu(
    work: Work,
    judging_seconds: float,
    part: Mapping[str, Any],
    segmenters: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> OnGpu:
    """An iteration of one X-ray, of which several are launched together, unless MedSAM's full size fills the GPU."""
    large = any(_is_large(segmenters[name]) for name in segmenter_names(part["settings"]["roi_term"] or {}))
    together = 1 if large else settings["registration"]["xrays_together"]
    shared = replace(work, launches=work.launches / together, renderings=work.renderings / together)
    return OnGpu(shared, large, 0.0, part["xrays"] * judging_seconds / SECONDS_PER_HOUR)


def _training(
    rule: str, name: str, part: Mapping[str, Any], key: str, step: Step[Any], settings: Mapping[str, Any]
) -> Cost:
    entry = part["settings"][key]
    derived = None
    if step.work.launches:
        derived = OnGpu(step.work, entry.get("type") == "medsam", step.preparation_seconds)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in step.network.state_dict().values())
    return Cost(
        rule=rule,
        what=name,
        jobs=part["jobs"],
        steps=part["jobs"] * entry["epochs"] * entry["batches_per_epoch"],
        step=f"batches of {entry['batch_size']}",
        seconds=step.seconds if derived is None else derived.seconds(ASSUMED_CARD),
        gpu=settings["training"]["gpu"] > 0,
        bytes=part["jobs"] * weights,
        derived=derived,
    )
