"""Training of a pose encoder on the DRRs of one patient (paper, section 2.1 and Fig. 2)."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.encode.augment import EncoderAugmentation, changed, image_changes, sample_turns, turned
from roireg.encode.losses import EncoderLoss, ImageTerms, geodesic_loss, reconstruction_terms, total
from roireg.encode.model import PoseEncoder, PoseFrame
from roireg.encode.network import NetworkSettings, build_network
from roireg.encode.samples import Draw, DrrSet
from roireg.metrics.pose_errors import projection_distances_mm
from roireg.placement import sent
from roireg.seeds import generator
from roireg.training.loop import Checkpoint, EpochRecord, fit, torch_seeded
from roireg.training.recipe import Length, Recipe


@dataclass(frozen=True)
class Run:
    """Identity of a training, which determines its random numbers: the config's seed, the encoder, the specimen."""

    seed: int
    encoder: str
    specimen: str

    def generator(self, *names: str) -> np.random.Generator:
        """The random generator of this run for one purpose, given by `names`."""
        return generator(self.seed, "encoder", self.encoder, self.specimen, *names)


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of the training of an encoder."""

    network: NetworkSettings
    loss: EncoderLoss
    recipe: Recipe
    length: Length
    augment: EncoderAugmentation


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Data that an encoder is trained with.

    Attributes:
        error_points_mm: points whose projections give the mpd of the learning curve, volume frame.
        isocenter_mm: point whose displacement is the translation of the geodesic loss, volume frame.
        frame: converts the network's output to poses; its camera has the size of the network's images.
        draw: returns batches of DRRs.
        validation: DRRs for the learning curve; they are not trained on.
        images: the loss's terms with rendered DRRs; None if it has none.
        gain: converts a DRR's factor on bone to the multiple of `ImageTerms.bone` that is added to rendered DRRs.
    """

    error_points_mm: Float[Tensor, "N 3"]
    isocenter_mm: Float[Tensor, "3"]
    frame: PoseFrame
    draw: Draw
    validation: DrrSet
    images: ImageTerms | None
    gain: Callable[[Float[Tensor, "B"]], Float[Tensor, "B"]]


def train_encoder(
    training_data: TrainingData, settings: EncoderSettings, run: Run, checkpoint: Checkpoint, device: torch.device
) -> tuple[PoseEncoder, list[EpochRecord]]:
    """Train an encoder from random weights.

    The network gets an augmented DRR. The loss compares DRRs without augmentation, rendered at the true and at the
    estimated pose, so that it is lowest at the truth.

    Returns:
        The encoder and its learning curve. The curve's `measures` are the mean of each of the loss's terms over the
        epoch, and the median mpd (mm), on the validation DRRs, of the encoder's poses and of T_PA.
    """
    with torch_seeded(run.generator("weights")):
        # The memory format "channels last" is a third faster for such a small network on a CPU.
        network = build_network(settings.network).to(device).to(memory_format=torch.channels_last)
    frame = training_data.frame.to(device)
    encoder = PoseEncoder(network, frame)
    changes = image_changes(settings.augment)
    found: dict[str, list[Tensor]] = defaultdict(list)
    focal_mm = frame.camera.source_to_detector_mm
    isocenter_mm = training_data.isocenter_mm.to(device)

    def loss_of_batch(number: int) -> Float[Tensor, ""]:
        rng = run.generator("batch", str(number))
        epoch = number // settings.length.batches_per_epoch
        drrs = training_data.draw(epoch, rng)
        turns_rad = sample_turns(settings.augment, len(drrs.poses), rng)
        clean, truth = turned(sent(drrs.images, device), drrs.poses, training_data.frame.camera, turns_rad)
        output = network(changed(clean, settings.augment, changes, rng))
        truth, estimate = truth.to(device), frame.poses(output.twist)
        terms = {"geodesic": geodesic_loss(truth, estimate, isocenter_mm, focal_mm).mean()}
        terms |= reconstruction_terms(output, clean)
        if training_data.images is not None and epoch >= settings.loss.images_from * settings.length.epochs:
            count = settings.loss.rendered_per_batch
            gains = training_data.gain(drrs.bone_contrasts[:count])
            terms |= training_data.images(truth[:count], estimate[:count], settings.loss, gains)
        for name, value in terms.items():
            found[name].append(value.detach())
        return total(terms, settings.loss)

    drrs, points_mm = training_data.validation, training_data.error_points_mm
    pa_mm = projection_distances_mm(training_data.frame.pa_pose, drrs.poses, training_data.frame.camera, points_mm)

    def measure(epoch: int) -> dict[str, float]:
        means = {name: _mean(found.pop(name), settings.length.batches_per_epoch) for name in list(found)}
        errors = {"validation_mpd_mm": float(validation_errors_mm(encoder, training_data).median())}
        return {**means, **errors, "pa_validation_mpd_mm": float(pa_mm.median())}

    history = fit(network, settings.recipe, settings.length, loss_of_batch, checkpoint, measure)
    return encoder, history


def _mean(values: list[Float[Tensor, ""]], count: int) -> float:
    """Sum of an epoch's values by the number of its batches; the only time that they are read from the device."""
    return sum(value / count for value in torch.stack(values).tolist())


@torch.no_grad()
def validation_errors_mm(encoder: PoseEncoder, training_data: TrainingData) -> Float[Tensor, "N"]:
    """Errors (mpd, mm) of the encoder's poses on the validation DRRs."""
    encoder.network.eval()
    drrs, frame = training_data.validation, training_data.frame
    poses = encoder.frame.poses(encoder.network(drrs.images.to(encoder.frame.pa_pose.device)).twist).cpu()
    encoder.network.train()
    return projection_distances_mm(poses, drrs.poses, frame.camera, training_data.error_points_mm)
