"""Counts the work of a step, from which its time on a GPU is derived: operations, memory traffic, launches, samples."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from roireg.data.volume import Volume
from roireg.drr.nanodrr import sample_count
from roireg.drr.render import BACKENDS
from roireg.estimate.card import Card
from roireg.geometry.camera import Camera

# Operations that start no kernel on a GPU although they are no views.
NO_KERNEL = ("detach", "alias", "lift_fresh", "empty", "new_empty", "_local_scalar_dense", "_unsafe_view")


@dataclass
class Work:
    """The work of a step.

    Attributes:
        convolutions, products: floating-point operations, two for a multiplication with addition.
        memory_bytes: read and written, by operations without reuse between them.
        bound_bytes: the part of `memory_bytes` of operations that are not convolutions or products.
        launches: number of kernels, at least.
        samples, samples_with_gradient: of renderings without and with a gradient to the pose.
        renderings: number of renderings; one with a gradient counts as two.
        rendering_seconds: time of one core of the CPU's renderer, in whose place a GPU renders.
    """

    convolutions: float = 0.0
    products: float = 0.0
    memory_bytes: float = 0.0
    bound_bytes: float = 0.0
    launches: float = 0.0
    samples: float = 0.0
    samples_with_gradient: float = 0.0
    renderings: float = 0.0
    rendering_seconds: float = 0.0

    def __sub__(self, other: "Work") -> "Work":
        return Work(**{name: value - getattr(other, name) for name, value in vars(self).items()})

    def __add__(self, other: "Work") -> "Work":
        return Work(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def scaled(self, factor: float) -> "Work":
        """That of so many steps."""
        return Work(**{name: value * factor for name, value in vars(self).items()})

    def device_seconds(self, card: Card, bfloat16: bool) -> float:
        """Time on a GPU that is never waited for: arithmetic, traffic of all other operations, and renderings."""
        products = card.bfloat16_flops if bfloat16 else card.float32_flops
        arithmetic = (self.convolutions / card.tf32_flops + self.products / products) / card.arithmetic_efficiency
        traffic = self.bound_bytes / (card.bytes_per_second * card.memory_efficiency)
        samples = self.samples + self.samples_with_gradient * (1 + card.backward_samples)
        return arithmetic + traffic + samples / card.samples_per_second

    def host_seconds(self, card: Card) -> float:
        """Time of the core that sends the work to the GPU."""
        return (self.launches + self.renderings * card.launches_per_rendering) * card.launch_seconds


def _size(leaves: list[Any]) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))


class Counter(TorchDispatchMode):
    """Adds the work of what is computed in it to `work`."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.paused = False

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Context whose operations are not counted."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self.paused and not _is_free(func):
            self._add(func, args, kwargs, out)
        return out

    def _add(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        size = _size(tree_leaves((args, kwargs))) + _size(tree_leaves(out))
        self.work.launches += 1
        self.work.memory_bytes += size
        packet = func.overloadpacket
        if packet not in flop_registry:
            self.work.bound_bytes += size
            return
        flops = flop_registry[packet](*args, **kwargs, out_val=out)
        if "convolution" in packet.__name__:
            self.work.convolutions += flops
        else:
            self.work.products += flops


def _is_free(func: Any) -> bool:
    returns = func._schema.returns
    view = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
    return view or func._schema.name.removeprefix("aten::").startswith(NO_KERNEL)


@contextmanager
def counted() -> Iterator[Work]:
    """Context that counts the work of what is computed in it, on the CPU, as a GPU would do it."""
    work = Work()
    counter = Counter(work)
    with counted_renderings(work, counter), counter:
        yield work


@contextmanager
def counted_renderings(work: Work, counter: Counter | None = None) -> Iterator[None]:
    """Context in which the CPU's renderings are added to `work`, and their operations are hidden from `counter`."""
    on_cpu = BACKENDS["fused"]

    def render(volume: Volume, camera: Camera, pose: Tensor, step_mm: float) -> Tensor:
        depth, rows, columns = volume.values.shape
        count = sample_count((depth, rows, columns), volume.spacing_mm, step_mm)
        samples = float(len(pose) * camera.height * camera.width * count)
        gradient = torch.is_grad_enabled() and pose.requires_grad
        began = time.process_time()
        with nullcontext() if counter is None else counter.pausing():
            image = on_cpu(volume, camera, pose, step_mm)
        work.rendering_seconds += time.process_time() - began
        work.renderings += 2 if gradient else 1
        if gradient:
            work.samples_with_gradient += samples
        else:
            work.samples += samples
        return image

    BACKENDS["fused"] = render
    try:
        yield
    finally:
        BACKENDS["fused"] = on_cpu


@contextmanager
def uncounted() -> Iterator[Work]:
    """Context that counts nothing, for steps that are timed."""
    yield Work()


@dataclass(frozen=True)
class Measuring:
    """How steps are measured.

    Attributes:
        steps: number of steps that are taken, of which the last is measured.
        count: context that counts the work.
    """

    steps: int
    count: Callable[[], AbstractContextManager[Work]]


# The first step includes initialisation, which must not be timed; operations can be counted at once.
TIMED, COUNTED = Measuring(2, uncounted), Measuring(1, counted)
