"""Training that survives a kill: epochs, and a checkpoint from which they go on as if nothing had happened."""

import hashlib
import json
import logging
import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from roireg.errors import InputError
from roireg.files import atomic_path

# Fused: a sixth of the time on a CPU, where a small network's step is mostly overhead.
OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}
CHECKPOINT_SECONDS = 5.0
SEED_LIMIT = 2**63
KIB_PER_MIB, BYTES_PER_MIB = 2**10, 2**20
logger = logging.getLogger("roireg")


@dataclass(frozen=True)
class Recipe:
    """An entry of `recipes` in the config.

    Attributes:
        optimizer: sgd (Nesterov), adam, or adamw.
        learning_rate: at the start.
        weight_decay: of the optimizer.
        momentum: of sgd; other optimizers do not read it.
        max_gradient_norm: longer gradients are shortened to it; None for no limit.
        max_gradient_ratio: adaptive clipping (Brock et al. 2021): a unit's gradient is shortened to so large a share
            of its weights' norm; None for no limit.
        schedule: plateau, cosine, or constant, with one step an epoch; or warmup_cosine, with one step a batch.
        warmup_epochs: of warmup_cosine: the rate grows linearly for so long.
        plateau_factor, plateau_epochs: of plateau: times the factor after more than so many epochs without a lower
            loss.
    """

    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    max_gradient_norm: float | None
    max_gradient_ratio: float | None
    schedule: str
    warmup_epochs: int
    plateau_factor: float
    plateau_epochs: int


@dataclass(frozen=True)
class Length:
    """How long to train."""

    epochs: int
    batches_per_epoch: int


@dataclass(frozen=True)
class Checkpoint:
    """Where training leaves its state.

    Attributes:
        path: a file beside the output, not an output: Snakemake deletes the outputs of a failed job.
        fingerprint: of data, settings and code; a file with another one is not resumed from.
        every_seconds: least time between two files.
    """

    path: Path
    fingerprint: str
    every_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True)
class EpochRecord:
    """A point of the learning curve.

    Attributes:
        epoch: counted from 0.
        loss: mean of the epoch's batches.
        learning_rate: at the epoch's start.
        seconds: since the start of the training.
        measures: what else was measured after the epoch, by name.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    measures: dict[str, float] = field(default_factory=dict)


def fingerprint(settings: Any, tensors: Iterable[Tensor]) -> str:
    """Hash of settings (anything that JSON can hold) and data."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer over some parameters."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
    return OPTIMIZERS[recipe.optimizer](parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)


def make_schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, length: Length
) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's schedule; a plateau schedule takes the epoch's loss with its step."""
    schedulers = torch.optim.lr_scheduler
    if recipe.schedule == "plateau":
        return schedulers.ReduceLROnPlateau(
            optimizer, factor=recipe.plateau_factor, patience=recipe.plateau_epochs, threshold_mode="abs", threshold=0.0
        )
    if recipe.schedule == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, length.epochs)
    if recipe.schedule == "warmup_cosine":
        warmup, total = (epochs * length.batches_per_epoch for epochs in (recipe.warmup_epochs, length.epochs))
        return schedulers.LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
    return schedulers.ConstantLR(optimizer, factor=1.0)


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Share of the learning rate at a step: up linearly to 1 for `warmup` steps, then down to 0 along a cosine."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


@contextmanager
def torch_seeded(rng: np.random.Generator) -> Iterator[None]:
    """Torch's global generator, from which modules draw, torch_seeded by `rng` and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(SEED_LIMIT)))
        yield


def _clip(parameters: list[nn.Parameter], recipe: Recipe) -> None:
    if recipe.max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(parameters, recipe.max_gradient_norm)
    if recipe.max_gradient_ratio is not None:
        from timm.utils.agc import adaptive_clip_grad

        adaptive_clip_grad(parameters, recipe.max_gradient_ratio)


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
        network: parameters that require a gradient are trained.
        recipe, length: how, and how long.
        loss_of_batch: the loss of the batch of a given number, counted from 0 over all epochs. It must depend on that
            number and the network only, or training that was resumed ends elsewhere.
        checkpoint: removed at the end by the caller, once the result is safe.
        measure: what to measure after each epoch, by name; it gets the epoch's number.

    Returns:
        The learning curve, with the epochs before an interruption.

    Raises:
        InputError: the loss is no longer a number.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(recipe, parameters)
    schedule = make_schedule(recipe, optimizer, length)
    history = _resume(checkpoint, network, optimizer, schedule)
    before = history[-1].seconds if history else 0.0
    start = saved = time.perf_counter()
    network.train()
    for epoch in range(len(history), length.epochs):
        rate = optimizer.param_groups[0]["lr"]
        losses = []
        for batch in range(epoch * length.batches_per_epoch, (epoch + 1) * length.batches_per_epoch):
            optimizer.zero_grad()
            loss = loss_of_batch(batch)
            loss.backward()
            _clip(parameters, recipe)
            optimizer.step()
            if recipe.schedule == "warmup_cosine":
                schedule.step()
            losses.append(loss.detach())
        # Read once an epoch: a GPU goes on computing meanwhile.
        mean = float(np.mean(torch.stack(losses).tolist()))
        if not math.isfinite(mean):
            raise InputError("config: recipes", f"the loss of epoch {epoch + 1} is {mean}", "Lower the learning rate")
        if recipe.schedule != "warmup_cosine":
            schedule.step(*([mean] if recipe.schedule == "plateau" else []))
        measures = measure(epoch)
        now = time.perf_counter()
        history.append(EpochRecord(epoch, mean, rate, before + now - start, measures))
        if now - saved >= checkpoint.every_seconds:
            _save(checkpoint, network, optimizer, schedule, history)
            saved = now
        yet = (length.epochs - epoch - 1) * history[-1].seconds / (epoch + 1)
        logger.info("epoch %d/%d, loss %.4f, %.0f s left", epoch + 1, length.epochs, mean, yet)
    network.eval()
    return history


def _save(checkpoint: Checkpoint, network: nn.Module, optimizer, schedule, history: list[EpochRecord]) -> None:
    state = {
        "fingerprint": checkpoint.fingerprint,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": [asdict(record) for record in history],
    }
    with atomic_path(checkpoint.path) as path:
        torch.save(state, path)


def _resume(checkpoint: Checkpoint, network: nn.Module, optimizer, schedule) -> list[EpochRecord]:
    if not checkpoint.path.is_file():
        return []
    try:
        state = dict(torch.load(checkpoint.path, map_location="cpu", weights_only=True))
        of_this_training = state["fingerprint"] == checkpoint.fingerprint
    except Exception as error:  # what the reader of a damaged file raises is not documented
        logger.warning("%s cannot be read (%s): starting anew", checkpoint.path, type(error).__name__)
        return []
    if not of_this_training:
        logger.info("%s is of other settings or data: starting anew", checkpoint.path)
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
    """Write what there is to know of a training as JSON, whole or not at all.

    Args:
        path: the file.
        history: the learning curve.
        seed: the config's.
        device: on which it ran.
        facts: what else to say, such as how many images there were.
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
        temporary.write_text(json.dumps(metrics, indent=1) + "\n")
