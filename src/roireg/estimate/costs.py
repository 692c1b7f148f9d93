"""Converts seconds per step to hours of a run, and writes them as a Markdown table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from roireg.estimate.card import ASSUMED_CARD, Card
from roireg.estimate.work import Work

SECONDS_PER_HOUR, BYTES_PER_GB = 3600.0, 1e9


@dataclass(frozen=True)
class OnGpu:
    """What a step on a GPU is derived from, if it cannot be measured.

    Attributes:
        work: counted work of a step.
        bfloat16: whether products of matrices are rounded to bfloat16.
        core_seconds: time of one core for a step beside the launches, such as the augmentation of a batch.
        waiting_hours: hours in all in which the GPU waits for a core, such as the judgement of results.
    """

    work: Work
    bfloat16: bool
    core_seconds: float
    waiting_hours: float = 0.0

    def device_seconds(self, card: Card) -> float:
        """Time of a step on the GPU."""
        return self.work.device_seconds(card, self.bfloat16)

    def host_seconds(self, card: Card) -> float:
        """Time of one core for a step."""
        return self.core_seconds + self.work.host_seconds(card)

    def seconds(self, card: Card) -> float:
        """Time of a step: the GPU computes while the core prepares and launches, and neither waits for the other."""
        return max(self.device_seconds(card), self.host_seconds(card))


@dataclass(frozen=True)
class Cost:
    """A line of the estimate: all jobs of one rule for one network or method.

    Attributes:
        rule, what: name of the rule, and of the network or method.
        jobs: number of jobs.
        steps: number of steps of all jobs together.
        step: what a step is, such as "batches of 8".
        seconds: measured time of one step; of one that is derived, the derived time.
        gpu: whether the jobs ask for a GPU.
        bytes: size of the files of all jobs.
        derived: what the time is derived from; None if it was measured.
    """

    rule: str
    what: str
    jobs: int
    steps: int
    step: str
    seconds: float
    gpu: bool
    bytes: float = 0.0
    derived: OnGpu | None = None

    @property
    def hours(self) -> float:
        """Hours of all jobs on their device."""
        waiting = 0.0 if self.derived is None else self.derived.waiting_hours
        return self.steps * self.seconds / SECONDS_PER_HOUR + waiting

    def hours_on(self, card: Card) -> float:
        """`hours`, derived for another card if they are derived."""
        return self.hours if self.derived is None else replace(self, seconds=self.derived.seconds(card)).hours


def report(costs: Sequence[Cost], cpu_gflops: float, data_bytes: float) -> str:
    """The estimate as a Markdown table with notes.

    Args:
        costs: lines of the table.
        cpu_gflops: speed of the machine where steps were measured, in GFLOP/s (see `roireg.estimate.steps.gflops`).
        data_bytes: size of dataset, prepared specimens and DRRs.
    """
    lines = [
        "| rule | for | jobs | steps | s per step | core-hours | GPU-hours | GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        core, gpu = (None, cost.hours) if cost.gpu else (cost.hours, None)
        cells = (
            *(cost.rule, cost.what, f"{cost.jobs}", f"{cost.steps:,} {cost.step}", f"{cost.seconds:.3g}"),
            *(
                "–" if core is None else f"{core:.1f}",
                "–" if gpu is None else f"{gpu:.1f}",
                f"{cost.bytes / BYTES_PER_GB:.1f}",
            ),
        )
        lines.append("| " + " | ".join(cells) + " |")
    core, gpu = (sum(cost.hours for cost in costs if cost.gpu is kind) for kind in (False, True))
    jobs, size = sum(cost.jobs for cost in costs), sum(cost.bytes for cost in costs) / BYTES_PER_GB
    lines.append(f"| **all** | | {jobs} | | | **{core:.1f}** | **{gpu:.1f}** | **{size:.1f}** |")
    notes = [
        "Steps were measured with a phantom and untrained networks of the run's sizes; training does not change their "
        "cost. Methods that differ only in their similarity were measured once. Preparation, tables, figures (minutes) "
        "and downloads are not included.",
        f"Dataset, prepared specimens and DRRs take {data_bytes / BYTES_PER_GB:.1f} GB more. A run that does not fit "
        "on the disk ends before its first job.",
        "The estimate assumes that Adam does all its iterations; it stops earlier if `patience` is set.",
        f"Core-hours are hours of one core of this machine, which does {cpu_gflops:.0f} GFLOP/s in a matrix product. "
        "Jobs that ask for a GPU have GPU-hours, others core-hours; without GPUs (`training.gpu`, `registration.gpu`: "
        "0) all are core-hours.",
    ]
    lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join([*lines, *_derivation(costs, ASSUMED_CARD)]) + "\n"


def _derivation(costs: Sequence[Cost], card: Card) -> list[str]:
    """Lines on how the GPU-hours were derived; none if they were measured."""
    derived = [(cost, cost.derived) for cost in costs if cost.derived is not None]
    if not derived:
        return []
    lines = [
        "",
        f"GPU-hours were NOT measured: this machine has no GPU. They are derived for one {card.name}, from operations "
        f"at {card.arithmetic_efficiency:.0%} of its peaks ({card.tf32_flops / 1e12:.0f} TFLOP/s in convolutions, "
        f"{card.float32_flops / 1e12:.0f} in products of matrices, {card.bfloat16_flops / 1e12:.0f} in MedSAM's), "
        f"traffic at {card.memory_efficiency:.0%} of {card.bytes_per_second / 1e9:.0f} GB/s, "
        f"{card.samples_per_second / 1e9:.0f} billion samples a second of the renderer, and "
        f"{card.launch_seconds * 1e6:.0f} us of one core for each launch (`src/roireg/estimate/card.py` has the "
        "sources). A step takes as long as the slower of card and core.",
        "",
        "| for | convolutions, TFLOP | products, TFLOP | other traffic, GB | samples, 10^9 | launches | "
        "card, ms | core, ms | waiting, h |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cost, step in derived:
        work = step.work
        numbers = (
            *(work.convolutions / 1e12, work.products / 1e12, work.bound_bytes / 1e9),
            (work.samples + work.samples_with_gradient) / 1e9,
        )
        cells = (
            *(cost.what, *(f"{number:.3g}" for number in numbers), f"{work.launches:,.0f}"),
            *(f"{step.device_seconds(card) * 1e3:.1f}", f"{step.host_seconds(card) * 1e3:.1f}"),
            f"{step.waiting_hours:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, *_sensitivity([cost for cost in costs if cost.gpu], card)]


def _sensitivity(costs: Sequence[Cost], card: Card) -> list[str]:
    """Lines on what the GPU-hours become where one assumption is twice too good."""
    others = {
        f"arithmetic reaches {card.arithmetic_efficiency / 2:.0%} of its peaks": replace(
            card, arithmetic_efficiency=card.arithmetic_efficiency / 2
        ),
        f"traffic reaches {card.memory_efficiency / 2:.0%} of its peak": replace(
            card, memory_efficiency=card.memory_efficiency / 2
        ),
        f"a gradient to the pose costs {2 * card.backward_samples:g} images": replace(
            card, backward_samples=2 * card.backward_samples
        ),
        f"a launch takes {2e6 * card.launch_seconds:.0f} us": replace(card, launch_seconds=2 * card.launch_seconds),
    }
    rows = [f"| {what} | {sum(cost.hours_on(other) for cost in costs):.1f} |" for what, other in others.items()]
    return ["", "| if | GPU-hours in all |", "|---|---|", *rows]
