"""Training of MedSAM with randomly shifted boxes as prompts and MONAI's Dice and cross-entropy as loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.losses import DiceCELoss
from torch import Tensor

from roireg.drr.rois import roi_boxes_px, roi_channels
from roireg.placement import sent
from roireg.segment.batches import Fold, TrainingSettings, batches
from roireg.segment.examples import Examples
from roireg.segment.medsam import MedSam, MedSamSettings, build_medsam, jittered
from roireg.segment.train import SegmenterTraining
from roireg.training.loop import Checkpoint, EpochRecord, fit, torch_seeded

MEDSAM_GRID_PX = 1024


def train(entry: Mapping[str, Any], training: SegmenterTraining) -> tuple[MedSam, list[EpochRecord]]:
    """Train the MedSAM that an entry of `segment` describes.

    Raises:
        InputError: its pretrained weights cannot be used (see `load_checkpoint`).
    """
    pretrained = entry["checkpoint"] or {"path": None, "sha256": None}
    key = f"segment.{training.fold.segmenter}.checkpoint"
    return train_medsam(
        MedSamSettings(entry["variant"], pretrained["path"], pretrained["sha256"], key),
        training.rois,
        training.sources,
        training.settings,
        entry["box_jitter_px"],
        training.fold,
        training.checkpoint,
        training.device,
    )


def train_medsam(
    architecture: MedSamSettings,
    rois: Sequence[str],
    sources: Sequence[Examples],
    settings: TrainingSettings,
    box_jitter_px: float,
    fold: Fold,
    checkpoint: Checkpoint,
    device: torch.device,
) -> tuple[MedSam, list[EpochRecord]]:
    """Train MedSAM from its checkpoint or random weights; ROIs absent from an image get no prompt and no loss.

    Args:
        architecture: variant and pretrained weights.
        rois: names, in the order of the prompts.
        sources: training images by source (X-rays, DRRs); a batch has equally many of each.
        settings: settings of the training.
        box_jitter_px: largest random shift of a box (paper: 10), in px of MedSAM's grid, 1024 across the image.
        fold: determines random numbers.
        checkpoint: where the state is saved, and from which training is resumed.
        device: device to train on.

    Raises:
        InputError: the pretrained weights cannot be used (see `load_checkpoint`).
    """
    with torch_seeded(fold.generator("weights")):
        network = build_medsam(architecture).to(device)
    loss = DiceCELoss(sigmoid=True)
    batch = batches(sources, rois, settings, fold, device)
    jitter_px = box_jitter_px * sources[0].images.shape[-1] / MEDSAM_GRID_PX

    def loss_of_batch(number: int) -> Float[Tensor, ""]:
        examples = batch(number)
        boxes = jittered(roi_boxes_px(examples.rois, len(rois)), jitter_px, examples.rng)
        height, width = examples.images.shape[-2:]
        prompts = network.prompts(boxes, (height, width), device)
        logits = network(examples.images, prompts)
        if not len(prompts.images):
            return logits.nan_to_num(0, 0, 0).sum() * 0
        shown = prompts.images, prompts.rois
        return loss(logits[shown][:, None], roi_channels(sent(examples.rois, device), len(rois))[shown][:, None])

    return network, fit(network, settings.recipe, settings.length, loss_of_batch, checkpoint)
