"""The work of MedSAM's full-size network, counted without computing: a step on a CPU takes minutes and 16 GB."""

import torch

from roireg.estimate.work import Counter, Work
from roireg.segment.medsam import ARCHITECTURES, MedSam
from roireg.segment.network import Prompts

VARIANT = "vit_b"
# Tensors with shapes and without values.
META = torch.device("meta")


def _network() -> MedSam:
    with META:
        return MedSam(ARCHITECTURES[VARIANT])


def _prompts(images: int, rois: int, size_px: int) -> Prompts:
    """A box for each ROI in each image."""
    index = torch.zeros(images * rois, dtype=torch.int64, device=META)
    return Prompts(torch.zeros(images * rois, 4, device=META), index, index, (images, rois), (size_px, size_px))


def training_work(images: int, rois: int, size_px: int) -> Work:
    """Work of a training's batch: forward, backward (with the image encoder's blocks recomputed), and AdamW's step.

    Args:
        images, rois: numbers of images, and of ROIs in each, of the batch.
        size_px: side of the images.
    """
    network = _network().train()
    # As `make_optimizer` does; fused: one kernel for all parameters.
    optimizer = torch.optim.AdamW([part for part in network.parameters() if part.requires_grad], fused=False)
    work = Work()
    with Counter(work):
        network(torch.zeros(images, size_px, size_px, device=META), _prompts(images, rois, size_px)).sum().backward()
    launches = work.launches
    with Counter(work):
        optimizer.step()
    work.launches = launches
    return work


def iteration_work(rois: int, size_px: int) -> Work:
    """Work of an iteration of a registration: probabilities in one DRR, and their gradient to it."""
    network = _network().eval().requires_grad_(False)
    image = torch.zeros(1, size_px, size_px, device=META, requires_grad=True)
    work = Work()
    with Counter(work):
        network.probabilities(image, _prompts(1, rois, size_px)).sum().backward()
    return work
