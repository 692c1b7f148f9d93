"""Trainings of every kind, small, on any device; they can be killed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from registrations import ROIS, segmenter, two_bones
from torch import Tensor, nn

from roireg.data.xray import expected_pose
from roireg.encode.augment import EncoderAugmentation
from roireg.encode.losses import EncoderLoss
from roireg.encode.settings import training_data
from roireg.encode.train import EncoderSettings, Run, train_encoder
from roireg.segment.augment import SegmenterAugmentation
from roireg.segment.batches import Fold, TrainingSettings
from roireg.segment.examples import drr_examples
from roireg.segment.medsam import MedSamSettings
from roireg.segment.train_medsam import train_medsam
from roireg.segment.train_unet import train_unet
from roireg.segment.unet import UNetSettings
from roireg.training.drrs import DrrPool, SynthesisSettings, pool_of, synthesize
from roireg.training.loop import Checkpoint, EpochRecord
from roireg.training.recipe import Length, Recipe

SIZE_PX = 32
STEP_MM = 4.0
LENGTH = Length(epochs=3, batches_per_epoch=2)
RECIPES = {
    "adam": Recipe("adam", 5e-3, 0.0, 0.0, 12.0, None, "cosine", 0, 0.1, 10),
    "adamw": Recipe("adamw", 5e-3, 0.01, 0.0, None, 0.05, "warmup_cosine", 1, 0.1, 10),
    "sgd": Recipe("sgd", 5e-3, 0.0, 0.9, None, None, "plateau", 0, 0.1, 10),
}
SYNTHESIS = SynthesisSettings(
    count=4,
    rotation_sd_deg=(6.0, 8.0, 7.0),
    translation_sd_mm=(14.0, 15.0, 16.0),
    bone_contrast=(1.0, 2.0),
    bone_above_per_mm=0.03,
    min_roi_fraction=0.0,
    continued_fraction=0.5,
    continued_mm=20.0,
)
SEGMENTER_CHANGES = SegmenterAugmentation(
    probability=0.5,
    mirror_probability=0.0,
    invert_probability=0.5,
    rotation_deg=10.0,
    shift_fraction=0.1,
    scale_fraction=0.1,
    gamma=(0.7, 1.4),
    noise_sd=0.05,
    boxes=2,
    box_fraction=0.2,
)
ENCODER_CHANGES = EncoderAugmentation(
    (1.0, 1.0, 4.0), probability=0.5, gamma=(0.5, 2.0), light=0.3, blur_sigma_px=(0.3, 1.5), noise_sd=0.03, rods=3
)
LOSSES = {
    "ours": {"geodesic": 1e-2, "roi": 0.1, "similarity": "mncc", "reconstruction": 0.0, "latent": 0.0},
    "psss": {"geodesic": 1e-2, "roi": 0.0, "similarity": "none", "reconstruction": 1.0, "latent": 0.01},
}
NETWORKS = {
    "ours": {"type": "resnet", "image_size_px": SIZE_PX, "layers": [1, 1, 1, 1], "widths": [8, 8, 16, 16]},
    "psss": {"type": "attention_autoencoder", "image_size_px": SIZE_PX, "widths": [6, 12, 16], "heads": 4},
}


class Killed(BaseException):
    """Ends a training in the middle of an epoch."""


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights, and the learning curve without its times."""

    network: nn.Module
    history: list[EpochRecord]

    def equals(self, other: "Trained") -> bool:
        """Bit for bit, wherever they were computed."""
        pairs = zip(self.network.state_dict().values(), other.network.state_dict().values(), strict=True)
        curves = ([replace(record, seconds=0.0) for record in one.history] for one in (self, other))
        mine, theirs = curves
        return mine == theirs and all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)


# From the folder of the checkpoint and a device to what was trained.
Training = Callable[[Path, torch.device], Trained]


def drr_pool() -> DrrPool:
    """A few DRRs with their ROIs."""
    patient, (xray, *_) = two_bones(1)
    camera = xray.camera.resized(SIZE_PX, SIZE_PX)
    pa = expected_pose(patient, xray)
    return pool_of(list(synthesize(patient, camera, pa, ROIS, SYNTHESIS, STEP_MM, 0)))


def beside(folder: Path) -> Checkpoint:
    """A checkpoint that is written after every epoch."""
    folder.mkdir(exist_ok=True)
    return Checkpoint(folder / "checkpoint.pt", "test", every_seconds=0.0)


def segmenter_training(name: str, recipe: str, length: Length = LENGTH) -> Training:
    """Of a U-Net or a small MedSAM."""
    sources = [drr_examples([drr_pool()])]
    how = TrainingSettings(RECIPES[recipe], length, 2, SEGMENTER_CHANGES)

    def train(folder: Path, device: torch.device) -> Trained:
        fold = Fold(0, name, "P01")
        if name == "unet":
            architecture = UNetSettings(SIZE_PX, (4, 6, 8))
            return Trained(*train_unet(architecture, ROIS, sources, how, fold, beside(folder), device))
        architecture = MedSamSettings("tiny", None, None, "")
        return Trained(*train_medsam(architecture, ROIS, sources, how, 10.0, fold, beside(folder), device))

    return train


def encoder_training(name: str, online: bool, changes: EncoderAugmentation = ENCODER_CHANGES, **entry) -> Training:
    """Of an encoder, from a pool or from DRRs rendered on the fly; `entry` changes its entry in the config."""
    patient, (xray, *_) = two_bones(1)
    pool = None if online else drr_pool()
    loss = {
        **LOSSES[name],
        "image_size_px": SIZE_PX,
        "rendered_per_batch": 2,
        "images_from": 0.0,
        "bone_contrast": "drawn",
    }
    settings = {
        "network": NETWORKS[name],
        "loss": loss,
        "output_unit": "spread",
        "epochs": LENGTH.epochs,
        "batches_per_epoch": LENGTH.batches_per_epoch,
        "batch_size": 3,
        "stages": 1,
        **entry,
    }

    def train(folder: Path, device: torch.device) -> Trained:
        run = Run(0, name, "P01")
        guide = segmenter("unet", device) if loss["roi"] else None
        data = training_data(patient, xray, settings, SYNTHESIS, list(ROIS), pool, guide, STEP_MM, run, device)
        how = EncoderSettings(
            network=encoder_network(name),
            loss=EncoderLoss(**loss),
            recipe=RECIPES["adamw"],
            length=Length(settings["epochs"], settings["batches_per_epoch"]),
            augment=changes,
        )
        encoder, history = train_encoder(data, how, run, beside(folder), device)
        return Trained(encoder.network, history)

    return train


def encoder_network(name: str):
    """The settings of an encoder's network."""
    from roireg.encode.model import network_settings

    return network_settings(NETWORKS[name])


TRAININGS: dict[str, Callable[[], Training]] = {
    "U-Net": lambda: segmenter_training("unet", "sgd"),
    "MedSAM": lambda: segmenter_training("medsam", "adam"),
    "encoder from a pool": lambda: encoder_training("ours", online=False),
    "encoder online": lambda: encoder_training("ours", online=True),
    "autoencoder from a pool": lambda: encoder_training("psss", online=False),
    "autoencoder online": lambda: encoder_training("psss", online=True),
}


def kill_at(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings die when they begin a batch of that number."""
    from roireg.training.loop import fit

    def mortal(network, recipe, length, loss_of_batch, *others):
        def loss(number: int) -> Tensor:
            if number == batch:
                raise Killed
            return loss_of_batch(number)

        return fit(network, recipe, length, loss, *others)

    for module in ("roireg.segment.train_unet", "roireg.segment.train_medsam", "roireg.encode.train"):
        monkeypatch.setattr(f"{module}.fit", mortal)
