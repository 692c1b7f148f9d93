"""Training of the U-Net, built from MONAI's blocks, with MONAI's Dice and cross-entropy as loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.losses import DiceCELoss
from monai.networks.blocks import Convolution, ResidualUnit, UpSample
from torch import Tensor

from roireg.placement import sent
from roireg.segment.batches import Fold, SegmenterLoss, TrainingSettings, batches
from roireg.segment.examples import Examples, at_size
from roireg.segment.train import SegmenterTraining
from roireg.segment.unet import DOWN_SIZE, KERNEL_SIZE, NEGATIVE_SLOPE, Blocks, UNet, UNetSettings
from roireg.training.loop import Checkpoint, EpochRecord, fit, torch_seeded

ACTIVATION = ("LEAKYRELU", {"negative_slope": NEGATIVE_SLOPE})
NORM = "INSTANCE"

MONAI_BLOCKS = Blocks(
    unit=lambda inputs, outputs: ResidualUnit(
        2, inputs, outputs, strides=1, kernel_size=KERNEL_SIZE, subunits=2, act=ACTIVATION, norm=NORM
    ),
    down=lambda inputs, outputs: Convolution(
        2, inputs, outputs, strides=DOWN_SIZE, kernel_size=DOWN_SIZE, padding=0, act=ACTIVATION, norm=NORM
    ),
    up=lambda inputs, outputs: UpSample(2, inputs, outputs, scale_factor=DOWN_SIZE, mode="deconv"),
)


def unet_loss(settings: SegmenterLoss) -> DiceCELoss:
    """One minus the mean Dice of background and ROIs, plus cross-entropy; for logits and `(B, 1, H, W)` ROI numbers."""
    return DiceCELoss(
        to_onehot_y=True, softmax=True, squared_pred=settings.squared_dice, lambda_ce=settings.cross_entropy
    )


def train(entry: Mapping[str, Any], training: SegmenterTraining) -> tuple[UNet, list[EpochRecord]]:
    """Train the U-Net that an entry of `segment` describes."""
    return train_unet(
        UNetSettings(entry["image_size_px"], tuple(entry["widths"])),
        training.rois,
        training.sources,
        training.settings,
        training.fold,
        training.checkpoint,
        training.device,
    )


def train_unet(
    architecture: UNetSettings,
    rois: Sequence[str],
    sources: Sequence[Examples],
    settings: TrainingSettings,
    fold: Fold,
    checkpoint: Checkpoint,
    device: torch.device,
) -> tuple[UNet, list[EpochRecord]]:
    """Train a U-Net from random weights. In the Dice, background and all ROIs have equal weight.

    Args:
        architecture: size of the network.
        rois: names, in the order of the output channels.
        sources: training images by source (X-rays, DRRs); a batch has equally many of each.
        settings: settings of the training.
        fold: determines random numbers.
        checkpoint: where the state is saved, and from which training is resumed.
        device: device to train on.
    """
    with torch_seeded(fold.generator("weights")):
        network = UNet(architecture, len(rois), MONAI_BLOCKS).to(device)
    loss = unet_loss(settings.loss)
    at_network_size = [at_size(source, architecture.image_size_px) for source in sources]
    batch = batches(at_network_size, rois, settings, fold, device)

    def loss_of_batch(number: int) -> Float[Tensor, ""]:
        examples = batch(number)
        return loss(network(examples.images), sent(examples.rois, device)[:, None].float())

    return network, fit(network, settings.recipe, settings.length, loss_of_batch, checkpoint)
