"""Recipe of a training: optimizer, learning-rate schedule and clipping of gradients."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

# Fused optimizers take a sixth of the time on a CPU, where a small network's step is mostly overhead.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}


@dataclass(frozen=True)
class Recipe:
    """Optimizer and learning-rate schedule of a training: an entry of `recipes` in the config.

    Attributes:
        optimizer: sgd (Nesterov), adam, or adamw.
        learning_rate: initial learning rate.
        weight_decay: weight decay of the optimizer.
        momentum: momentum of sgd; ignored by other optimizers.
        max_gradient_norm: norm to which longer gradients are clipped; None for no clipping.
        max_gradient_ratio: adaptive clipping (Brock et al. 2021): largest ratio of the norm of a unit's gradient to
            the norm of its weights; None for no clipping.
        schedule: plateau, cosine or constant (updated after each epoch), or warmup_cosine (after each batch).
        warmup_epochs: for warmup_cosine: number of epochs in which the rate grows linearly.
        plateau_factor, plateau_epochs: for plateau: the rate is multiplied by the factor after more than so many epochs
            without a lower loss.
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
    """Length of a training."""

    epochs: int
    batches_per_epoch: int


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer for the given parameters."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
    return OPTIMIZERS[recipe.optimizer](parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)


def make_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, length: Length) -> LRScheduler:
    """The recipe's learning-rate schedule; the `step` of a plateau schedule takes the epoch's loss."""
    schedulers = torch.optim.lr_scheduler
    if recipe.schedule == "plateau":
        return ReduceLROnPlateau(
            optimizer, factor=recipe.plateau_factor, patience=recipe.plateau_epochs, threshold_mode="abs", threshold=0.0
        )
    if recipe.schedule == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, length.epochs)
    if recipe.schedule == "warmup_cosine":
        warmup, total = (epochs * length.batches_per_epoch for epochs in (recipe.warmup_epochs, length.epochs))
        return schedulers.LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
    return schedulers.ConstantLR(optimizer, factor=1.0)


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor on the learning rate at a step: rises linearly to 1 in `warmup` steps, then falls to 0 along a cosine."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


def clip_gradients(parameters: list[nn.Parameter], recipe: Recipe) -> None:
    """Shorten gradients that the recipe calls too long, in place."""
    if recipe.max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(parameters, recipe.max_gradient_norm)
    if recipe.max_gradient_ratio is not None:
        from timm.utils.agc import adaptive_clip_grad

        adaptive_clip_grad(parameters, recipe.max_gradient_ratio)


def end_epoch(schedule: LRScheduler, loss: float) -> None:
    """Step a schedule that goes by epochs, of which the last one had this loss."""
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(loss)
    else:
        schedule.step()
