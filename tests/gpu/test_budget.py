"""How often a GPU is waited for: blocking reads, bytes copied to it, and float64 work, per iteration and per batch.

Each is the difference of a longer and a shorter run, so that what is done once does not count.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from emulated_gpu import Gpu, emulated_gpu
from registrations import method, registered, two_bones
from trainings import ENCODER_CHANGES, LENGTH, encoder_training, segmenter_training

GPU = torch.device("cuda")
SHORT, LONG = 2, 4
# Three float32 that nanodrr's PyTorch kernel makes of a volume's shape at each rendering. Its Triton kernel does not.
BYTES_OF_A_RENDERING = 12
# In float64: two poses, a homography, the gain of bone in each of four images, and two places in the batch.
BYTES_OF_A_DRR = 8 * (2 * 16 + 9 + 4 + 2)
# In MedSAM, of an image and each of its two ROIs: a box in float32, and the numbers of image and ROI in int64.
BYTES_OF_PROMPTS = 2 * (4 * 4 + 2 * 8)
# The smallest image of these tests.
IMAGE_BYTES = 4096
ENCODER_BATCH = 3
NOTHING = replace(ENCODER_CHANGES, turn_sd_deg=(0.0, 0.0, 0.0), probability=0.0)


@dataclass(frozen=True)
class PerStep:
    """Counts of an iteration or a batch; `float64_in_renderer` is the largest float64 operand there, in bytes.

    `unpinned_bytes` are those copied from memory that is not pinned, for which the driver waits.
    """

    reads: float
    copies: float
    copied_bytes: float
    unpinned_bytes: float
    float64_in_renderer: float


def per_step(run: Callable[[int], None]) -> PerStep:
    """What a step costs, by a function that takes so many steps on the emulated GPU."""
    counts = []
    for steps in (SHORT, LONG):
        with emulated_gpu() as gpu:
            run(steps)
        counts.append(gpu)
    difference = [after - before for before, after in zip(*(_totals(gpu) for gpu in counts), strict=True)]
    reads, copies, copied, unpinned = (total / (LONG - SHORT) for total in difference)
    return PerStep(reads, copies, copied, unpinned, _largest_in_renderer(counts[1]))


def _totals(gpu: Gpu) -> tuple[int, int, int, int]:
    copied, unpinned = (sum(gpu.bytes[kind].values()) for kind in ("h2d", "unpinned"))
    return gpu.total("sync") + gpu.total("d2h"), gpu.total("h2d"), copied, unpinned


def _largest_in_renderer(gpu: Gpu) -> float:
    sizes = [size / gpu.counts["float64"][where] for where, size in gpu.bytes["float64"].items() if "nanodrr" in where]
    return max(sizes, default=0.0)


def registration(roi: str, weights: str, patience: int | None) -> PerStep:
    """Of an iteration by Adam."""

    def run(steps: int) -> None:
        patient, xrays = two_bones(2)
        registered(patient, xrays, method(roi, weights, GPU, iterations=steps, patience=patience), GPU)

    return per_step(run)


@pytest.mark.parametrize(
    ("roi", "weights", "volumes"),
    # The CT, and two labels that are projected; a label that is excluded is not rendered by nanodrr.
    [
        ("none", "none", 1),
        ("none", "coverage and exclusion", 1),
        ("unet, projected", "coverage", 3),
        ("medsam", "none", 1),
        ("mask", "none", 1),
    ],
)
def test_an_iteration_reads_nothing_back_and_copies_no_image(roi: str, weights: str, volumes: int, same_kernels):
    found = registration(roi, weights, patience=None)
    # At the end, poses, objective and terms are read once each; that they grow with the iterations is no read more.
    assert found.reads == 0
    assert found.copied_bytes <= volumes * BYTES_OF_A_RENDERING
    assert found.float64_in_renderer < IMAGE_BYTES


def test_an_iteration_that_may_be_the_last_reads_the_objective_once(same_kernels):
    found = registration("unet", "coverage", patience=100)
    assert found.reads == 1
    assert found.copied_bytes <= BYTES_OF_A_RENDERING


def test_an_online_batch_of_an_encoder_reads_nothing_back_and_copies_no_image(tmp_path: Path, same_kernels):
    def run(steps: int) -> None:
        train = encoder_training("ours", online=True, changes=NOTHING, epochs=1, batches_per_epoch=steps)
        train(tmp_path / str(steps), GPU)

    found = per_step(run)
    # Body and bone, of the CT and of the CT that continues, and at the true and at the estimated pose.
    renderings = 4 + 4
    assert found.reads == 0
    assert found.copied_bytes <= ENCODER_BATCH * BYTES_OF_A_DRR + renderings * BYTES_OF_A_RENDERING
    assert found.float64_in_renderer < IMAGE_BYTES


@pytest.mark.parametrize("name", ["unet", "medsam"])
def test_a_batch_of_a_segmenter_copies_its_images_and_reads_nothing_back(name: str, tmp_path: Path, same_kernels):
    def run(steps: int) -> None:
        length = replace(LENGTH, epochs=1, batches_per_epoch=steps)
        segmenter_training(name, "sgd", length)(tmp_path / str(steps), GPU)

    found = per_step(run)
    images = 2
    prompts = images * BYTES_OF_PROMPTS if name == "medsam" else 0
    assert found.reads == 0
    # float32 images and uint8 ROI numbers.
    assert found.copied_bytes <= images * 32 * 32 * (4 + 1) + prompts
    assert found.unpinned_bytes <= prompts
