"""Builds the inputs of an encoder's training from the config and files."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray, expected_pose
from roireg.encode.augment import EncoderAugmentation
from roireg.encode.losses import DRAWN, NO_SIMILARITY, EncoderLoss, ImageTerms
from roireg.encode.model import PoseFrame, network_settings
from roireg.encode.samples import DrrSet, at_size, draw_from_pool, draw_online, rendered
from roireg.encode.train import EncoderSettings, Run, TrainingData
from roireg.segment.model import Segmenter
from roireg.training.drrs import DrrPool, SynthesisSettings, Synthesizer
from roireg.training.loop import Checkpoint, fingerprint
from roireg.training.recipe import Length, Recipe

VALIDATION_DRRS = 50
SPREAD, RAD_AND_MM = "spread", "rad_and_mm"


def encoder_settings(encoder: dict[str, Any], recipe: dict[str, Any], augmentation: dict[str, Any]) -> EncoderSettings:
    """Settings from the config: an encoder's entry, the entry of its recipe, and the augmentation."""
    ranges: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in augmentation.items()
    }
    return EncoderSettings(
        network=network_settings(encoder["network"]),
        loss=EncoderLoss(**encoder["loss"]),
        recipe=Recipe(**recipe),
        length=Length(encoder["epochs"], encoder["batches_per_epoch"]),
        augment=EncoderAugmentation(**ranges),
    )


def training_data(
    patient: Patient,
    xray: Xray,
    entry: dict[str, Any],
    synthesis: SynthesisSettings,
    rois: list[str],
    pool: DrrPool | None,
    segmenter: Segmenter | None,
    step_mm: float | None,
    run: Run,
    device: torch.device,
) -> TrainingData:
    """Data and settings with which an encoder is trained.

    Args:
        patient: the CT and its labels.
        xray: a representative X-ray; its camera and the position that the device states are used, its image is not.
        entry: the encoder's entry in `encoders` of the config.
        synthesis: distribution of the random DRRs.
        rois: names of the ROIs that a DRR must show.
        pool: stored DRRs; None to render them on the fly.
        segmenter: segmenter for the ROI term; None without one.
        step_mm: distance between the renderer's samples on the central ray; None for its default.
        run: determines random numbers.
        device: device of networks and rendered images.
    """
    settings = network_settings(entry["network"])
    loss = EncoderLoss(**entry["loss"])
    size, batch_size = settings.image_size_px, entry["batch_size"]
    full, pa = xray.camera, expected_pose(patient, xray)
    camera = full.resized(size, size)
    unit = _twist_unit(entry["output_unit"], synthesis)
    # Always on the CPU: these images enter the checkpoint's fingerprint, which must not depend on the device.
    validation = Synthesizer(patient, camera, pa, rois, synthesis, step_mm)
    if pool is None:
        draw = draw_online(Synthesizer(patient, camera, pa, rois, synthesis, step_mm, device), batch_size)
    else:
        draw = draw_from_pool(at_size(pool, size), batch_size, entry["epochs"], entry["stages"])
    images = None
    if loss.roi > 0 or loss.similarity != NO_SIMILARITY:
        compared = full.resized(loss.image_size_px, loss.image_size_px).to(device)
        # Continued tissue avoids the dark band at the ends of the CT, whose edge would dominate the similarity.
        volume = patient.volume.continued(synthesis.continued_mm) if loss.continued else patient.volume
        volume = volume.to(device)
        bone = synthesis.bone_of(volume) if loss.bone_contrast == DRAWN else None
        images = ImageTerms(volume, compared, step_mm, segmenter, bone)
    return TrainingData(
        error_points_mm=patient.error_points_mm,
        isocenter_mm=patient.center_mm,
        frame=PoseFrame(pa, synthesis.center_mm(patient), unit, camera),
        draw=draw,
        validation=rendered(validation, run.generator("validation"), VALIDATION_DRRS),
        images=images,
        gain=synthesis.bone_gain,
    )


def _twist_unit(name: str, synthesis: SynthesisSettings) -> Float[Tensor, "6"]:
    """Rad and mm of one unit of a network's output: the standard deviations of the random poses, or 1 rad and 1 mm."""
    if name == RAD_AND_MM:
        return torch.ones(6, dtype=torch.float64)
    unit = torch.tensor([*synthesis.rotation_sd_deg, *synthesis.translation_sd_mm], dtype=torch.float64)
    unit[:3] = torch.deg2rad(unit[:3])
    return unit


def checkpoint_beside(
    model: str | Path, settings: dict[str, Any], code: str, run: Run, pool: DrrPool | None, validation: DrrSet
) -> Checkpoint:
    """The checkpoint of a training, in the folder of its output, valid for these settings, code, run and images."""
    identity = {"settings": settings, "code": code, "run": [run.seed, run.encoder, run.specimen]}
    tensors = [validation.images, validation.poses] + ([] if pool is None else [pool.images, pool.poses])
    return Checkpoint(Path(model).with_name("checkpoint.pt"), fingerprint(identity, tensors))
