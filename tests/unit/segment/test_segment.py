"""Segmenters: the networks, what they learn from, how they are trained, stored and judged."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from builders import LABEL_NAMES, small_specimen
from monai.metrics import compute_dice
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from volumes import camera, general_pose, phantom

import roireg.segment.batches
from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.records import write_specimen
from roireg.data.results import read_dice
from roireg.data.xray import Xray, expected_pose
from roireg.drr import render
from roireg.drr.rois import project_rois, roi_boxes_px, roi_channels, roi_map, roi_volumes
from roireg.errors import InputError
from roireg.figures.segmentation_cases import typical_and_worst
from roireg.files import write_csv
from roireg.geometry.poses import perturb
from roireg.metrics.similarity import dice
from roireg.segment.augment import SegmenterAugmentation, augmentation, augmented, mirrored, mirrored_numbers
from roireg.segment.batches import Fold, TrainingSettings, batches
from roireg.segment.batches import SegmenterLoss as UNetLoss
from roireg.segment.evaluate import (
    DRR,
    XRAY,
    Segmented,
    dice_rows,
    read_segmented,
    roi_dice,
    segment_specimen,
    write_segmented,
)
from roireg.segment.examples import Examples, drawn, drr_examples, xray_examples
from roireg.segment.medsam import ARCHITECTURES, MedSam, MedSamSettings, build_medsam
from roireg.segment.model import Segmenter, load_segmenter, roi_numbers
from roireg.segment.save import save_segmenter
from roireg.segment.train_medsam import train_medsam
from roireg.segment.train_unet import MONAI_BLOCKS, train_unet, unet_loss
from roireg.segment.training_inputs import checkpoint_beside, read_sources, training_settings
from roireg.segment.unet import TORCH_BLOCKS, Blocks, UNet, UNetSettings
from roireg.training.drrs import SynthesisSettings, read_pool, synthesize, write_pool
from roireg.training.loop import Checkpoint, torch_seeded
from roireg.training.recipe import Length, Recipe

CPU = torch.device("cpu")
DOUBLE = {"dtype": torch.float64}
SIZE_PX = 64
ARCHITECTURE = UNetSettings(SIZE_PX, (4, 6, 8, 10, 12, 14))
ROIS = tuple(LABEL_NAMES.values())
TINY = MedSamSettings("tiny", None, None, "segment.medsam.checkpoint")
STILL = SegmenterAugmentation(
    probability=0.0,
    invert_probability=0.0,
    mirror_probability=0.0,
    rotation_deg=0.0,
    shift_fraction=0.0,
    scale_fraction=0.0,
    gamma=(0.7, 1.4),
    noise_sd=0.1,
    boxes=3,
    box_fraction=0.2,
)
LIVELY = replace(
    STILL,
    probability=1.0,
    invert_probability=0.5,
    mirror_probability=0.5,
    rotation_deg=20.0,
    shift_fraction=0.1,
    scale_fraction=0.2,
)
RECIPE = Recipe(
    optimizer="adam",
    learning_rate=5e-3,
    weight_decay=0.0,
    momentum=0.0,
    max_gradient_norm=12.0,
    max_gradient_ratio=None,
    schedule="cosine",
    warmup_epochs=0,
    plateau_factor=0.1,
    plateau_epochs=10,
)
FOLD = Fold(0, "unet", "P01")


def unet(seed: int = 0, rois: int = 2, blocks: Blocks = TORCH_BLOCKS) -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet(ARCHITECTURE, rois, blocks)


def medsam(seed: int = 0) -> MedSam:
    """Random weights also where SAM starts from zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_medsam(TINY)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)


def images(count: int, height: int = SIZE_PX, width: int = SIZE_PX, seed: int = 1) -> Tensor:
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed))


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


# The U-Net


def test_both_kinds_of_blocks_are_the_same_network():
    mine, monai = unet(3), unet(4, blocks=MONAI_BLOCKS)
    state = monai.state_dict()
    assert {name: value.shape for name, value in mine.state_dict().items()} == {
        name: value.shape for name, value in state.items()
    }
    assert any(type(module).__module__.startswith("monai") for module in monai.modules())
    assert not any(type(module).__module__.startswith("monai") for module in mine.modules())
    mine.load_state_dict(state)
    for train in (True, False):
        with torch.no_grad():
            found, expected = (network.train(train)(images(2)) for network in (mine, monai))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert expected.std() > 0.01


def test_both_kinds_of_blocks_have_the_same_gradients():
    mine, monai = unet(3), unet(4, blocks=MONAI_BLOCKS)
    mine.load_state_dict(monai.state_dict())
    for network in (mine, monai):
        network(images(2)).square().mean().backward()
    ours = dict(mine.named_parameters())
    for name, parameter in monai.named_parameters():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("blocks", [TORCH_BLOCKS, MONAI_BLOCKS], ids=["torch", "monai"])
def test_six_levels_halve_five_times_by_strided_2x2_convolutions(blocks):
    network, sizes = unet(blocks=blocks), {}
    halving, doubling = [], []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            halving.append(module)
        if isinstance(module, nn.ConvTranspose2d):
            doubling.append(module)
        assert not isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.Upsample)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda module, inputs, output: sizes.__setitem__(module, (inputs[0].shape[-1], output.shape[-1]))
            )
    with torch.no_grad():
        network(images(1))
    for module in (*halving, *doubling):
        assert (module.kernel_size, module.stride) == ((2, 2), (2, 2))
    assert [sizes[module] for module in halving] == [(64, 32), (32, 16), (16, 8), (8, 4), (4, 2)]
    assert sorted(sizes[module] for module in doubling) == [(2, 4), (4, 8), (8, 16), (16, 32), (32, 64)]
    assert [module.out_channels for module in halving] == list(ARCHITECTURE.widths[1:])
    # Skipped features and those from below, at every level.
    at_full_size = [module.in_channels for module in sizes if sizes[module] == (64, 64)]
    assert 2 * ARCHITECTURE.widths[0] in at_full_size


def test_probabilities_are_shares_of_one():
    with torch.no_grad():
        network = unet(rois=3)
        network.head.weight *= 30
        probabilities = network.probabilities(images(2))
        background = network(images(2)).softmax(1)[:, 0]
    assert probabilities.shape == (2, 3, SIZE_PX, SIZE_PX)
    assert probabilities.min() >= 0
    assert probabilities.sum(1).max() <= 1 + 1e-6
    assert probabilities.max() > 0.9
    torch.testing.assert_close(probabilities.sum(1) + background, torch.ones(2, SIZE_PX, SIZE_PX))


def test_scale_and_offset_of_the_image_do_not_matter():
    network, image = unet(), images(2)
    with torch.no_grad():
        expected = network.probabilities(image)
        for other in (40 * image, image - 3, 1e-3 * image + 7e-3):
            torch.testing.assert_close(network.probabilities(other), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(network.probabilities(-image), expected, atol=1e-2)


def test_a_flat_image_is_no_fault():
    image = torch.full((1, SIZE_PX, SIZE_PX), 0.3, requires_grad=True)
    probabilities = unet().probabilities(image)
    probabilities.square().sum().backward()
    assert probabilities.isfinite().all()
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("size", [(SIZE_PX, SIZE_PX), (96, 128), (40, 33)])
def test_maps_have_the_size_of_the_image(size):
    network, image = unet(), images(2, *size)
    with torch.no_grad():
        probabilities = network.probabilities(image)
        one = network.probabilities(image[1:])
    assert probabilities.shape == (2, 2, *size)
    torch.testing.assert_close(probabilities[1:], one, rtol=1e-4, atol=1e-5)


def test_a_larger_image_has_the_maps_of_the_small_one_at_its_own_size():
    # A smooth image, which resampling hardly changes.
    wave = torch.linspace(0, 6, SIZE_PX).sin()[None, :] * torch.linspace(0, 4, SIZE_PX).cos()[:, None]
    large = nn.functional.interpolate(wave[None, None], scale_factor=3, mode="bilinear", align_corners=False)[0]
    with torch.no_grad():
        small, other = unet().probabilities(wave[None])[0], unet().probabilities(large)
    reduced = nn.functional.avg_pool2d(other, 3)[0]

    def agreement(a: Tensor, b: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    assert agreement(small, reduced) > 0.9
    for turned in (small.flip(1), small.flip(2), small.roll(8, 1), small.roll(8, 2), small.flip(0)):
        assert agreement(turned, reduced) < agreement(small, reduced) - 0.1


def test_the_gradient_to_the_image_is_that_of_finite_differences():
    network, image = unet(5).double(), images(1, 48, 80).double().requires_grad_()
    mix = torch.randn(1, 2, 48, 80, generator=torch.Generator().manual_seed(3), **DOUBLE)

    def value(picture: Tensor) -> Tensor:
        return (network.probabilities(picture) * mix).sum((1, 2, 3))

    (gradient,) = torch.autograd.grad(value(image).sum(), image)
    pixels = torch.arange(11, 48 * 80, 61)
    steps = torch.zeros(len(pixels), 48 * 80, **DOUBLE)
    steps[torch.arange(len(pixels)), pixels] = 1e-6
    with torch.no_grad():
        slopes = (value(image + steps.view(-1, 48, 80)) - value(image - steps.view(-1, 48, 80))) / 2e-6
    exact = gradient.flatten()[pixels]
    assert cosine_similarity(exact, slopes, dim=0) > 0.999
    torch.testing.assert_close(exact, slopes, rtol=1e-2, atol=1e-3 * float(exact.abs().max()))


# From the ROIs' Dice to the pose

TWIST_UNITS = torch.tensor([0.05] * 3 + [10.0] * 3, **DOUBLE)


def pose_gradients(probabilities: Callable[[Tensor], Tensor], fixed: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Of the Dice of ROIs in a DRR to a perturbation of its pose, by autograd and by central differences."""
    volume = phantom()
    view, pose = camera(size_px), general_pose(volume, seed=1)

    def value(twist: Tensor) -> Tensor:
        moved = perturb(pose, twist * TWIST_UNITS, volume.center_mm)
        return dice(fixed, probabilities(scaled(render(volume, view, moved, 1.5)))).sum()

    twist = torch.zeros(6, requires_grad=True, **DOUBLE)
    value(twist).backward()
    steps = 1e-4 * torch.eye(6, **DOUBLE)
    with torch.no_grad():
        slopes = torch.stack([(value(step) - value(-step)) / 2e-4 for step in steps])
    return twist.grad, slopes


def assert_same_direction(exact: Tensor, slopes: Tensor) -> None:
    assert slopes.norm() > 1e-6
    for part in (slice(None), slice(3), slice(3, None)):
        assert cosine_similarity(exact[part], slopes[part], dim=0) > 0.95
    assert exact.norm() == pytest.approx(float(slopes.norm()), rel=0.1)


def blobs(size_px: int) -> Tensor:
    """Two smooth fixed maps."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, size_px, **DOUBLE), torch.linspace(-1, 1, size_px, **DOUBLE), indexing="ij"
    )
    return torch.stack([torch.exp(-8 * ((x - 0.3) ** 2 + y**2)), torch.exp(-6 * (x**2 + (y + 0.4) ** 2))])[None]


def test_the_pose_gradient_through_a_unet_and_the_renderer_is_that_of_finite_differences():
    network = unet(2).double().requires_grad_(False)
    network.head.weight *= 5
    assert_same_direction(*pose_gradients(network.probabilities, blobs(48), 48))


def test_the_pose_gradient_with_one_hot_maps_of_the_network_itself():
    network = unet(2).double().requires_grad_(False)
    network.head.weight *= 5
    volume = phantom()
    at_truth = scaled(render(volume, camera(48), general_pose(volume, seed=0), 1.5))
    fixed = roi_channels(roi_numbers(network.probabilities(at_truth)), 2)
    assert fixed.sum((2, 3)).min() > 0
    assert_same_direction(*pose_gradients(network.probabilities, fixed, 48))


def test_the_pose_gradient_through_medsam_and_the_renderer_is_that_of_finite_differences():
    network = medsam().double()
    boxes = torch.tensor([[[15.0, 12.0, 40.0, 36.0], [8.0, 4.0, 30.0, 22.0]]])
    exact, slopes = pose_gradients(lambda image: network.probabilities(image, boxes), blobs(48), 48)
    assert_same_direction(exact, slopes)


# Augmentation and examples


def squares(count: int, size_px: int = SIZE_PX) -> tuple[Tensor, Tensor]:
    """A bright square, and its map."""
    rois = torch.zeros(count, size_px, size_px, dtype=torch.uint8)
    third = size_px // 3
    rois[:, third : 2 * third, third : 2 * third] = 1
    return rois.float(), rois


def changed(settings: SegmenterAugmentation, picture: Tensor, rois: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    return augmented(augmentation(settings, picture.shape[-1]), picture, rois, np.random.default_rng(seed))


def test_the_same_generator_gives_the_same_batch():
    picture, (_, rois) = images(4), squares(4)
    transform = augmentation(LIVELY, SIZE_PX)
    first = augmented(transform, picture, rois, np.random.default_rng(5))
    torch.manual_seed(99)
    augmented(transform, picture, rois, np.random.default_rng(6))
    again = augmented(transform, picture, rois, np.random.default_rng(5))
    other = augmented(transform, picture, rois, np.random.default_rng(6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_images_of_a_batch_are_changed_each_in_its_own_way():
    moved, rois = changed(LIVELY, *squares(4))
    assert len(moved.flatten(1).unique(dim=0)) == 4
    assert len(rois.flatten(1).unique(dim=0)) == 4


def test_kinds_and_sizes_stay():
    picture, rois = changed(LIVELY, *squares(3))
    assert picture.shape == rois.shape == (3, SIZE_PX, SIZE_PX)
    assert (picture.dtype, rois.dtype) == (torch.float32, torch.uint8)
    assert type(picture) is type(rois) is Tensor
    assert picture.isfinite().all()


def test_no_augmentation_changes_nothing():
    picture, rois = images(2), squares(2)[1]
    same, same_rois = changed(STILL, picture, rois)
    torch.testing.assert_close(same, picture, rtol=0, atol=1e-5)
    assert torch.equal(same_rois, rois)


def test_the_image_and_its_map_move_together():
    moving = replace(STILL, rotation_deg=30.0, shift_fraction=0.2, scale_fraction=0.3)
    picture, rois = changed(moving, *squares(24))
    before = squares(1)[1][0] > 0
    stayed = []
    for image, numbers in zip(picture, rois, strict=True):
        bright, inside = image > 0.5, numbers > 0
        stayed.append(float((inside & before).sum() / (inside | before).sum()))
        assert (bright & inside).sum() / (bright | inside).sum() > 0.9
    assert min(stayed) < 0.5


def test_labels_are_not_mixed_where_they_move():
    rois = torch.zeros(8, SIZE_PX, SIZE_PX, dtype=torch.uint8)
    rois[:, 16:32, 16:48], rois[:, 32:48, 16:48] = 1, 5
    _, moved = changed(replace(STILL, rotation_deg=40.0, scale_fraction=0.2), rois.float(), rois)
    assert set(moved.unique().tolist()) == {0, 1, 5}


def extents(rois: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Middle and length of what is not background, of rows and columns: `(N, 2)` each."""
    left, top, right, bottom = roi_boxes_px(rois, 1)[:, 0].numpy().T
    return np.stack([top + bottom, left + right], 1) / 2, np.stack([bottom - top, right - left], 1) + 1


def test_shifts_reach_along_both_axes():
    middle, length = extents(changed(replace(STILL, shift_fraction=0.2), *squares(60))[1])
    moved = middle - extents(squares(1)[1])[0]
    assert (np.abs(moved).max(0) <= 0.2 * SIZE_PX + 1).all()
    assert (moved.max(0) > 0.1 * SIZE_PX).all()
    assert (moved.min(0) < -0.1 * SIZE_PX).all()
    assert (length == extents(squares(1)[1])[1]).all()


def test_sizes_change_along_both_axes():
    _, length = extents(changed(replace(STILL, scale_fraction=0.3), *squares(60))[1])
    before = extents(squares(1)[1])[1][0]
    assert (length.max(0) > 1.15 * before).all()
    assert (length.min(0) < 0.9 * before).all()


def test_rotations_reach_both_ways_and_not_further():
    rois = torch.zeros(60, SIZE_PX, SIZE_PX, dtype=torch.uint8)
    rois[:, 30:34, 8:56] = 1
    _, turned = changed(replace(STILL, rotation_deg=10.0), rois.float(), rois)
    slopes = []
    for numbers in turned:
        rows, columns = np.nonzero(numbers.numpy())
        slopes.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert max(slopes) > 5
    assert min(slopes) < -5
    assert np.abs(slopes).max() < 11


def test_inversion_exchanges_bright_and_dark():
    picture, rois = images(3), squares(3)[1]
    inverted, same = changed(replace(STILL, invert_probability=1.0), picture, rois)
    torch.testing.assert_close(inverted, 1 - picture, rtol=0, atol=1e-5)
    assert torch.equal(same, rois)


def test_grey_values_change_where_they_should_and_maps_do_not():
    picture, rois = squares(20)
    grey, same = changed(replace(STILL, probability=1.0), 0.2 + 0.5 * picture, rois)
    assert torch.equal(same, rois)
    assert grey.isfinite().all()
    difference = (grey - (0.2 + 0.5 * picture)).abs()
    assert (difference.mean((1, 2)) > 1e-3).all()
    assert difference.max() < 1.5


def test_boxes_occlude_no_more_than_their_share():
    settings = replace(STILL, probability=1.0, gamma=(1.0, 1.0), noise_sd=0.0, boxes=2, box_fraction=0.25)
    picture = images(30)
    hidden = (changed(settings, picture, squares(30)[1])[0] - picture).abs() > 1e-4
    shares = hidden.float().mean((1, 2))
    assert shares.max() <= 2 * 0.25**2
    assert shares.max() > 0.02


SIDES = ("left femur", "sacrum", "Right femur", "leftover", "skull")


def test_left_and_right_change_names_in_a_mirrored_patient_and_others_do_not():
    assert mirrored_numbers(SIDES[:3]).tolist() == [0, 3, 2, 1]
    assert mirrored_numbers(("sacrum", "leftover", "rightover", "upright")).tolist() == [0, 1, 2, 3, 4]
    assert mirrored_numbers(("femur_left", "hip", "femur_right", "LEFT", "right")).tolist() == [0, 3, 2, 1, 5, 4]
    assert mirrored_numbers(SIDES).dtype == torch.uint8


def test_a_side_without_its_counterpart_cannot_be_mirrored():
    with pytest.raises(InputError, match=r"mirror_probability: mirroring turns 'left hand' into 'right hand'"):
        mirrored_numbers(("left hand", "sacrum"))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_mirrored_patients_are_mirrored_in_image_and_names(probability):
    numbers = torch.zeros(200, 6, 8, dtype=torch.uint8)
    numbers[:, 1:3, 0:2], numbers[:, 3:5, 5:8], numbers[:, 5, 3] = 1, 3, 2
    picture = numbers.float() + torch.linspace(0, 0.5, 8)
    changed_picture, changed_numbers = mirrored(
        picture, numbers, mirrored_numbers(SIDES), probability, np.random.default_rng(0)
    )
    turned = (changed_picture != picture).flatten(1).any(1)
    assert float(turned.float().mean()) == pytest.approx(probability, abs=0.12)
    assert turned.any() == (probability > 0)
    swapped = numbers.flip(-1).clone()
    swapped[numbers.flip(-1) == 1], swapped[numbers.flip(-1) == 3] = 3, 1
    for expected_picture, expected_numbers, those in (
        (picture.flip(-1), swapped, turned),
        (picture, numbers, ~turned),
    ):
        assert torch.equal(changed_picture[those], expected_picture[those])
        assert torch.equal(changed_numbers[those], expected_numbers[those])
    assert changed_numbers.dtype == torch.uint8


def test_batches_are_mirrored_with_the_names_of_their_rois():
    examples = shapes(1, 3)
    examples.rois[examples.rois == 2] = 3
    settings = replace(SETTINGS, batch_size=1, augment=replace(STILL, mirror_probability=1.0))
    batch = batches([examples], SIDES, settings, FOLD, CPU)(0)
    torch.testing.assert_close(batch.images, examples.images.flip(-1), rtol=0, atol=1e-5)
    assert torch.equal(batch.rois == 3, examples.rois.flip(-1) == 1)
    assert torch.equal(batch.rois == 1, examples.rois.flip(-1) == 3)


def grey_levels(*levels: float, count: int = 3) -> list[Examples]:
    """Kinds of examples, told by their grey value; the ROI number is the index among them."""
    numbers = torch.arange(count, dtype=torch.uint8)[:, None, None].expand(count, 8, 8).contiguous()
    return [Examples(torch.full((count, 8, 8), level), numbers) for level in levels]


@pytest.mark.parametrize("size", [2, 8, 9])
def test_a_batch_has_equal_shares_of_the_kinds(size):
    few, many = grey_levels(0.0, count=2) + grey_levels(1.0, count=50)
    for seed in range(5):
        picture, rois = drawn([few, many], size, np.random.default_rng(seed))
        assert picture.shape == rois.shape == (size, 8, 8)
        of_few = int((picture[:, 0, 0] == 0).sum())
        assert abs(of_few - (size - of_few)) <= size % 2
        assert (rois[picture[:, 0, 0] == 0] < 2).all()


def test_every_example_is_drawn_with_its_own_map():
    numbers = torch.arange(5, dtype=torch.uint8)[:, None, None].expand(5, 4, 4).contiguous()
    picture, rois = drawn([Examples(numbers.float(), numbers)], 200, np.random.default_rng(0))
    assert torch.equal(picture, rois.float())
    assert (torch.bincount(rois[:, 0, 0].int(), minlength=5) > 20).all()


SETTINGS = TrainingSettings(RECIPE, Length(epochs=3, batches_per_epoch=2), batch_size=2, augment=LIVELY)


def test_a_batch_depends_on_its_number_and_the_fold_only():
    picture, rois = images(6, 32, 32), torch.arange(6, dtype=torch.uint8)[:, None, None].expand(6, 32, 32)
    sources = [Examples(picture, rois.contiguous())]

    def batch(number: int, fold: Fold = FOLD) -> tuple[Tensor, Tensor, float]:
        one = batches(sources, SIDES, SETTINGS, fold, CPU)(number)
        return one.images, one.rois, float(one.rng.uniform())

    serial = batches(sources, SIDES, SETTINGS, FOLD, CPU)
    for number in (0, 1, 2):
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        one = serial(number)
        alone = batch(number)
        assert torch.equal(one.images, alone[0])
        assert torch.equal(one.rois, alone[1])
        assert float(one.rng.uniform()) == alone[2]
    others = [
        batch(1),
        *(
            batch(0, fold)
            for fold in (replace(FOLD, seed=1), replace(FOLD, left_out="P02"), replace(FOLD, segmenter="other"))
        ),
    ]
    for other in others:
        assert not torch.equal(other[0], batch(0)[0])
        assert other[2] != batch(0)[2]


@pytest.fixture(scope="module")
def specimens(tmp_path_factory) -> list[tuple[Patient, tuple[Xray, ...]]]:
    folder = tmp_path_factory.mktemp("specimens")
    return [small_specimen(folder, name, (False, True), image_size_px=48) for name in ("P01", "P02", "P03")]


def without_masks(xrays: Sequence[Xray], *names: str) -> list[Xray]:
    """X-rays, some of them or all without their mask."""
    gone = names or tuple(xray.name for xray in xrays)
    return [replace(x, labels=None) if x.name in gone else x for x in xrays]


def test_xray_examples_are_the_images_that_have_masks_in_roi_numbers(specimens):
    (first, first_xrays), (second, second_xrays) = specimens[:2]
    half = without_masks(first_xrays, "001")
    examples = xray_examples([(first, half), (second, second_xrays)], ("Talus", "tibia"))
    xrays = [(first, half[0]), *((second, xray) for xray in second_xrays)]
    assert torch.equal(examples.images, torch.stack([xray.image for _, xray in xrays]))
    for numbers, (patient, xray) in zip(examples.rois, xrays, strict=True):
        assert torch.equal(numbers, roi_map(xray.labels, patient.label_names, ("talus", "tibia")))
        assert set(numbers.unique().tolist()) == {0, 1, 2}


def test_xrays_without_any_mask_are_explained(specimens):
    with pytest.raises(InputError) as raised:
        xray_examples([(patient, without_masks(xrays)) for patient, xrays in specimens], ROIS)
    assert "train_on" in raised.value.where
    assert "drrs" in raised.value.remedy


@pytest.fixture(scope="module")
def files(specimens, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Specimen file and DRR pool by specimen."""
    folder, found = tmp_path_factory.mktemp("files"), {}
    settings = SynthesisSettings(
        3, (8.0,) * 3, (9.0,) * 3, (1.0, 2.0), 0.03, 0.01, continued_fraction=0.0, continued_mm=0.0
    )
    for patient, xrays in specimens:
        paths = folder / "specimens" / f"{patient.name}.h5", folder / "drrs" / f"{patient.name}.h5"
        write_specimen(paths[0], patient, xrays)
        view = xrays[0].camera
        drrs = list(synthesize(patient, view, expected_pose(patient, xrays[0]), ROIS, settings, None, 0))
        write_pool(paths[1], drrs, view, ROIS)
        found[patient.name] = tuple(map(str, paths))
    return found


@pytest.mark.parametrize("left_out", ["P01", "P02", "P03"])
def test_no_image_of_the_left_out_specimen_is_among_the_examples(specimens, files, left_out):
    others = [name for name in files if name != left_out]
    sources = read_sources([files[name][0] for name in others], [files[name][1] for name in others], ROIS)
    xrays, drrs = sources["xrays"], sources["drrs"]
    own = {patient.name: [xray.image for xray in taken] for patient, taken in specimens}
    pools = {name: read_pool(path).images for name, (_, path) in files.items()}
    assert torch.equal(xrays.images, torch.stack([image for name in others for image in own[name]]))
    assert torch.equal(drrs.images, torch.cat([pools[name] for name in others]))
    learned = torch.cat([source.images for source in sources.values()])
    for image in (*own[left_out], *pools[left_out]):
        # Far from all of them, not only unequal to each.
        assert (learned - image).abs().mean((1, 2)).min() > 1e-3
    assert len(learned) == 4 + 6


def test_only_the_kinds_that_are_asked_for_are_read(files):
    names = list(files)
    xrays = read_sources([files[name][0] for name in names], [], ROIS)["xrays"]
    drrs = read_sources([], [files[name][1] for name in names], ROIS)["drrs"]
    assert (len(xrays.images), len(drrs.images)) == (6, 9)
    assert torch.equal(drrs.images, drr_examples([read_pool(files[name][1]) for name in names]).images)


# Training

SEGMENTER = {"epochs": 3, "batches_per_epoch": 2, "batch_size": 4, "type": "unet"}
AUGMENTATION = {
    "probability": 0.5,
    "invert_probability": 0.1,
    "mirror_probability": 0.5,
    "rotation_deg": 6.0,
    "shift_fraction": 0.06,
    "scale_fraction": 0.1,
    "gamma": [0.7, 1.4],
    "noise_sd": 0.03,
    "boxes": 2,
    "box_fraction": 0.2,
}


def test_settings_are_those_of_the_config():
    recipe = {field: getattr(RECIPE, field) for field in RECIPE.__dataclass_fields__}
    settings = training_settings(SEGMENTER, recipe, AUGMENTATION)
    assert settings.recipe == RECIPE
    assert settings.length == Length(3, 2)
    assert settings.batch_size == 4
    assert settings.augment.gamma == (0.7, 1.4)
    assert settings.augment.boxes == 2


def test_the_fingerprint_of_a_checkpoint_changes_with_all_that_decides_the_weights(tmp_path: Path):
    sources = grey_levels(0.0, 1.0)
    brighter = [sources[0], Examples(sources[1].images.clone(), sources[1].rois)]
    brighter[1].images[2, 3, 4] += 1e-6
    redrawn = [sources[0], Examples(sources[1].images, sources[1].rois.clone())]
    redrawn[1].rois[0, 0, 0] = 7

    def checkpoint(settings=SEGMENTER, code="abc", fold=FOLD, examples=sources) -> Checkpoint:
        return checkpoint_beside(tmp_path / "P01" / "model.safetensors", settings, code, fold, examples)

    first = checkpoint()
    assert first.path.parent == tmp_path / "P01"
    others = [
        checkpoint(settings={**SEGMENTER, "epochs": 4}),
        checkpoint(settings={**SEGMENTER, "rois": ["a"]}),
        checkpoint(code="abd"),
        checkpoint(fold=replace(FOLD, seed=1)),
        checkpoint(fold=replace(FOLD, left_out="P02")),
        checkpoint(fold=replace(FOLD, segmenter="other")),
        checkpoint(examples=brighter),
        checkpoint(examples=redrawn),
        checkpoint(examples=sources[:1]),
        checkpoint(examples=sources[::-1]),
    ]
    assert len({one.fingerprint for one in (first, *others)}) == 1 + len(others)
    assert checkpoint(examples=grey_levels(0.0, 1.0)).fingerprint == first.fingerprint


def shapes(count: int, seed: int) -> Examples:
    """A bright disc and a dark square at random places, on noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    rois = np.zeros((count, SIZE_PX, SIZE_PX), np.uint8)
    for numbers in rois:
        (y, x), (top, left) = rng.integers(16, 48, 2), rng.integers(4, 40, 2)
        numbers[top : top + 20, left : left + 20] = 2
        numbers[(rows - y) ** 2 + (columns - x) ** 2 < 12**2] = 1
    picture = np.array([0.5, 0.9, 0.1])[rois] + rng.normal(size=rois.shape) * 0.1
    return Examples(torch.from_numpy(picture).float(), torch.from_numpy(rois))


def mean_dice(network: UNet, examples: Examples) -> float:
    with torch.no_grad():
        found = roi_numbers(network.probabilities(examples.images))
    return float(np.mean([roi_dice(a, b, 2).nanmean() for a, b in zip(found, examples.rois, strict=True)]))


def beside(folder: Path) -> Checkpoint:
    return Checkpoint(folder / "checkpoint.pt", "data", every_seconds=0.0)


def test_a_unet_learns_shapes_that_it_has_not_seen(tmp_path: Path):
    still = replace(STILL, rotation_deg=5.0, shift_fraction=0.05)
    settings = TrainingSettings(RECIPE, Length(6, 8), batch_size=4, augment=still)
    before = torch.get_rng_state()
    network, history = train_unet(
        ARCHITECTURE, ("disc", "square"), [shapes(24, 0)], settings, FOLD, beside(tmp_path), CPU
    )
    assert torch.equal(torch.get_rng_state(), before)
    unseen = shapes(12, 1)
    assert mean_dice(unet(), unseen) < 0.4
    assert mean_dice(network, unseen) > 0.8
    assert history[-1].loss < 0.7 * history[0].loss


class Killed(BaseException):
    """Ends a training in the middle of a batch."""


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_killed_training_of_a_unet_ends_with_the_same_weights(tmp_path: Path, monkeypatch, at):
    def train(folder: str) -> UNet:
        return train_unet(ARCHITECTURE, ("a", "b"), [shapes(4, 0)], SETTINGS, FOLD, beside(tmp_path / folder), CPU)[0]

    calls = []

    def killed(*arguments):
        calls.append(1)
        if len(calls) > at:
            raise Killed
        return drawn(*arguments)

    undisturbed = train("undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(roireg.segment.batches, "drawn", killed)
        with pytest.raises(Killed):
            train("killed")
    assert beside(tmp_path / "killed").path.is_file() == (at >= SETTINGS.length.batches_per_epoch)
    assert torch.equal(weights(train("killed")), weights(undisturbed))


def test_the_fold_decides_the_weights(tmp_path: Path):
    settings = replace(SETTINGS, length=Length(1, 1))

    def train(fold: Fold, run: str) -> Tensor:
        checkpoint = beside(tmp_path / run)
        return weights(train_unet(ARCHITECTURE, ("a", "b"), [shapes(4, 0)], settings, fold, checkpoint, CPU)[0])

    first = train(FOLD, "first")
    torch.manual_seed(123)
    assert torch.equal(train(FOLD, "again"), first)
    assert not torch.equal(train(replace(FOLD, seed=1), "seed"), first)
    assert not torch.equal(train(replace(FOLD, left_out="P02"), "left out"), first)


def test_medsam_is_trained_but_for_its_prompt_encoder_and_goes_on_after_a_kill(tmp_path: Path, monkeypatch):
    empty = shapes(1, 5)
    empty.rois[:] = 0
    # One ROI is never shown.
    sources = [shapes(3, 0), empty]
    settings = replace(SETTINGS, length=Length(2, 1), recipe=replace(RECIPE, optimizer="adamw", learning_rate=1e-3))
    rois = ("disc", "square", "absent")

    def train(folder: str) -> tuple[MedSam, list]:
        return train_medsam(TINY, rois, sources, settings, 10.0, FOLD, beside(tmp_path / folder), CPU)

    trained, history = train("undisturbed")
    assert all(np.isfinite(record.loss) for record in history)
    assert weights(trained).isfinite().all()
    with torch_seeded(FOLD.generator("weights")):
        start = build_medsam(TINY).state_dict()
    changed = {
        name.split(".")[0] for name, value in trained.state_dict().items() if not torch.equal(value, start[name])
    }
    assert changed == {"image_encoder", "mask_decoder"}

    def killed(*arguments):
        if beside(tmp_path / "killed").path.is_file():
            raise Killed
        return drawn(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(roireg.segment.batches, "drawn", killed)
        with pytest.raises(Killed):
            train("killed")
    assert torch.equal(weights(train("killed")[0]), weights(trained))


def test_images_without_any_roi_teach_medsam_nothing(tmp_path: Path):
    empty = shapes(2, 5)
    empty.rois[:] = 0
    settings = replace(SETTINGS, length=Length(1, 1), recipe=replace(RECIPE, optimizer="sgd", momentum=0.9))
    trained, history = train_medsam(TINY, ("disc",), [empty], settings, 10.0, FOLD, beside(tmp_path), CPU)
    with torch_seeded(FOLD.generator("weights")):
        start = build_medsam(TINY)
    assert history[0].loss == 0
    assert torch.equal(weights(trained), weights(start))


# Files


def saved(path: Path, network: UNet | MedSam) -> Path:
    """A file of a segmenter of the ROIs a and b."""
    if isinstance(network, UNet):
        entry = {"type": "unet", "image_size_px": ARCHITECTURE.image_size_px, "widths": ARCHITECTURE.widths}
        save_segmenter(path, entry, ("a", "b"), network)
    else:
        save_segmenter(path, {"type": "medsam", "variant": "tiny"}, ("a", "b"), network)
    return path


def explained(path: Path, rois=("a", "b")) -> str:
    with pytest.raises(InputError) as raised:
        load_segmenter(path, rois, CPU)
    assert raised.value.where == str(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_unet_comes_back(tmp_path: Path):
    network = unet(blocks=MONAI_BLOCKS)
    loaded = load_segmenter(saved(tmp_path / "model.safetensors", network), ["a", "b"], CPU)
    assert loaded.rois == ("a", "b")
    assert not loaded.prompted
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    with torch.no_grad():
        expected = network.eval().probabilities(images(2))
    torch.testing.assert_close(loaded.probabilities(images(2)), expected, rtol=0, atol=1e-6)
    # A U-Net needs no boxes, and does not mind them.
    assert torch.equal(loaded.probabilities(images(2), torch.zeros(2, 2, 4)), loaded.probabilities(images(2)))


def test_medsam_comes_back(tmp_path: Path):
    network, boxes = medsam(), torch.tensor([[[5.0, 5.0, 30.0, 40.0], [torch.nan] * 4]])
    loaded = load_segmenter(saved(tmp_path / "model.safetensors", network), ["a", "b"], CPU)
    assert loaded.prompted
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    probabilities = loaded.probabilities(images(1), boxes)
    assert torch.equal(probabilities, network.probabilities(images(1), boxes))
    assert (probabilities[:, 1] == 0).all()


def test_gradients_flow_through_a_loaded_segmenter(tmp_path: Path):
    loaded = load_segmenter(saved(tmp_path / "model.safetensors", unet()), ["a", "b"], CPU)
    image = images(1).requires_grad_()
    loaded.probabilities(image).square().sum().backward()
    assert image.grad.abs().max() > 0


@pytest.mark.parametrize("rois", [("b", "a"), ("a",), ("a", "b", "c"), ("a", "c")], ids=str)
def test_a_segmenter_of_other_rois_is_refused(tmp_path: Path, rois):
    path = saved(tmp_path / "model.safetensors", unet())
    assert "a, b" in explained(path, rois)


def test_a_file_that_is_no_segmenter_is_explained(tmp_path: Path):
    whole = saved(tmp_path / "whole.safetensors", unet()).read_bytes()
    plain = tmp_path / "plain.safetensors"
    save_file({"weight": torch.zeros(3)}, plain)
    contents = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "start": whole[:6],
        "text": b"<html>not found</html>" * 9,
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        assert "cannot be read as a segmenter" in explained(path)
    torch.save(unet().state_dict(), tmp_path / "pickle.safetensors")
    for path in (plain, tmp_path / "pickle.safetensors", tmp_path / "none.safetensors", tmp_path):
        assert "cannot be read as a segmenter" in explained(path)


DESCRIPTIONS = {
    "no json": "{",
    "a list": "[1]",
    "no rois": '{"kind": "unet", "architecture": {"image_size_px": 64, "widths": [4, 6, 8, 10, 12, 14]}}',
    "no architecture": '{"kind": "unet", "rois": ["a", "b"]}',
    "an unknown kind": '{"kind": "forest", "rois": ["a", "b"], "architecture": {"trees": 3}}',
    "other widths": '{"kind": "unet", "rois": ["a", "b"], "architecture": {"image_size_px": 64, "widths": [4, 6, 8]}}',
}


@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_description_that_does_not_fit_is_explained(tmp_path: Path, description):
    path = tmp_path / "model.safetensors"
    save_file(
        {name: value.contiguous() for name, value in unet().state_dict().items()},
        path,
        {"roireg_segmenter": description},
    )
    explained(path)


USE = """
import sys
import torch
from roireg.segment.model import load_segmenter

segmenter = load_segmenter(sys.argv[1], ["a", "b"], torch.device("cpu"))
assert segmenter.probabilities(torch.rand(1, 64, 64)).shape == (1, 2, 64, 64)
assert "monai" not in sys.modules, "monai"
assert "segment_anything" not in sys.modules, "segment_anything"
"""


def test_using_a_unet_imports_no_monai(tmp_path: Path):
    path = saved(tmp_path / "model.safetensors", unet(blocks=MONAI_BLOCKS))
    run = subprocess.run([sys.executable, "-c", USE, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_pixel_belongs_to_its_most_probable_roi_above_one_half():
    probabilities = torch.tensor([[[[0.6, 0.3, 0.5, 0.1]], [[0.7, 0.45, 0.2, 0.51]]]])
    assert roi_numbers(probabilities).tolist() == [[[2, 0, 0, 2]]]
    assert roi_numbers(probabilities).dtype == torch.uint8


# Dice on specimens that were not seen


def random_maps(seed: int, count: int, size: int = 24) -> Tensor:
    return torch.randint(0, count + 1, (size, size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_dice_is_monais_and_none_for_absent_rois(seed):
    found, truth = random_maps(2 * seed, 4), random_maps(2 * seed + 1, 4)
    found[found == 2] = 0
    truth[truth == 3] = 0
    scores = roi_dice(found, truth, 4)
    one_hot = [nn.functional.one_hot(maps.long(), 5).movedim(-1, 0)[None] for maps in (found, truth)]
    expected = compute_dice(*one_hot, include_background=False, ignore_empty=True)[0]
    torch.testing.assert_close(scores, expected, equal_nan=True)
    assert scores.isnan().tolist() == [False, False, True, False]
    assert scores[1] == 0
    assert 0 < scores[0] < 1


def test_dice_of_equal_maps_is_1_and_of_disjoint_ones_0():
    truth = random_maps(0, 3)
    assert roi_dice(truth, truth, 3).tolist() == [1, 1, 1]
    assert roi_dice((truth + 1) % 4, truth, 3).tolist() == [0, 0, 0]
    assert roi_dice(truth, torch.zeros_like(truth), 3).isnan().all()


@pytest.fixture(scope="module")
def unseen(specimens) -> tuple[Patient, list[Xray]]:
    """The first X-ray does not show the talus, the second one has no mask."""
    patient, (first, second) = specimens[0]
    (talus,) = (label for label, name in LABEL_NAMES.items() if name == "talus")
    without_talus = replace(first, labels=first.labels.where(first.labels != talus, 0))
    return patient, [without_talus, replace(second, labels=None)]


def recorded(network: nn.Module) -> list[tuple]:
    """What the network is called with from now on."""
    calls = []
    network.register_forward_pre_hook(lambda module, arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize("kind", [unet, medsam])
def test_xrays_and_drrs_are_segmented_in_turn(unseen, kind):
    patient, xrays = unseen
    segmenter = Segmenter(ROIS, (unet(rois=3) if kind is unet else medsam()).eval())
    results = list(segment_specimen(*unseen, segmenter, None, CPU))
    assert [(one.projection, one.kind) for one in results] == [
        ("000", XRAY), ("000", DRR), ("001", XRAY), ("001", DRR)
    ]  # fmt: skip
    volumes = roi_volumes(patient, ROIS)
    for index, xray in enumerate(xrays):
        of_xray, of_drr = results[2 * index : 2 * index + 2]
        projected = project_rois(volumes, xray.camera, xray.true_pose[None])[0]
        plain = scaled(render(patient.volume, xray.camera, xray.true_pose[None]))[0]
        assert torch.equal(of_xray.image, xray.image)
        torch.testing.assert_close(of_drr.image, plain, rtol=0, atol=1e-6)
        assert torch.equal(of_drr.truth, projected)
        if xray.labels is None:
            assert of_xray.truth is None
            assert of_xray.dice.isnan().all()
        else:
            assert torch.equal(of_xray.truth, roi_map(xray.labels, LABEL_NAMES, ROIS))
            assert of_xray.dice.isnan().tolist() == [False, True, False]
        assert not of_drr.dice.isnan().any()
        for one in (of_xray, of_drr):
            assert one.found.shape == xray.image.shape
            assert one.found.dtype == torch.uint8
            # X-rays without masks are segmented too: MedSAM gets boxes of the CT's labels.
            boxes = roi_boxes_px((projected if one.truth is None else one.truth)[None], 3)
            expected = roi_numbers(segmenter.probabilities(one.image[None], boxes))[0]
            assert torch.equal(one.found, expected)
            if one.truth is not None:
                torch.testing.assert_close(one.dice, roi_dice(one.found, one.truth, 3), equal_nan=True)


def test_medsam_is_prompted_with_the_boxes_of_the_truth_and_none_for_absent_rois(unseen):
    network = medsam()
    calls = recorded(network)
    results = list(segment_specimen(*unseen, Segmenter(ROIS, network), None, CPU))
    assert len(calls) == 4
    for (image, boxes), one in zip(calls, results, strict=True):
        assert torch.equal(image[0], one.image)
        # Without a mask, of the CT's labels at the true pose, as of the DRR.
        truth = results[3].truth if one.truth is None else one.truth
        torch.testing.assert_close(boxes, roi_boxes_px(truth[None], 3), rtol=0, atol=0, equal_nan=True)
    assert calls[0][1][0].isnan().all(-1).tolist() == [False, True, False]
    assert not (results[0].found == 2).any()
    assert not calls[2][1].isnan().any()


def test_a_roi_that_the_specimen_lacks_is_explained(unseen):
    with pytest.raises(InputError, match="kneecap"):
        list(segment_specimen(*unseen, Segmenter(("tibia", "kneecap"), unet()), None, CPU))


def test_results_come_back(unseen, tmp_path: Path):
    results = list(segment_specimen(*unseen, Segmenter(ROIS, unet(rois=3).eval()), None, CPU))
    path = tmp_path / "maps" / "P01.h5"
    write_segmented(path, results)
    loaded = read_segmented(path)
    assert [(one.projection, one.kind) for one in loaded] == [(one.projection, one.kind) for one in results]
    for one, other in zip(loaded, results, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.found, other.found)
        assert (one.truth is None) == (other.truth is None)
        assert one.truth is None or torch.equal(one.truth, other.truth)
        torch.testing.assert_close(one.dice, other.dice, rtol=0, atol=0, equal_nan=True)
    assert [file.name for file in path.parent.iterdir()] == ["P01.h5"]


def test_rows_of_dice_come_back_with_names_as_text_and_gaps_where_there_is_no_truth(tmp_path: Path):
    map_ = torch.zeros(4, 4, dtype=torch.uint8)
    scored = Segmented("001", XRAY, map_.float(), map_, map_, torch.tensor([0.25, torch.nan]))
    rows = dice_rows([scored, replace(scored, kind=DRR, dice=torch.tensor([0.5, 1.0]))], "07", "None", ("NA", "talus"))
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    write_csv(paths[0], pd.DataFrame(rows))
    write_csv(paths[1], pd.DataFrame(rows[:1]))
    read = read_dice(paths)
    assert list(read.columns) == ["specimen", "segmenter", "projection", "image", "roi", "dice"]
    assert read.iloc[:, :5].to_numpy().tolist() == [
        ["07", "None", "001", "xray", "NA"],
        ["07", "None", "001", "xray", "talus"],
        ["07", "None", "001", "drr", "NA"],
        ["07", "None", "001", "drr", "talus"],
        ["07", "None", "001", "xray", "NA"],
    ]
    np.testing.assert_allclose(read["dice"], [0.25, np.nan, 0.5, 1.0, 0.25])


# What figures show


def scored(projection: str, xray: list[float], drr: list[float]) -> list[Segmented]:
    known = not all(np.isnan(xray))
    map_ = torch.full((4, 4), 1, dtype=torch.uint8)
    return [
        Segmented(projection, XRAY, map_.float(), map_ if known else None, map_, torch.tensor(xray)),
        Segmented(projection, DRR, map_.float(), map_, map_, torch.tensor(drr)),
    ]


def test_figures_show_the_median_and_the_worst_xray():
    nan = torch.nan
    results = {
        "P01": [*scored("000", [0.9, 0.9], [0.1, 0.1]), *scored("001", [0.2, 0.4], [0.9, 0.9])],
        # The mean is over the ROIs that the X-ray shows: 0.7.
        "P02": [*scored("000", [0.7, nan], [0.6, 0.8]), *scored("001", [nan, nan], [0.0, 0.0])],
    }
    typical, worst = typical_and_worst(results, "U-Net")
    assert (typical.label, typical.specimen, typical.projection) == ("U-Net, typical", "P02", "000")
    assert (worst.label, worst.specimen, worst.projection) == ("U-Net, worst", "P01", "001")
    assert typical.xray.dice == pytest.approx(0.7)
    assert typical.drr.dice == pytest.approx(0.7)
    assert worst.xray.dice == pytest.approx(0.3)
    assert worst.drr.dice == pytest.approx(0.9)
    assert worst.xray.truth is not None


def test_figures_go_by_the_drrs_where_no_xray_has_a_mask():
    nan = [torch.nan, torch.nan]
    results = {
        "P01": [*scored("000", nan, [0.5, 0.6]), *scored("001", nan, [0.9, 0.9])],
        "P02": scored("000", nan, [0.3, torch.nan]),
    }
    typical, worst = typical_and_worst(results, "MedSAM")
    assert (typical.specimen, typical.projection) == ("P01", "000")
    assert (worst.specimen, worst.projection) == ("P02", "000")
    assert worst.xray.truth is None
    assert worst.xray.dice is None
    assert worst.drr.dice == pytest.approx(0.3)


def test_figures_show_what_was_segmented(unseen):
    results = list(segment_specimen(*unseen, Segmenter(ROIS, unet(rois=3).eval()), None, CPU))
    for case in typical_and_worst({"P01": results}, "U-Net"):
        assert case.projection == "000"
        for shown, one in zip((case.xray, case.drr), results[:2], strict=True):
            assert torch.equal(shown.image, one.image)
            assert torch.equal(shown.predicted, one.found)
            assert torch.equal(shown.truth, one.truth)
            assert shown.dice == pytest.approx(float(one.dice.nanmean()))


def test_medsams_architecture_in_these_tests_is_the_small_one():
    assert ARCHITECTURES[TINY.variant].image_size_px <= 128


@pytest.mark.parametrize(("squared", "weight"), [(False, 1.0), (True, 0.0), (True, 0.5)])
def test_the_loss_of_the_unet_is_dice_with_or_without_squares_and_cross_entropy(squared, weight):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    numbers = torch.randint(0, 3, (2, 1, 8, 8), generator=generator)
    shown = torch.nn.functional.one_hot(numbers[:, 0], 3).movedim(-1, 1).float()
    found = logits.softmax(1)
    power = 2 if squared else 1
    sums = [(x**power).sum((2, 3)) for x in (shown, found)]
    dice = 2 * (shown * found).sum((2, 3)) / (sums[0] + sums[1])
    expected = 1 - dice.mean() + weight * torch.nn.functional.cross_entropy(logits, numbers[:, 0])
    loss = unet_loss(UNetLoss(squared_dice=squared, cross_entropy=weight))
    assert float(loss(logits, numbers.float())) == pytest.approx(float(expected), rel=1e-4)


def test_the_config_says_which_loss():
    config = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())
    entry = {**config["segment"]["unet"], "loss": {"squared_dice": True, "cross_entropy": 0.25}}
    settings = training_settings(entry, config["recipes"]["sgd"], config["augmentation"])
    assert settings.loss == UNetLoss(squared_dice=True, cross_entropy=0.25)
    medsam = config["segment"]["medsam"]
    assert training_settings(medsam, config["recipes"]["sgd"], config["augmentation"]).loss == UNetLoss()
