"""Training loop with bit-exact resume from checkpoints."""

import hashlib
import json
import logging
import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from roireg.data.readers.checksums import check_archive
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.pace import Pace
from roireg.training.recipe import Length, Recipe, clip_gradients, end_epoch, make_optimizer, make_schedule

CHECKPOINT_SECONDS = 5.0
SEED_LIMIT = 2**63
KIB_PER_MIB, BYTES_PER_MIB = 2**10, 2**20
logger = logging.getLogger("roireg")


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often training saves its state.

    Attributes:
        path: checkpoint file. It must not be an output of the Snakemake rule: outputs of a failed job are deleted.
        fingerprint: hash of data, settings and code; a checkpoint with another fingerprint is ignored.
        every_seconds: shortest time between two saves.
    """

    path: Path
    fingerprint: str
    every_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True)
class EpochRecord:
    """A point of the learning curve.

    Attributes:
        epoch: counted from 0.
        loss: mean loss of the epoch's batches.
        learning_rate: learning rate at the start of the epoch.
        seconds: time since the start of the training.
        measures: further values measured after the epoch, by name.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    measures: dict[str, float] = field(default_factory=dict)


def fingerprint(settings: Any, tensors: Iterable[Tensor]) -> str:
    """Hash of settings (any value that JSON can represent) and of tensors."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def torch_seeded(rng: np.random.Generator) -> Iterator[None]:
    """Context in which torch's global generator is seeded from `rng`; its state is restored afterwards.

    Needed because modules draw their initial weights from the global generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(SEED_LIMIT)))
        yield


def _nothing(epoch: int) -> dict[str, float]:
    return {}


def fit(
    network: nn.Module,
    recipe: Recipe,
    length: Length,
    loss_of_batch: Callable[[int], Float[Tensor, ""]],
    checkpoint: Checkpoint,
    measure: Callable[[int], dict[str, float]] = _nothing,
) -> list[EpochRecord]:
    """Train a network in place.

    Args:
        network: the network; those of its parameters that require a gradient are trained.
        recipe, length: optimizer and schedule; number of epochs and batches.
        loss_of_batch: returns the loss of the batch with the given number, counted from 0 over all epochs. It must
            depend on that number and the network only; otherwise a resumed training has another result.
        checkpoint: where the state is saved. The caller deletes the file once the result is written.
        measure: returns further values to record after the epoch of the given number, by name.

    Returns:
        The learning curve, including the epochs before an interruption.

    Raises:
        InputError: the loss is infinite or NaN.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(recipe, parameters)
    schedule = make_schedule(recipe, optimizer, length)
    history = _resume(checkpoint, network, optimizer, schedule)
    before = history[-1].seconds if history else 0.0
    start = saved = time.perf_counter()
    pace = Pace()
    network.train()
    for epoch in range(len(history), length.epochs):
        rate = optimizer.param_groups[0]["lr"]
        losses = []
        for batch in range(epoch * length.batches_per_epoch, (epoch + 1) * length.batches_per_epoch):
            optimizer.zero_grad()
            loss = loss_of_batch(batch)
            loss.backward()
            clip_gradients(parameters, recipe)
            optimizer.step()
            if recipe.schedule == "warmup_cosine":
                schedule.step()
            losses.append(loss.detach())
        # Read once an epoch: a GPU goes on computing meanwhile.
        mean = float(np.mean(torch.stack(losses).tolist()))
        if not math.isfinite(mean):
            raise InputError("config: recipes", f"the loss of epoch {epoch + 1} is {mean}", "Lower the learning rate")
        if recipe.schedule != "warmup_cosine":
            end_epoch(schedule, mean)
        measures = measure(epoch)
        now = time.perf_counter()
        history.append(EpochRecord(epoch, mean, rate, before + now - start, measures))
        if now - saved >= checkpoint.every_seconds:
            _save(checkpoint, network, optimizer, schedule, history)
            saved = now
        if pace.due(epoch + 1, length.epochs):
            remaining = (length.epochs - epoch - 1) * history[-1].seconds / (epoch + 1)
            logger.info("epoch %d/%d, loss %.4f, %.0f s left", epoch + 1, length.epochs, mean, remaining)
    network.eval()
    return history


def _save(
    checkpoint: Checkpoint,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    history: list[EpochRecord],
) -> None:
    state = {
        "fingerprint": checkpoint.fingerprint,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": [asdict(record) for record in history],
    }
    with atomic_path(checkpoint.path) as path:
        torch.save(state, path)


def _resume(
    checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> list[EpochRecord]:
    if not checkpoint.path.is_file():
        return []
    try:
        # Torch does not look at its archives' checksums.
        check_archive(checkpoint.path)
        state = dict(torch.load(checkpoint.path, map_location="cpu", weights_only=True))
        of_this_training = state["fingerprint"] == checkpoint.fingerprint
    except Exception as error:  # torch does not document what it raises for a damaged file
        logger.warning(
            "%s cannot be read (%s): training starts from the beginning", checkpoint.path, type(error).__name__
        )
        return []
    if not of_this_training:
        logger.info("%s has other settings, data or code: training starts from the beginning", checkpoint.path)
        return []
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    history = [EpochRecord(**record) for record in state["history"]]
    logger.info("resuming after epoch %d of %s", len(history), checkpoint.path)
    return history


def write_metrics(
    path: str | Path, history: list[EpochRecord], seed: int, device: torch.device, facts: dict[str, Any]
) -> None:
    """Write a training's learning curve, run time, memory and versions as JSON, atomically.

    Args:
        path: the file.
        history: the learning curve.
        seed: seed of the config.
        device: device of the training.
        facts: further entries, such as the number of training images.
    """
    on_gpu = device.type == "cuda"
    metrics = {
        "seed": seed,
        "versions": {name: version(name) for name in ("roireg", "torch", "monai", "segment-anything", "numpy")},
        "device": torch.cuda.get_device_name(device) if on_gpu else f"cpu, {torch.get_num_threads()} threads",
        "seconds": history[-1].seconds,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MIB),
        "peak_gpu_memory_mib": round(torch.cuda.max_memory_allocated(device) / BYTES_PER_MIB) if on_gpu else None,
        **facts,
        "learning_curve": [asdict(record) for record in history],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
