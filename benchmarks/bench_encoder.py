"""Speed of training a pose encoder on the chest CT, in pairs per second, with our renderer and with DiffDRR's."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numba
import torch
import yaml
from chest import (
    SAMPLES,
    SIZE_PX,
    SOURCE_TO_CENTER_MM,
    Render,
    chest_camera,
    chest_volume,
    diffdrr_render,
    diffdrr_step_mm,
)
from common import RESULTS, THREADS, interleaved_medians_s, report
from jaxtyping import Float
from torch import Tensor, nn

from roireg.data.images import scaled
from roireg.data.volume import Volume
from roireg.drr import render
from roireg.drr.rois import roi_channels
from roireg.encode.losses import EncoderLoss, ImageTerms, geodesic_loss, total
from roireg.encode.model import PoseFrame, network_settings
from roireg.encode.network import build_network
from roireg.encode.samples import DrrSet, draw_from_pool
from roireg.encode.settings import encoder_settings
from roireg.encode.train import Run, TrainingData, train_encoder
from roireg.geometry.camera import Camera
from roireg.geometry.poses import pa_pose
from roireg.metrics.similarity import dice, similarity
from roireg.segment.model import Segmenter, roi_numbers
from roireg.segment.unet import UNet, UNetSettings
from roireg.training.loop import Checkpoint
from roireg.training.recipe import Length, Recipe, make_optimizer

CONFIG = Path(__file__).parent.parent / "config.yaml"
BATCH_SIZE = 8
# Fraction of the demo's spread of poses; with all of it the detector would reach into this CT, wider than a pelvis.
SPREAD = 0.5
# So low that estimated poses, and with them the rendering work, hardly change during the benchmark.
LEARNING_RATE = 1e-6
RESNET_18_WIDTHS = [64, 128, 256, 512]
POOL_DRRS = 64
POOL_STEPS = 20
RUNS = 7
# Allowed difference of the two renderers' images, as a fraction of the largest value. Their samples are nearly a voxel
# apart and lie at different positions. For comparison, a shift by one pixel gives a difference of 0.1.
TOLERANCE = 5e-3
PEER = f"DiffDRR trilinear {SAMPLES} points"


@dataclass(frozen=True, eq=False)
class Task:
    """The inputs that both renderers' training steps have in common.

    Attributes:
        truth: true poses of the batch, `volume_from_camera`, mm; the same in all steps.
        frame: converts the network's output to poses.
        segmenter: frozen segmenter with random weights.
        loss: settings of the paper's loss, from the config.
    """

    truth: Float[Tensor, "B 4 4"]
    frame: PoseFrame
    segmenter: Segmenter
    loss: EncoderLoss


def pose_frame(volume: Volume, camera: Camera, synthesis: dict) -> PoseFrame:
    """A frame with T_PA at the centre of the CT, and outputs in units of the poses' standard deviations."""
    unit = torch.tensor([*synthesis["rotation_sd_deg"], *synthesis["translation_sd_mm"]], dtype=torch.float64)
    unit[:3] = torch.deg2rad(unit[:3])
    return PoseFrame(pa_pose(volume.center_mm, SOURCE_TO_CENTER_MM), volume.center_mm, unit, camera)


def sample_poses(frame: PoseFrame, count: int, seed: int) -> Float[Tensor, "B 4 4"]:
    """Random poses around T_PA, mm."""
    return frame.poses(SPREAD * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)))


def random_segmenter(config: dict) -> Segmenter:
    """The config's U-Net with random weights, on which run time does not depend."""
    unet = config["segment"]["unet"]
    network = UNet(UNetSettings(unet["image_size_px"], tuple(unet["widths"])), len(config["rois"]))
    return Segmenter(tuple(config["rois"]), network.eval().requires_grad_(False))


def batch_loss(network: nn.Module, render: Render, task: Task) -> Float[Tensor, ""]:
    """The loss of a batch that is rendered on the fly (paper, Fig. 2), without augmentation."""
    frame = task.frame
    with torch.no_grad():
        fixed = scaled(render(task.truth))
        masks = roi_channels(roi_numbers(task.segmenter.probabilities(fixed)), len(task.segmenter.rois))
    estimate = frame.poses(network(fixed).twist)
    moving = scaled(render(estimate))
    focal_mm = frame.camera.source_to_detector_mm
    terms = {
        "geodesic": geodesic_loss(task.truth, estimate, frame.isocenter_mm, focal_mm).mean(),
        "similarity": similarity(task.loss.similarity)(fixed[:, None], moving[:, None]).mean(),
        "dice": dice(masks, task.segmenter.probabilities(moving)).mean(),
    }
    return total(terms, task.loss)


def training_step(network: nn.Module, recipe: Recipe, render: Render, task: Task) -> Callable[[], None]:
    """A function that does one training step on a copy of the network."""
    network = copy.deepcopy(network)
    optimizer = make_optimizer(recipe, list(network.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        batch_loss(network, render, task).backward()
        optimizer.step()

    return step


def gradient_norm(network: nn.Module, render: Render, task: Task) -> float:
    """Norm of the loss's gradient with respect to all weights; the network is not changed."""
    gradients = torch.autograd.grad(batch_loss(network, render, task), list(network.parameters()))
    return float(torch.cat([gradient.flatten() for gradient in gradients]).norm())


def pool_training(volume: Volume, frame: PoseFrame, segmenter: Segmenter, config: dict) -> Callable[[], object]:
    """A function that trains a new network for `POOL_STEPS` steps with the config's settings, from a stored pool."""
    entry = config["encoders"]["ours"]
    settings = encoder_settings(entry, config["recipes"][entry["recipe"]], config["encoder_augmentation"])
    settings = replace(settings, length=Length(1, POOL_STEPS))
    small, compared = (
        frame.camera.resized(size, size) for size in (settings.network.image_size_px, settings.loss.image_size_px)
    )
    poses = sample_poses(frame, POOL_DRRS, seed=1)
    pool = DrrSet(scaled(render(volume, small, poses)), poses, torch.ones(POOL_DRRS))
    training_data = TrainingData(
        error_points_mm=frame.isocenter_mm[None],
        frame=replace(frame, camera=small),
        draw=draw_from_pool(pool, entry["batch_size"], epochs=1, stages=1),
        validation=DrrSet(pool.images[:1], pool.poses[:1], pool.bone_contrasts[:1]),
        images=ImageTerms(volume, compared, None, segmenter),
        gain=lambda contrasts: contrasts - 1,
    )
    never = Checkpoint(RESULTS / "encoder_checkpoint.pt", "", every_seconds=math.inf)
    return lambda: train_encoder(training_data, settings, Run(0, "ours", "chest"), never, torch.device("cpu"))


def main() -> None:
    torch.set_num_threads(THREADS)
    numba.set_num_threads(THREADS)
    torch.manual_seed(0)
    config = yaml.safe_load(CONFIG.read_text())
    entry = config["encoders"]["ours"]
    recipe = replace(Recipe(**config["recipes"][entry["recipe"]]), learning_rate=LEARNING_RATE)
    volume, camera = chest_volume(), chest_camera()
    frame = pose_frame(volume, camera, config["synthesize"])
    truth = sample_poses(frame, BATCH_SIZE, seed=0)
    task = Task(truth, frame, random_segmenter(config), EncoderLoss(**entry["loss"]))
    step_mm = diffdrr_step_mm(volume, camera, truth)
    sides = {"ours": lambda poses: render(volume, camera, poses, step_mm), PEER: diffdrr_render(volume, camera)}
    ours, peer = (side(truth) for side in sides.values())
    error = float((ours - peer).abs().max() / peer.max())
    assert error < TOLERANCE, f"the renderers' images differ by {error:.2g} of the largest value"

    networks = {
        name: build_network(network_settings({**entry["network"], "widths": widths})).to(
            memory_format=torch.channels_last
        )
        for name, widths in (("the demo's network", entry["network"]["widths"]), ("ResNet-18", RESNET_18_WIDTHS))
    }
    norms = {
        (name, side): gradient_norm(network, side_render, task)
        for name, network in networks.items()
        for side, side_render in sides.items()
    }
    steps = {
        (name, side): training_step(network, recipe, side_render, task)
        for name, network in networks.items()
        for side, side_render in sides.items()
    }
    pool = f"{POOL_STEPS} steps as in config.yaml, from a pool, batches of {entry['batch_size']}"
    medians = interleaved_medians_s({**steps, pool: pool_training(volume, frame, task.segmenter, config)}, RUNS)
    case = (
        f"step of training, {BATCH_SIZE} pairs rendered on the fly, {SIZE_PX}x{SIZE_PX} rays, "
        f"{tuple(volume.values.shape)} voxels, step {step_mm:.2f} mm, {THREADS} threads"
    )
    records = [
        {
            "case": f"{case}, {name}",
            "ours_pairs_per_s": BATCH_SIZE / medians[name, "ours"],
            "ours_s": medians[name, "ours"],
            "ours_gradient_norm": norms[name, "ours"],
            "peer": PEER,
            "peer_pairs_per_s": BATCH_SIZE / medians[name, PEER],
            "peer_s": medians[name, PEER],
            "peer_gradient_norm": norms[name, PEER],
            "image_error": error,
            "ratio": medians[name, PEER] / medians[name, "ours"],
            "runs": RUNS,
        }
        for name in networks
    ]
    pairs_per_s = POOL_STEPS * entry["batch_size"] / medians[pool]
    records.append({"case": pool, "ours_pairs_per_s": pairs_per_s, "ours_s": medians[pool], "runs": RUNS})
    report("encoder", records)


if __name__ == "__main__":
    main()
