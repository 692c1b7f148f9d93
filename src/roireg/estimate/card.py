"""The GPU that an estimate assumes where none can be measured: its rates, each with its source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """Rates of a GPU and of the core that feeds it.

    Attributes:
        name: of the card.
        tf32_flops, float32_flops, bfloat16_flops: peak operations per second: of convolutions, of products of matrices,
            and of those of MedSAM (`roireg.precision`).
        bytes_per_second: peak of its memory.
        arithmetic_efficiency, memory_efficiency: fractions of these peaks that are reached.
        samples_per_second: trilinear samples of nanodrr's Triton kernel.
        backward_samples: samples that a gradient to the pose costs, relative to the image.
        launch_seconds: time of one core for each operation: Python, torch's dispatcher, the driver.
        launches_per_rendering: operations in whose place nanodrr's Triton rendering takes its time of one core.
    """

    name: str
    tf32_flops: float
    float32_flops: float
    bfloat16_flops: float
    bytes_per_second: float
    arithmetic_efficiency: float
    memory_efficiency: float
    samples_per_second: float
    backward_samples: float
    launch_seconds: float
    launches_per_rendering: int


# Peaks: NVIDIA's data sheet of the card (dense tensor rates: half of those it gives for sparse matrices). Samples and
# launches: nanodrr's benchmark on this card (README of version 0.1.7, and tests/benchmark/benchmark.csv of its
# repository): 8717 images of 200x200 rays with 500 samples a second, and 336 us of one core for each. Assumptions:
# efficiencies; a gradient reads the same voxels once more and computes twice as much; the time of a launch.
ASSUMED_CARD = Card(
    name="RTX 6000 Ada",
    tf32_flops=182e12,
    float32_flops=91e12,
    bfloat16_flops=364e12,
    bytes_per_second=960e9,
    arithmetic_efficiency=0.4,
    memory_efficiency=0.8,
    samples_per_second=8717 * 200 * 200 * 500,
    backward_samples=2.0,
    launch_seconds=10e-6,
    launches_per_rendering=34,
)
