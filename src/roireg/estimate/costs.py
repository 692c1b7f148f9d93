"""From seconds of steps to hours of a run, as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

# What a GPU is taken to do where none could be measured: billions of float32 operations in a second, in such networks.
ASSUMED_GPU_GFLOPS = 10_000.0
SECONDS_PER_HOUR, BYTES_PER_GB = 3600.0, 1e9


@dataclass(frozen=True)
class Cost:
    """A line of the estimate.

    Attributes:
        rule, what: of which rule, and for what.
        jobs: so many.
        steps: of all jobs.
        step: what a step is.
        seconds: of one step.
        gpu: whether the jobs ask for a GPU.
        bytes: what all jobs leave on the disk.
    """

    rule: str
    what: str
    jobs: int
    steps: int
    step: str
    seconds: float
    gpu: bool
    bytes: float = 0.0

    @property
    def hours(self) -> float:
        """Of all jobs, where the step was measured."""
        return self.steps * self.seconds / SECONDS_PER_HOUR


def report(costs: Sequence[Cost], cpu_gflops: float, on_gpu: bool) -> str:
    """The estimate as Markdown.

    Args:
        costs: lines, in their order.
        cpu_gflops: of the machine where steps were measured.
        on_gpu: steps of jobs with a GPU were measured on one.
    """
    lines = [
        "| rule | for | jobs | steps | s per step | core-hours | GPU-hours | GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        core, gpu = hours(cost, cpu_gflops, on_gpu)
        cells = (
            *(cost.rule, cost.what, f"{cost.jobs}", f"{cost.steps:,} {cost.step}", f"{cost.seconds:.3g}"),
            *(
                "–" if core is None else f"{core:.1f}",
                "–" if gpu is None else f"{gpu:.1f}",
                f"{cost.bytes / BYTES_PER_GB:.1f}",
            ),
        )
        lines.append("| " + " | ".join(cells) + " |")
    found = [hours(cost, cpu_gflops, on_gpu) for cost in costs]
    core, gpu = (sum(pair[index] or 0.0 for pair in found) for index in (0, 1))
    jobs, size = sum(cost.jobs for cost in costs), sum(cost.bytes for cost in costs) / BYTES_PER_GB
    lines.append(f"| **all** | | {jobs} | | | **{core:.1f}** | **{gpu:.1f}** | **{size:.1f}** |")
    notes = [
        "Steps were measured on this machine with untrained networks of the run's sizes and a phantom; time "
        "does not depend on what networks know. Methods that differ in their similarity alone were measured once. "
        "Preparation, tables and figures (minutes) and the download are not in it.",
        "Adam is taken to do all its iterations; it ends earlier where `patience` is set.",
        f"Core-hours: by one core of this machine, {cpu_gflops:.0f} GFLOP/s in a product of matrices. A line has hours "
        "where its jobs run; without GPUs (`training.gpu`, `registration.gpu`: 0) all are core-hours.",
    ]
    if gpu and not on_gpu:
        notes.append(
            f"GPU-hours were NOT measured, for there is no GPU here: core-hours times {cpu_gflops:.0f} / "
            f"{ASSUMED_GPU_GFLOPS:,.0f} GFLOP/s. Take them for an order of magnitude."
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def hours(cost: Cost, cpu_gflops: float, on_gpu: bool) -> tuple[float | None, float | None]:
    """Core-hours and GPU-hours of a line, of which it has one."""
    if not cost.gpu:
        return cost.hours, None
    return None, cost.hours if on_gpu else cost.hours * cpu_gflops / ASSUMED_GPU_GFLOPS
