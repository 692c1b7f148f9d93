"""Converts seconds per step to hours of a run, and writes them as a Markdown table."""

from collections.abc import Sequence
from dataclasses import dataclass

# Assumed speed of a GPU if there is none to measure: billions of float32 operations per second in the networks used.
ASSUMED_GPU_GFLOPS = 10_000.0
SECONDS_PER_HOUR, BYTES_PER_GB = 3600.0, 1e9


@dataclass(frozen=True)
class Cost:
    """A line of the estimate: all jobs of one rule for one network or method.

    Attributes:
        rule, what: name of the rule, and of the network or method.
        jobs: number of jobs.
        steps: number of steps of all jobs together.
        step: what a step is, such as "batches of 8".
        seconds: measured time of one step.
        gpu: whether the jobs ask for a GPU.
        bytes: size of the files of all jobs.
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
        """Hours of all jobs on the device where the step was measured."""
        return self.steps * self.seconds / SECONDS_PER_HOUR


def report(costs: Sequence[Cost], cpu_gflops: float, on_gpu: bool) -> str:
    """The estimate as a Markdown table with notes.

    Args:
        costs: lines of the table.
        cpu_gflops: speed of the machine where steps were measured, in GFLOP/s (see `roireg.estimate.steps.gflops`).
        on_gpu: whether steps of jobs that ask for a GPU were measured on one.
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
    pairs = [hours(cost, cpu_gflops, on_gpu) for cost in costs]
    core, gpu = (sum(pair[index] or 0.0 for pair in pairs) for index in (0, 1))
    jobs, size = sum(cost.jobs for cost in costs), sum(cost.bytes for cost in costs) / BYTES_PER_GB
    lines.append(f"| **all** | | {jobs} | | | **{core:.1f}** | **{gpu:.1f}** | **{size:.1f}** |")
    notes = [
        "Steps were measured on this machine with a phantom and untrained networks of the run's sizes; training does "
        "not change their speed. Methods that differ only in their similarity were measured once. Preparation, tables, "
        "figures (minutes) and downloads are not included.",
        "The estimate assumes that Adam does all its iterations; it stops earlier if `patience` is set.",
        f"Core-hours are hours of one core of this machine, which does {cpu_gflops:.0f} GFLOP/s in a matrix product. "
        "Jobs that ask for a GPU have GPU-hours, others core-hours; without GPUs (`training.gpu`, `registration.gpu`: "
        "0) all are core-hours.",
    ]
    if gpu and not on_gpu:
        notes.append(
            f"GPU-hours were NOT measured because this machine has no GPU. They are core-hours times {cpu_gflops:.0f} "
            f"/ {ASSUMED_GPU_GFLOPS:,.0f} GFLOP/s: an order of magnitude only."
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def hours(cost: Cost, cpu_gflops: float, on_gpu: bool) -> tuple[float | None, float | None]:
    """Core-hours and GPU-hours of a line; one of them is None."""
    if not cost.gpu:
        return cost.hours, None
    return None, cost.hours if on_gpu else cost.hours * cpu_gflops / ASSUMED_GPU_GFLOPS
