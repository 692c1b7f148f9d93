"""Costs of a run from its plan (numbers of jobs and steps); each different step is measured once."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from roireg.data.volume import attenuation_settings
from roireg.estimate.costs import Cost
from roireg.estimate.phantom import phantom
from roireg.estimate.steps import Step, encoder_step, registration_step, segmenter_step
from roireg.register.registry import OPTIMIZERS
from roireg.segment.model import Segmenter
from roireg.training.drrs import settings_from_config

# Voxels of 1 mm along the phantom's side of 360 mm, as in DeepFluoro's CTs.
VOXELS = 360
# Bytes of one iterate in a trace: a pose, the objective, its two terms, and the error, in float64.
TRACE_BYTES = (16 + 4) * 8


def run_costs(
    plan: Mapping[str, Any], settings: Mapping[str, Any], device: torch.device, logger: logging.Logger
) -> list[Cost]:
    """Measure each different step of a plan, and multiply it by the number of steps.

    Args:
        plan: `specimens` (number), `segmenters`, `encoders` and `methods` by name, each with its `settings`, `jobs`
            and, for methods, `xrays`; `drrs` (number of jobs that synthesize DRRs), `xrays` (number).
        settings: sections of the config: `prepare`, `synthesize`, `rois`, `training` and `registration`.
        device: device of jobs that ask for a GPU.
        logger: logs what is being measured.
    """
    rois, size_px = list(settings["rois"]), settings["prepare"]["image_size_px"]
    patient, xray = phantom(rois, size_px, VOXELS)
    synthesis = settings_from_config(settings["synthesize"], attenuation_settings(settings["prepare"]))
    costs, segmenters = [], {}
    for name, part in plan["segmenters"].items():
        logger.info("measuring a batch of %s", name)
        step = segmenter_step(part["settings"], rois, xray, device)
        segmenters[name] = Segmenter(tuple(rois), step.network.eval().requires_grad_(False))
        costs.append(
            _training(f"train_{part['settings']['segmenter']['type']}", name, part, "segmenter", step, settings)
        )
    for name, part in plan["encoders"].items():
        logger.info("measuring a batch of the encoder %s", name)
        entry = part["settings"]["encoder"]
        segmenter = segmenters[part["segmenter"]] if entry["loss"]["roi"] > 0 else None
        step = encoder_step(part["settings"], synthesis, rois, patient, xray, segmenter, device)
        costs.append(_training("train_encoder", name, part, "encoder", step, settings))
    measured: dict[str, float] = {}
    for name, part in plan["methods"].items():
        method, optimizer = part["settings"]["method"], part["settings"]["optimizer"]
        optimizer_kind = OPTIMIZERS[optimizer["type"]]
        by_iteration = optimizer_kind.equal_iterations
        gpu = optimizer_kind.on_gpu and settings["registration"]["gpu"] > 0
        # Methods that differ only in their similarity take about the same time: renderer and networks dominate.
        kind = str((method["roi"], method["optimizer"], method["weights"], by_iteration or method["init"]))
        if kind not in measured:
            logger.info("measuring a registration by %s", name)
            used_device = device if gpu else torch.device("cpu")
            measured[kind] = registration_step(part["settings"], rois, patient, xray, segmenters, used_device)
        iterates = optimizer["iterations"] + 1 if by_iteration else 1
        costs.append(
            Cost(
                rule="register",
                what=name,
                jobs=part["jobs"],
                steps=part["xrays"] * iterates,
                step="iterations" if by_iteration else "X-rays",
                seconds=measured[kind],
                gpu=gpu,
                bytes=part["xrays"] * (iterates if by_iteration else optimizer["iterations"] * 4) * TRACE_BYTES,
            )
        )
    return costs


def _training(rule: str, name: str, part: Mapping[str, Any], key: str, step: Step, settings: Mapping[str, Any]) -> Cost:
    entry = part["settings"][key]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in step.network.state_dict().values())
    return Cost(
        rule=rule,
        what=name,
        jobs=part["jobs"],
        steps=part["jobs"] * entry["epochs"] * entry["batches_per_epoch"],
        step=f"batches of {entry['batch_size']}",
        seconds=step.seconds,
        gpu=settings["training"]["gpu"] > 0,
        bytes=part["jobs"] * weights,
    )
