"""Pose encoders: the networks, what they minimise, what they learn from, their training, files and use as starts."""

import copy
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from builders import small_specimen
from hypothesis import given, settings
from hypothesis import strategies as st
from roma import rotmat_to_rotvec
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.linalg import logm
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from volumes import camera, general_pose, phantom, phantom_specimen, relative_error

from roireg.data.estimate import Estimate
from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.pose_results import read_estimates
from roireg.data.volume import Volume
from roireg.data.xray import Xray, expected_pose
from roireg.drr import render
from roireg.drr.rois import roi_channels
from roireg.encode.augment import EncoderAugmentation, changed, image_changes, sample_turns, turned, with_rods
from roireg.encode.estimates import estimate_rows
from roireg.encode.history import read_histories, write_history
from roireg.encode.losses import EPS, EncoderLoss, ImageTerms, geodesic_loss, reconstruction_terms, total
from roireg.encode.model import PoseEncoder, PoseFrame, load_encoder, network_settings, save_encoder, seen_by
from roireg.encode.network import (
    AttentionAutoencoderSettings,
    EncoderOutput,
    NetworkSettings,
    ResNetSettings,
    build_network,
    group_norm,
    robustly_scaled,
    with_fixed_statistics,
)
from roireg.encode.samples import DrrSet, at_size, draw_from_pool, draw_online
from roireg.encode.settings import VALIDATION_DRRS, checkpoint_beside, encoder_settings, training_data
from roireg.encode.train import Run, TrainingData, train_encoder, validation_errors_mm
from roireg.errors import InputError
from roireg.files import write_csv
from roireg.geometry.camera import Camera, project
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert, is_rigid, se3_exp, transform_points, translation
from roireg.metrics.pose_errors import registration_errors
from roireg.metrics.similarity import dice
from roireg.register.method import MethodSettings, method_from_config, with_estimates
from roireg.register.run import register_specimen
from roireg.register.settings import PaSettings
from roireg.segment.model import Segmenter, roi_numbers
from roireg.segment.unet import UNet, UNetSettings
from roireg.training.drrs import DrrPool, SynthesisSettings, Synthesizer, synthesize
from roireg.training.drrs import pool_of as pooled
from roireg.training.loop import Checkpoint, EpochRecord
from roireg.training.recipe import Recipe

CPU = torch.device("cpu")
DOUBLE = {"dtype": torch.float64}
SIZE_PX = 32
FOCAL_MM = 1020.0
ROIS = ("talus", "tibia")
RESNET = ResNetSettings(SIZE_PX, (1, 1, 1, 1), (8, 8, 16, 16))
AUTOENCODER = AttentionAutoencoderSettings(SIZE_PX, (6, 12, 16), 4)
BOTH = pytest.mark.parametrize("architecture", [RESNET, AUTOENCODER], ids=["resnet", "autoencoder"])
SYNTHESIS = SynthesisSettings(
    24, (6.0, 8.0, 7.0), (14.0, 15.0, 16.0), (1.0, 2.0), 0.03, 0.01, continued_fraction=0.0, continued_mm=0.0
)
NO_CHANGES = EncoderAugmentation(
    (0.0, 0.0, 0.0), probability=0.0, gamma=(0.5, 2.0), light=0.3, blur_sigma_px=(0.3, 1.5), noise_sd=0.03, rods=3
)
CHANGES = replace(NO_CHANGES, turn_sd_deg=(1.0, 1.0, 4.0), probability=0.5)
GEODESIC = EncoderLoss(
    1e-2, 0.0, "none", SIZE_PX, rendered_per_batch=2, images_from=0.0, reconstruction=0.0, latent=0.0
)
RUN = Run(0, "ours", "P01")
ERROR_COLUMNS = ("mpd_mm", "mrpd_mm", "tre_mm", "mpd_legacy", "rotation_deg", "translation_mm")


def network(architecture: NetworkSettings, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_network(architecture)


def images(count: int, height: int = SIZE_PX, width: int = SIZE_PX, seed: int = 1) -> Tensor:
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed))


def weights(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@pytest.fixture(scope="module")
def specimen(tmp_path_factory) -> tuple[Patient, tuple[Xray, ...]]:
    return small_specimen(tmp_path_factory.mktemp("encode"), upside_down=(False, True), image_size_px=48)


@pytest.fixture(scope="module")
def patient(specimen) -> Patient:
    return specimen[0]


@pytest.fixture(scope="module")
def xrays(specimen) -> tuple[Xray, ...]:
    return specimen[1]


def pool_of(patient: Patient, xrays: Sequence[Xray], synthesis: SynthesisSettings) -> DrrPool:
    drrs = list(synthesize(patient, xrays[0].camera, expected_pose(patient, xrays[0]), ROIS, synthesis, None, 0))
    return pooled(drrs)


@pytest.fixture(scope="module")
def pool(patient, xrays) -> DrrPool:
    return pool_of(patient, xrays, SYNTHESIS)


# The networks


@BOTH
def test_a_reading_has_six_numbers_for_each_image_whatever_its_size_and_its_batch(architecture):
    net, picture = network(architecture).train(), images(3, 48, 40)
    with torch.no_grad():
        reading, alone = net(picture), net(picture[1:2])
    assert reading.twist.shape == (3, 6)
    assert reading.twist.std(0).min() > 0
    assert (reading.reconstruction is None) == (reading.latent is None) == (architecture is RESNET)
    torch.testing.assert_close(alone.twist, reading.twist[1:2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("widths", [(8,), (6, 8, 10, 12, 16)], ids=len)
def test_an_autoencoder_gives_an_image_of_the_networks_size_back_from_its_tokens(widths):
    reading = network(AttentionAutoencoderSettings(64, widths, 4))(images(2, 50, 70))
    assert reading.reconstruction.shape == (2, 64, 64)
    assert reading.latent.shape == (2, (64 >> len(widths)) ** 2, widths[-1])
    (gradient,) = torch.autograd.grad(reading.reconstruction.square().sum(), reading.latent)
    assert gradient.abs().amax(2).min() > 0


def test_the_resnet_of_the_paper_is_resnet18():
    ours = build_network(ResNetSettings(SIZE_PX, (2, 2, 2, 2), (64, 128, 256, 512))).trunk
    timms = timm.create_model("resnet18", in_chans=1, num_classes=0, norm_layer=group_norm, global_pool="")
    shapes = [[(name, value.shape) for name, value in net.state_dict().items()] for net in (ours, timms)]
    assert shapes[0] == shapes[1]
    ours.load_state_dict(timms.state_dict())
    with torch.no_grad():
        assert torch.equal(ours.eval()(images(1)[:, None]), timms.eval()(images(1)[:, None]))


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 9, 16, 20, 64])
def test_any_number_of_channels_is_normalised_in_groups_of_more_than_one(channels):
    norm = group_norm(channels)
    assert channels == 1 or channels // norm.num_groups >= 2
    assert norm(torch.rand(2, channels, 1, 1)).shape == (2, channels, 1, 1)


@BOTH
def test_scale_and_offset_of_the_image_do_not_matter(architecture):
    net, image = network(architecture), images(2)
    with torch.no_grad():
        expected = net(image).twist
        for other in (40 * image, image - 3, 1e-2 * image + 7e-3):
            torch.testing.assert_close(net(other).twist, expected, rtol=0, atol=1e-4)
        assert not torch.allclose(net(-image).twist, expected, atol=1e-2)


def test_neither_metal_nor_air_sets_the_scale_of_what_networks_see():
    image = images(1)
    image[0, 3:7, 5:9], image[0, 20:24, 5:9] = 2.0, -1.0
    other = image.where(image < 2, 1000.0).where(image > -1, -50.0)
    body = (image > 0) & (image < 1)
    assert body.float().mean() > 0.9
    torch.testing.assert_close(robustly_scaled(other, SIZE_PX)[body], robustly_scaled(image, SIZE_PX)[body])
    assert robustly_scaled(other, SIZE_PX).abs().max() < 3


@BOTH
def test_an_image_that_is_flat_or_mostly_so_is_no_fault(architecture):
    net, picture = network(architecture), torch.full((2, SIZE_PX, SIZE_PX), 0.3)
    picture[1, :10] = images(1)[0, :10]
    net(picture).twist.square().sum().backward()
    assert net(picture).twist.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in net.parameters())


# Output and pose


def moved_frame(seed: int = 0) -> PoseFrame:
    """About a view in general position, its isocentre beside the middle of the volume, unlike units."""
    volume = phantom()
    unit = torch.tensor([0.1, 0.2, 0.3, 10.0, 20.0, 40.0], **DOUBLE)
    center = volume.center_mm + torch.tensor([20.0, -10.0, 30.0], **DOUBLE)
    return PoseFrame(general_pose(volume, seed)[0], center, unit, camera(SIZE_PX))


@pytest.mark.parametrize("axis", range(3))
def test_no_output_is_the_pa_view_and_a_unit_of_it_a_unit_of_twist_along_or_about_an_axis_of_the_camera(axis):
    frame = moved_frame()
    nothing, turn, shift = frame.poses(torch.cat([torch.zeros(1, 6), torch.eye(6)[[axis, 3 + axis]]]))
    torch.testing.assert_close(nothing, frame.pa_pose, rtol=0, atol=1e-9)
    before, after_turn, after_shift = (
        transform_points(invert(pose), frame.isocenter_mm[None])[0] for pose in (frame.pa_pose, turn, shift)
    )
    # The camera moves, so the isocentre moves the other way in its frame.
    expected = -frame.twist_unit[3:] * torch.eye(3, **DOUBLE)[axis]
    torch.testing.assert_close(after_shift - before, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(shift[:3, :3], frame.pa_pose[:3, :3], rtol=0, atol=1e-12)
    torch.testing.assert_close(after_turn, before, rtol=0, atol=1e-9)
    rotation = se3_exp(torch.eye(6, **DOUBLE)[axis] * frame.twist_unit[axis])[:3, :3]
    torch.testing.assert_close(frame.pa_pose[:3, :3].T @ turn[:3, :3], rotation, rtol=0, atol=1e-9)


def test_the_gradient_flows_from_a_pose_to_the_output():
    frame = moved_frame()
    outputs = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 6))).requires_grad_()
    assert torch.autograd.gradcheck(frame.poses, (outputs,))
    single = outputs.detach().float().requires_grad_()
    frame.poses(single)[:, :3].square().sum().backward()
    assert (single.grad != 0).all()


# GEO


def shifted_pose(pose: Tensor, twist: list[float] | Tensor, center_mm: Tensor) -> Tensor:
    return perturb(pose, torch.as_tensor(twist, **DOUBLE), center_mm)


def geodesic(truth: Tensor, estimate: Tensor, center_mm: Tensor) -> float:
    return float(geodesic_loss(truth[None], estimate[None], center_mm, FOCAL_MM))


def test_geo_of_a_shift_is_twice_its_length_and_hardly_more_than_nothing_at_the_truth():
    truth, center = moved_frame().pa_pose, moved_frame().isocenter_mm
    assert geodesic(truth, truth, center) == pytest.approx(2 * EPS**0.5, rel=1e-6)
    found = geodesic(truth, shifted_pose(truth, [0, 0, 0, 3.0, -4.0, 12.0], center), center)
    assert found == pytest.approx(2 * (13.0**2 + EPS) ** 0.5, rel=1e-9)
    assert found == pytest.approx(26.0, abs=1e-4)


def test_geo_of_a_turn_about_the_isocentre_is_its_arc_at_half_the_focal_length_and_its_angle():
    truth, center = moved_frame().pa_pose, moved_frame().isocenter_mm
    axis = torch.tensor([2.0, -1.0, 2.0, 0.0, 0.0, 0.0], **DOUBLE) / 3
    for angle in (0.01, 0.5, 3.0):
        found = geodesic(truth, shifted_pose(truth, angle * axis, center), center)
        assert found == pytest.approx(((510.0 * angle) ** 2 + EPS) ** 0.5 + (angle**2 + EPS) ** 0.5, rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([1e-3, 0.1, 0.6]))
def test_geo_is_that_of_the_errors_and_the_matrix_logarithm_wherever_the_volumes_origin_is(seed, spread):
    rng = np.random.default_rng(seed)
    center = torch.from_numpy(rng.normal(size=3) * 100)
    truth = se3_exp(torch.from_numpy(rng.normal(size=6) * np.repeat([1.0, 300.0], 3)))
    estimate = shifted_pose(truth, rng.normal(size=6) * np.repeat([spread, 100 * spread], 3), center)
    found = geodesic(truth, estimate, center)
    errors = registration_errors(estimate, truth, camera(SIZE_PX), center[None], center)
    arc = np.deg2rad(errors["rotation_deg"]) * FOCAL_MM / 2
    # The relative motion, written about the isocentre.
    motion = invert(translation(center)) @ truth @ invert(estimate) @ translation(center)
    twist = logm(motion.numpy()).real
    length_sq = (twist[[2, 0, 1], [1, 2, 0]] ** 2).sum() + (twist[:3, 3] ** 2).sum()
    expected = (arc**2 + errors["translation_mm"] ** 2 + EPS) ** 0.5 + (length_sq + EPS) ** 0.5
    assert found == pytest.approx(expected, rel=1e-6)
    offset = torch.tensor([-400.0, 900.0, 50.0], **DOUBLE)
    move = translation(offset)
    assert geodesic(move @ truth, move @ estimate, center + offset) == pytest.approx(found, rel=1e-6)


def half_turns() -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of poses: the same, nearly the same, half a turn about the isocentre apart in several ways."""
    pose, center = moved_frame().pa_pose, moved_frame().isocenter_mm
    axes = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.5**0.5, 0.5**0.5, 0], [0.48, 0.6, 0.64]]
    pairs = {"truth": (pose, pose), "near truth": (pose, shifted_pose(pose, [1e-9, 0, 0, 0, 1e-7, 0], center))}
    for k, axis in enumerate(axes):
        for name, angle in (("pi", np.pi), ("near pi", np.pi - 1e-7)):
            pairs[f"{name} {k}"] = pose, shifted_pose(pose, [*(angle * np.array(axis)), 0, 0, 0], center)
    eye = torch.eye(4, **DOUBLE)
    return pairs | {f"exactly pi {k}": (eye, torch.diag(2 * eye[k] - 1 + 2 * eye[3])) for k in range(3)}


@pytest.mark.parametrize("pair", half_turns().values(), ids=half_turns())
def test_geo_and_its_gradient_are_finite_at_the_truth_and_half_a_turn_from_it(pair):
    truth, estimate = (pose[None].clone() for pose in pair)
    center = moved_frame().isocenter_mm if truth[0, 0, 3] else torch.zeros(3, **DOUBLE)
    estimate.requires_grad_()
    twist = torch.zeros(1, 6, **DOUBLE, requires_grad=True)
    value = geodesic_loss(truth, perturb(estimate, twist, center), center, FOCAL_MM)
    value.sum().backward()
    apart = float((truth - estimate.detach()).abs().max()) > 0.1
    assert value.item() == pytest.approx(511 * np.pi if apart else 2 * EPS**0.5, rel=1e-5)
    assert estimate.grad.isfinite().all()
    assert twist.grad.isfinite().all()
    if torch.equal(truth, estimate):
        assert twist.grad.abs().max() < 1e-9


def test_the_gradient_of_geo_is_that_of_finite_differences():
    truths = general_pose(phantom(), 1).repeat(3, 1, 1)
    center = moved_frame().isocenter_mm
    rng = np.random.default_rng(0)
    twists = torch.from_numpy(rng.normal(size=(3, 6)) * [0.3, 0.3, 0.3, 20, 20, 20]).requires_grad_()

    def loss(twist: Tensor) -> Tensor:
        return geodesic_loss(truths, perturb(truths, twist, center), center, FOCAL_MM)

    assert loss(twists).shape == (3,)
    assert torch.autograd.gradcheck(loss, (twists,))


# Terms that look at images


def image_terms(segmenter: Segmenter | None = None) -> ImageTerms:
    return ImageTerms(phantom(), camera(48), 1.5, segmenter)


def unet_segmenter() -> Segmenter:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = UNet(UNetSettings(64, (4, 6, 8, 10, 12, 14)), 2).double().requires_grad_(False)
    net.head.weight *= 5
    return Segmenter(("a", "b"), net)


def gradient_to_a_twist(
    terms: ImageTerms, name: str, loss: EncoderLoss, truth: Tensor, estimate: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The gradient of a term to a twist of the estimate in units of 0.05 rad and 10 mm, and the term as a function."""
    units = torch.tensor([0.05] * 3 + [10.0] * 3, **DOUBLE)

    def value(twist: Tensor) -> Tensor:
        return terms(truth, perturb(estimate, twist * units, terms.volume.center_mm), loss)[name]

    twist = torch.zeros(6, requires_grad=True, **DOUBLE)
    value(twist).backward()
    return twist.grad, value


@pytest.mark.parametrize("measure", ["global_ncc", "mncc", "ssim", "mse"])
def test_the_similarity_is_best_and_flat_at_the_truth(measure):
    truth, loss = general_pose(phantom(), 0), replace(GEODESIC, similarity=measure)
    away = perturb(truth, torch.tensor([0.05, -0.04, 0.03, 5.0, 4.0, -8.0], **DOUBLE), phantom().center_mm)
    terms = image_terms()
    found = terms(truth, truth, loss)
    assert found.keys() == {"similarity"}
    assert float(found["similarity"]) == pytest.approx(1, abs=5e-3)
    assert float(terms(truth, away, loss)["similarity"]) < float(found["similarity"]) - 5e-3
    here, _ = gradient_to_a_twist(terms, "similarity", loss, truth, truth)
    there, _ = gradient_to_a_twist(terms, "similarity", loss, truth, away)
    assert here.norm() < 1e-3 * there.norm()


def test_the_dice_is_of_the_rois_at_the_truth_and_their_probabilities_at_the_estimate():
    truth, estimate = general_pose(phantom(), 0), general_pose(phantom(), 1)
    terms, loss = image_terms(unet_segmenter()), replace(GEODESIC, roi=0.1)
    found = terms(truth, estimate, loss)
    assert found.keys() == {"dice"}
    fixed, moving = (
        terms.segmenter.probabilities(scaled(render(terms.volume, terms.camera, pose, 1.5)))
        for pose in (truth, estimate)
    )
    masks = roi_channels(roi_numbers(fixed), 2)
    assert masks.sum((0, 2, 3)).min() > 0
    assert float(found["dice"]) == pytest.approx(float(dice(masks, moving).mean()), abs=1e-9)
    truth.requires_grad_()
    both = terms(truth, estimate.requires_grad_(), replace(loss, similarity="mncc"))
    assert both.keys() == {"similarity", "dice"}
    sum(both.values()).backward()
    assert truth.grad is None
    assert estimate.grad.abs().max() > 0


def test_the_gradient_of_the_roi_term_to_the_estimate_is_that_of_finite_differences():
    truth, estimate = general_pose(phantom(), 0), general_pose(phantom(), 1)
    loss = replace(GEODESIC, roi=0.1)
    exact, value = gradient_to_a_twist(image_terms(unet_segmenter()), "dice", loss, truth, estimate)
    steps = 1e-4 * torch.eye(6, **DOUBLE)
    with torch.no_grad():
        slopes = torch.stack([(value(step) - value(-step)) / 2e-4 for step in steps])
    assert slopes.norm() > 1e-6
    for part in (slice(None), slice(3), slice(3, None)):
        assert cosine_similarity(exact[part], slopes[part], dim=0) > 0.95
    assert exact.norm() == pytest.approx(float(slopes.norm()), rel=0.1)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    values = {"geodesic": 30.0, "similarity": 0.7, "dice": 0.4, "reconstruction": 0.5, "latent": 3.0}
    terms = {name: torch.tensor(value, **DOUBLE) for name, value in values.items()}
    loss = replace(GEODESIC, roi=0.1, similarity="mncc", reconstruction=2.0, latent=0.05)
    assert float(total(terms, loss)) == pytest.approx(1e-2 * 30 + 0.1 * 0.6 + 0.3 + 2 * 0.5 + 0.05 * 3)
    assert float(total({name: terms[name] for name in ("geodesic", "dice")}, loss)) == pytest.approx(0.36)
    assert float(total({"geodesic": terms["geodesic"]}, loss)) == pytest.approx(0.3)


def test_a_reconstruction_is_compared_with_the_clean_image_as_networks_see_it():
    clean = images(2, 48, 40)
    target = robustly_scaled(clean, SIZE_PX)
    perfect = EncoderOutput(torch.zeros(2, 6), target, torch.tensor([[[1.0, -2.0]], [[3.0, 0.0]]]))
    for picture in (clean, 5 * clean + 2):
        found = reconstruction_terms(perfect, picture)
        assert float(found["reconstruction"]) == pytest.approx(0, abs=1e-10)
        assert float(found["latent"]) == pytest.approx(3.5)
    worse = reconstruction_terms(replace(perfect, reconstruction=target + 0.5), clean)
    assert float(worse["reconstruction"]) == pytest.approx(0.25, rel=1e-4)
    assert reconstruction_terms(EncoderOutput(torch.zeros(2, 6)), clean) == {}


# Augmentation


def seen_inside(new: Camera, new_pose: Tensor, old: Camera, old_pose: Tensor) -> Tensor:
    """Pixels of the new view whose rays meet the old detector between its pixel centres."""
    points = transform_points(new_pose, new.detector_points_mm.reshape(-1, 3))
    pixels = project(points, old, old_pose).reshape(new.height, new.width, 2)
    last = torch.tensor([old.width - 1.0, old.height - 1.0], **DOUBLE)
    return ((pixels >= 0) & (pixels <= last)).all(-1)


TURNS = {"x": [0.05, 0, 0], "y": [0, 0.05, 0], "z": [0, 0, 0.3], "all": [0.02, -0.03, 0.15]}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_turned_image_is_the_drr_at_the_turned_pose(turn):
    volume, pose = phantom(), general_pose(phantom())
    view = replace(camera(64), height=48)
    turn = torch.tensor([turn, [0, 0, 0]], **DOUBLE)
    both = pose.repeat(2, 1, 1)
    image = render(volume, view, both, 1.0)
    found, poses = turned(image, both, view, turn)
    expected = render(volume, view, poses[:1], 1.0)[0]
    inside = seen_inside(view, poses[0], view, pose[0])
    assert inside.double().mean() > 0.7
    wrong_way, _ = turned(image, both, view, -turn)
    assert relative_error(found[0][inside], expected[inside]) < 5e-3
    for other in (image, wrong_way):
        assert relative_error(other[0][inside], expected[inside]) > 0.15
    # The second one was not to be turned.
    torch.testing.assert_close(found[1], image[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(poses[1], both[1], rtol=0, atol=1e-9)
    assert is_rigid(poses[0])


def test_turns_have_the_spread_asked_for_on_each_axis():
    spread = (1.0, 2.0, 6.0)
    turns = sample_turns(replace(NO_CHANGES, turn_sd_deg=spread), 2000, np.random.default_rng(0)).rad2deg().numpy()
    # Five standard errors.
    np.testing.assert_allclose(turns.std(0), spread, rtol=5 / np.sqrt(4000))
    assert (np.abs(turns.mean(0)) < 5 * np.array(spread) / np.sqrt(2000)).all()
    assert (sample_turns(NO_CHANGES, 3, np.random.default_rng(0)) == 0).all()


def altered(picture: Tensor, settings: EncoderAugmentation, seed: int = 0) -> Tensor:
    return changed(picture, settings, image_changes(settings), np.random.default_rng(seed))


def test_changes_of_images_depend_on_the_generator_only():
    changes, picture = image_changes(CHANGES), images(6)
    results = []
    for seed, disturbance in ((5, 1), (6, 2), (5, 3)):
        torch.manual_seed(disturbance)
        np.random.seed(disturbance)  # noqa: NPY002
        random.seed(disturbance)
        before = torch.get_rng_state()
        results.append(changed(picture, CHANGES, changes, np.random.default_rng(seed)))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[0], altered(picture, CHANGES, 5))
    assert not torch.equal(results[0], results[1])
    assert (results[0].shape, results[0].dtype) == (picture.shape, picture.dtype)
    assert results[0].isfinite().all()
    assert torch.equal(picture, images(6))


def test_images_of_a_batch_are_changed_each_in_its_own_way_or_with_probability_0_not_at_all():
    same = images(1).expand(5, -1, -1)
    found = altered(same, replace(CHANGES, probability=1.0, rods=0))
    assert len(found.flatten(1).unique(dim=0)) == 5
    assert ((found - same).abs().mean((1, 2)) > 1e-2).all()
    torch.testing.assert_close(altered(same, NO_CHANGES), same, rtol=0, atol=1e-6)


def test_rods_are_brighter_than_anything_and_hide_little():
    picture = images(200)
    found = with_rods(picture, CHANGES, np.random.default_rng(0))
    hidden = found != picture
    assert found[hidden].min() >= 1
    assert found[hidden].max() <= 2
    assert float(hidden.any(2).any(1).float().mean()) == pytest.approx(0.5, abs=0.15)
    assert hidden.float().mean((1, 2)).max() < 0.1
    levels = [len(image[mask].unique()) for image, mask in zip(found, hidden, strict=True)]
    assert max(levels) == CHANGES.rods
    assert torch.equal(with_rods(picture, replace(CHANGES, rods=0), np.random.default_rng(0)), picture)


# Examples


@pytest.mark.parametrize(("epochs", "stages"), [(8, 4), (7, 3), (5, 1), (10, 10)])
def test_a_pool_is_opened_in_equal_shares_over_equal_times(epochs, stages):
    count = 21
    numbers = torch.arange(count, **DOUBLE)[:, None, None]
    draw = draw_from_pool(
        DrrSet(numbers.expand(count, 2, 2), numbers.expand(count, 4, 4), torch.ones(count)), 600, epochs, stages
    )
    opened = []
    for epoch in range(epochs):
        drrs = draw(epoch, np.random.default_rng(epoch))
        picture, poses = drrs.images, drrs.poses
        assert picture.shape == (600, 2, 2)
        assert torch.equal(picture[:, 0, 0], poses[:, 0, 0])
        seen = picture[:, 0, 0].unique().tolist()
        assert seen == list(range(len(seen)))
        opened.append(len(seen))
    assert opened[0] == count // stages
    assert opened[-1] == count
    assert opened == sorted(opened)
    assert len(set(opened)) == stages
    times = np.bincount(np.unique(opened, return_inverse=True)[1])
    assert times.max() - times.min() <= 1


@pytest.mark.parametrize("stages", [7, 9])
def test_more_stages_than_drrs_or_epochs_are_an_error(stages):
    few = DrrSet(images(6), torch.eye(4).expand(6, 4, 4), torch.ones(6))
    for drrs, epochs in ((few, 100), (DrrSet(images(100), torch.eye(4).expand(100, 4, 4), torch.ones(100)), 6)):
        with pytest.raises(InputError, match=rf"stages: {stages} stages for"):
            draw_from_pool(drrs, 2, epochs, stages)
        draw_from_pool(drrs, 2, epochs, 6)


def test_a_pool_at_the_networks_size_is_what_its_camera_sees(patient, xrays):
    drrs = pool_of(patient, xrays, replace(SYNTHESIS, count=4, bone_contrast=(1.0, 1.0)))
    small = at_size(drrs, SIZE_PX)
    assert torch.equal(small.poses, drrs.poses)
    seen = scaled(render(patient.volume, xrays[0].camera.resized(SIZE_PX, SIZE_PX), drrs.poses))
    assert relative_error(small.images, seen) < 0.05
    assert relative_error(small.images.roll(1, 2), seen) > 0.1


def test_drrs_on_the_fly_depend_on_the_generator_only(patient, xrays):
    view = xrays[0].camera.resized(SIZE_PX, SIZE_PX)
    draw = draw_online(Synthesizer(patient, view, expected_pose(patient, xrays[0]), ROIS, SYNTHESIS, None), 3)
    torch.manual_seed(1)
    first = draw(0, np.random.default_rng(4))
    picture, poses = first.images, first.poses
    torch.manual_seed(2)
    draw(7, np.random.default_rng(5))
    again = draw(3, np.random.default_rng(4))
    other = draw(0, np.random.default_rng(5))
    assert torch.equal(picture, again.images)
    assert torch.equal(poses, again.poses)
    assert not torch.equal(poses, other.poses)
    assert picture.shape == (3, SIZE_PX, SIZE_PX)
    assert (picture.amin((1, 2)) == 0).all()
    assert (picture.amax((1, 2)) == 1).all()
    assert all(is_rigid(pose) for pose in poses)
    assert len(poses.flatten(1).unique(dim=0)) == 3


# Another camera


OTHER_K = [[-1020 / 7.0, 0.0, 22.0], [0.0, 1020 / 6.5, 14.5], [0.0, 0.0, 1.0]]


def test_an_image_is_seen_by_another_detector_as_if_rendered_there():
    volume, pose = phantom(), general_pose(phantom())
    view, other = replace(camera(64), height=52), Camera(torch.tensor(OTHER_K, **DOUBLE), 30, 40, (7.0, 6.5))
    found = seen_by(render(volume, view, pose, 1.0), view, other)
    expected = render(volume, other, pose, 1.0)
    assert found.shape == expected.shape == (1, 30, 40)
    inside = seen_inside(other, pose[0], view, pose[0])
    assert 0.7 < inside.double().mean() < 1
    assert relative_error(found[0][inside], expected[0][inside]) < 0.01
    for wrong in (found.roll(1, 2), found.roll(1, 1), found.flip(2)):
        assert relative_error(wrong[0][inside], expected[0][inside]) > 0.05


def test_a_detector_that_shows_less_than_half_of_what_is_asked_for_is_an_error():
    view, k = camera(40), camera(40).intrinsics_px
    for shift in (18.0, -18.0, 22.0, -22.0):
        moved = replace(view, intrinsics_px=k + shift * torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0]], **DOUBLE))
        if abs(shift) < 20:
            assert seen_by(images(1, 40, 40), view, moved).isfinite().all()
            continue
        with pytest.raises(InputError) as raised:
            seen_by(images(1, 40, 40), view, moved)
        assert raised.value.where == "X-ray"
        assert "only 45%" in raised.value.what
        assert "\n" not in str(raised.value)


# Files


def encoder_of(architecture: NetworkSettings, seed: int = 0) -> PoseEncoder:
    return PoseEncoder(network(architecture, seed), moved_frame())


@BOTH
def test_an_encoder_from_a_file_gives_the_same_poses_bit_by_bit(tmp_path: Path, architecture):
    encoder, view = encoder_of(architecture), camera(48)
    save_encoder(tmp_path / "P01" / "model.safetensors", encoder, architecture)
    again = load_encoder(tmp_path / "P01" / "model.safetensors", CPU)
    encoder.network.eval()
    for image in images(3, 48, 48):
        assert torch.equal(again.estimate(image, view), encoder.estimate(image, view))
    assert not again.network.training
    assert not any(parameter.requires_grad for parameter in again.network.parameters())
    assert again.frame.camera.pixel_spacing_mm == encoder.frame.camera.pixel_spacing_mm
    assert [file.name for file in (tmp_path / "P01").iterdir()] == ["model.safetensors"]


def test_an_image_that_is_mostly_one_value_keeps_its_contrast():
    picture = images(1)
    picture[0, :20] = 0.0
    seen = robustly_scaled(picture, SIZE_PX)[0, 20:]
    assert (
        cosine_similarity((seen - seen.mean()).flatten(), (picture[0, 20:] - picture[0, 20:].mean()).flatten(), 0) > 0.9
    )


def test_an_estimate_reads_the_image_as_the_encoders_camera_would_see_it():
    encoder = encoder_of(RESNET)
    volume, view = phantom(), encoder.frame.camera
    truth = general_pose(volume, 3)
    wide = view.resized(256, 256)
    image = render(volume, wide, truth, 1.0)[0].float()
    at_own_size = render(volume, view, truth, 1.0)[0].float()
    own = encoder.estimate(at_own_size, view)
    expected = encoder.frame.poses(encoder.network(scaled(at_own_size[None])).twist)[0]
    torch.testing.assert_close(own, expected, rtol=0, atol=1e-3)
    found = encoder.estimate(7 * image, wide)
    assert is_rigid(found)
    assert found.dtype == torch.float64
    as_in_training = at_size(
        DrrPool(scaled(image[None]), torch.zeros(1, *image.shape, dtype=torch.uint8), truth, torch.ones(1)), view.height
    ).images
    expected = encoder.frame.poses(encoder.network(as_in_training).twist)[0]
    mirrored = encoder.estimate(image.flip(1), wide)
    assert (found - expected).norm() < 1e-2 * (mirrored - expected).norm()


def test_an_estimate_does_not_change_with_the_pixels_that_surround_what_the_encoder_looks_at():
    encoder, volume = encoder_of(RESNET), phantom()
    wide, truth = encoder.frame.camera.resized(256, 256), general_pose(volume, 3)
    crop = Camera(
        wide.intrinsics_px - torch.tensor([[0.0, 0, 8], [0, 0, 8], [0, 0, 0]]), 240, 240, wide.pixel_spacing_mm
    )
    image = render(volume, wide, truth, 1.0)[0].float()
    whole, cut = encoder.estimate(image, wide), encoder.estimate(image[8:-8, 8:-8], crop)
    mirrored = encoder.estimate(image.flip(1), wide)
    assert 0 < (whole - cut).norm() < 0.3 * (whole - mirrored).norm()


class Harmful:
    """Unpickling it creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "truncated", "no header", "other metadata", "no metadata", "pickle"]
)
def test_a_file_that_is_no_encoder_is_named_and_not_executed(tmp_path: Path, kind):
    path = tmp_path / "model.safetensors"
    save_encoder(path, encoder_of(RESNET), RESNET)
    whole, state = path.read_bytes(), encoder_of(RESNET).network.state_dict()
    if kind == "missing":
        path.unlink()
    elif kind == "pickle":
        torch.save({"roireg_encoder": Harmful(tmp_path / "executed")}, path)
    elif kind.endswith("metadata"):
        save_file(state, path, {"roireg_segmenter": "{}"} if kind == "other metadata" else None)
    else:
        path.write_bytes({"empty": b"", "truncated": whole[:-100], "no header": whole[8:]}[kind])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_encoder(path, CPU)
    assert not (tmp_path / "executed").exists()


def without(entries: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if name != key}


TRANSFORMER = {"type": "attention_autoencoder", "image_size_px": 32, "widths": [6, 10], "heads": 4}
DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda d: [1, 2],
    "network a word": lambda d: d | {"network": "resnet"},
    "unknown type": lambda d: d | {"network": d["network"] | {"type": "vit"}},
    "unknown setting": lambda d: d | {"network": d["network"] | {"depth": 3}},
    "no widths": lambda d: d | {"network": without(d["network"], "widths")},
    "other widths": lambda d: d | {"network": d["network"] | {"widths": [8, 8, 8, 8]}},
    "three stages": lambda d: d | {"network": d["network"] | {"layers": [1, 1, 1], "widths": [8, 8, 16]}},
    "heads that do not divide": lambda d: d | {"network": TRANSFORMER},
    "no frame": lambda d: without(d, "pa_pose"),
    "no camera": lambda d: d | {"camera": None},
    "words for numbers": lambda d: d | {"twist_unit": ["a"] * 6},
}


@pytest.mark.parametrize("change", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_description_that_does_not_fit_the_weights_is_an_error_that_names_the_file(tmp_path: Path, change):
    path = tmp_path / "model.safetensors"
    save_encoder(path, encoder_of(RESNET), RESNET)
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["roireg_encoder"])
    save_file(encoder_of(RESNET).network.state_dict(), path, {"roireg_encoder": json.dumps(change(description))})
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_encoder(path, CPU)


# Training

RECIPE = asdict(Recipe("adam", 3e-3, 0.0, 0.0, None, 0.02, "warmup_cosine", 1, plateau_factor=0.1, plateau_epochs=10))
ENTRY = {
    "output_unit": "spread",
    "network": {"type": "resnet", **asdict(RESNET)},
    "loss": asdict(GEODESIC),
    **{"epochs": 3, "batches_per_epoch": 2, "batch_size": 4, "stages": 1},
}
FULL = ENTRY | {"loss": asdict(replace(GEODESIC, roi=0.1, similarity="mncc"))}
PSSS = ENTRY | {"loss": asdict(replace(GEODESIC, reconstruction=1.0, latent=1e-3)), "stages": 3}
PSSS["network"] = {"type": "attention_autoencoder", **asdict(AUTOENCODER)}
ENTRIES = {"ours": FULL, "psss": PSSS, "geodesic": ENTRY}


@pytest.fixture(scope="module")
def materials(patient, xrays, pool) -> dict[str, TrainingData]:
    segmenter = Segmenter(ROIS, unet_segmenter().network.float())
    return {
        name: training_data(patient, xrays[0], entry, SYNTHESIS, list(ROIS), pool, segmenter, None, RUN, CPU)
        for name, entry in ENTRIES.items()
    }


def trained(
    data: TrainingData, entry: dict, folder: Path, run: Run = RUN, changes=CHANGES, recipe=RECIPE
) -> tuple[PoseEncoder, list[EpochRecord]]:
    checkpoint = Checkpoint(folder / "checkpoint.pt", "data", every_seconds=0.0)
    return train_encoder(data, encoder_settings(entry, recipe, asdict(changes)), run, checkpoint, CPU)


def curve(history: list[EpochRecord]) -> list[tuple]:
    return [(record.epoch, record.loss, record.learning_rate, record.measures) for record in history]


def test_settings_and_material_are_those_of_the_config(patient, xrays, materials):
    found = encoder_settings(PSSS, RECIPE, asdict(CHANGES) | {"gamma": [0.5, 2.0]})
    assert (found.network, asdict(found.recipe), found.augment) == (AUTOENCODER, RECIPE, CHANGES)
    assert (asdict(found.length), asdict(found.loss)) == ({"epochs": 3, "batches_per_epoch": 2}, PSSS["loss"])
    # A loss that looks at no image renders none.
    assert materials["geodesic"].images is materials["psss"].images is None
    data = materials["ours"]
    view = xrays[0].camera.resized(SIZE_PX, SIZE_PX)
    for found in (data.frame.camera, data.images.camera):
        torch.testing.assert_close(found.intrinsics_px, view.intrinsics_px)
    assert data.frame.twist_unit.tolist() == pytest.approx([*np.deg2rad([6, 8, 7]), 14, 15, 16])
    assert torch.equal(data.frame.pa_pose, expected_pose(patient, xrays[0]))
    assert data.validation.images.shape == (VALIDATION_DRRS, SIZE_PX, SIZE_PX)
    assert data.draw(0, np.random.default_rng(0)).images.shape == (4, SIZE_PX, SIZE_PX)


class Killed(BaseException):
    """Ends a training in the middle of a batch."""


@pytest.mark.parametrize("name", ["ours", "psss"])
def test_a_killed_training_ends_with_the_same_weights_and_learning_curve(tmp_path: Path, materials, name):
    data, entry = materials[name], ENTRIES[name]
    before = torch.get_rng_state()
    expected, history = trained(data, entry, tmp_path / "undisturbed")
    assert torch.equal(torch.get_rng_state(), before)
    for at in (1, 5):
        calls = []

        def draw(epoch: int, rng: np.random.Generator, calls=calls, at=at) -> DrrSet:
            calls.append(epoch)
            if len(calls) > at:
                raise Killed
            return data.draw(epoch, rng)

        with pytest.raises(Killed):
            trained(replace(data, draw=draw), entry, tmp_path / str(at))
        assert (tmp_path / str(at) / "checkpoint.pt").is_file() == (at > 2)
        torch.manual_seed(at)
        resumed, again = trained(data, entry, tmp_path / str(at))
        assert torch.equal(weights(resumed.network), weights(expected.network))
        assert curve(again) == curve(history)


MEASURES = {"ours": {"similarity", "dice"}, "psss": {"reconstruction", "latent"}, "geodesic": set()}


@pytest.mark.parametrize("name", MEASURES)
def test_a_learning_curve_has_the_terms_of_the_loss_and_the_validation_error(tmp_path: Path, materials, name):
    data, entry = materials[name], ENTRIES[name]
    encoder, history = trained(data, entry, tmp_path)
    loss, names = EncoderLoss(**entry["loss"]), MEASURES[name] | {"geodesic"}
    for record in history:
        assert record.measures.keys() == names | {"validation_mpd_mm", "pa_validation_mpd_mm"}
        assert all(np.isfinite(value) for value in record.measures.values())
        terms = {key: torch.tensor(record.measures[key]) for key in names}
        assert float(total(terms, loss)) == pytest.approx(record.loss, rel=1e-4)
    view, frame = data.frame.camera, data.frame
    errors = [
        registration_errors(encoder.estimate(image, view), pose, view, data.error_points_mm, frame.isocenter_mm)
        for image, pose in zip(data.validation.images, data.validation.poses, strict=True)
    ]
    found = validation_errors_mm(encoder, data)
    np.testing.assert_allclose(found, [error["mpd_mm"] for error in errors], rtol=1e-3)
    assert history[-1].measures["validation_mpd_mm"] == pytest.approx(float(found.median()), rel=1e-4)


def test_the_terms_that_render_join_when_they_are_told_to(tmp_path: Path, materials):
    entry = copy.deepcopy(ENTRIES["ours"])
    entry["loss"]["images_from"] = 0.5
    entry["epochs"] = 5
    _, history = trained(materials["ours"], entry, tmp_path)
    assert ["dice" in record.measures for record in history] == [False, False, False, True, True]
    assert ["similarity" in record.measures for record in history] == [False, False, False, True, True]
    write_history(tmp_path / "history.csv", history)
    assert read_histories([tmp_path / "history.csv"])[0]["dice"].isna().tolist() == [True, True, True, False, False]


def test_every_batch_is_drawn_anew_and_its_poses_turn_with_its_images(tmp_path: Path, materials, unchecked):
    epochs, drawn, compared = [], [], []

    def draw(epoch: int, rng: np.random.Generator) -> DrrSet:
        drrs = materials["geodesic"].draw(epoch, rng)
        epochs.append(epoch)
        drawn.append(drrs.poses)
        return drrs

    def compare(truth: Tensor, estimate: Tensor, loss: EncoderLoss, gains: Tensor) -> dict[str, Tensor]:
        compared.append(truth)
        return {"similarity": 0 * estimate.sum()}

    trained(replace(materials["geodesic"], draw=draw, images=compare), ENTRY, tmp_path)
    assert epochs == [0, 0, 1, 1, 2, 2]
    assert len(torch.stack(drawn).flatten(1).unique(dim=0)) == 6
    # Only `rendered_per_batch` are compared.
    old_from_new = invert(torch.stack(drawn)[:, :2]) @ torch.stack(compared)
    torch.testing.assert_close(old_from_new[..., :3, 3], torch.zeros(6, 2, 3, **DOUBLE), rtol=0, atol=1e-6)
    angles_deg = rotmat_to_rotvec(old_from_new[..., :3, :3]).norm(dim=-1).rad2deg()
    assert 0 < angles_deg.min() < angles_deg.max() < 25


def test_seed_encoder_and_specimen_decide_the_weights(tmp_path: Path, materials):
    entry = ENTRY | {"epochs": 1, "batches_per_epoch": 1}
    runs = [RUN, replace(RUN, seed=1), replace(RUN, encoder="other"), replace(RUN, specimen="P02")]
    found = [
        weights(trained(materials["geodesic"], entry, tmp_path / str(k), run)[0].network) for k, run in enumerate(runs)
    ]
    assert not any(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("name", ["ours", "psss"])
def test_an_encoder_learns_to_read_poses_that_it_was_not_trained_on(tmp_path: Path, patient, xrays, name):
    synthesis = replace(SYNTHESIS, count=200, bone_contrast=(1.0, 1.0), rotation_sd_deg=(3.0, 3.0, 3.0))
    entry = ENTRIES[name] | {"loss": asdict(GEODESIC), "epochs": 3, "batches_per_epoch": 20, "batch_size": 8}
    if name == "ours":
        entry["network"] = entry["network"] | {"widths": [8, 16, 32, 64]}
    data = training_data(
        patient, xrays[0], entry, synthesis, list(ROIS), pool_of(patient, xrays, synthesis), None, None, RUN, CPU
    )
    recipe = RECIPE | {"learning_rate": 1e-2, "max_gradient_ratio": None}
    _, history = trained(data, entry, tmp_path, changes=NO_CHANGES, recipe=recipe)
    last = history[-1].measures
    assert last["validation_mpd_mm"] < 0.6 * last["pa_validation_mpd_mm"]
    assert last["validation_mpd_mm"] < 0.8 * history[0].measures["validation_mpd_mm"]
    assert last["geodesic"] < history[0].measures["geodesic"]


def test_the_fingerprint_of_a_checkpoint_changes_with_all_that_decides_the_weights(tmp_path: Path, pool, materials):
    held_out = materials["ours"].validation
    first = {"settings": ENTRY, "code": "abc", "run": RUN, "pool": pool, "validation": held_out}
    others = [{"settings": ENTRY | {"epochs": 4}}, {"code": "abd"}, {"pool": None}]
    others += [{"run": replace(RUN, **change)} for change in ({"seed": 1}, {"encoder": "x"}, {"specimen": "x"})]
    others += [{"pool": replace(pool, poses=-pool.poses)}, {"validation": replace(held_out, images=-held_out.images)}]
    found = [checkpoint_beside(tmp_path / "model.safetensors", **first | other) for other in ({}, {}, *others)]
    assert {one.path for one in found} == {tmp_path / "checkpoint.pt"}
    assert len({one.fingerprint for one in found}) == 1 + len(others)


def test_a_learning_curve_is_read_as_it_was_written(tmp_path: Path):
    measures = [{"geodesic": 1 / 3, "validation_mpd_mm": 40.0}, {"geodesic": 0.1, "validation_mpd_mm": 20.0}]
    history = [EpochRecord(k, 0.9 - 0.5 * k, 0.1, 1.5 + k, measures[k]) for k in range(2)]
    paths = [tmp_path / name / "history.csv" for name in ("a", "b")]
    write_history(paths[0], history)
    write_history(paths[1], history[:1])
    both, first = read_histories(paths)
    expected = [{**without(asdict(record), "measures"), **record.measures} for record in history]
    pd.testing.assert_frame_equal(both, pd.DataFrame(expected))
    pd.testing.assert_frame_equal(first, pd.DataFrame(expected[:1]))


# Estimates as starts


def test_estimates_are_read_as_they_were_written(tmp_path: Path, patient, xrays, materials):
    frame = materials["ours"].frame
    encoder = PoseEncoder(network(RESNET).eval(), frame)
    rows = list(estimate_rows(encoder, patient, xrays, "ours"))
    poses = [f"pose_{r}{c}" for r in range(3) for c in range(4)]
    assert [list(row) for row in rows] == [["specimen", "projection", "encoder", *ERROR_COLUMNS, "seconds", *poses]] * 2
    write_csv(tmp_path / "poses.csv", pd.DataFrame(rows))
    found = read_estimates(tmp_path / "poses.csv")
    assert list(found) == [xray.name for xray in xrays] == ["000", "001"]
    for row, xray in zip(rows, xrays, strict=True):
        pose = encoder.estimate(xray.image, xray.camera)
        assert torch.equal(found[xray.name].pose, pose)
        assert found[xray.name].seconds == row["seconds"] > 0
        assert (row["specimen"], row["encoder"]) == ("P01", "ours")
        errors = registration_errors(pose, xray.true_pose, xray.camera, patient.landmarks_mm, patient.center_mm)
        assert {key: row[key] for key in ERROR_COLUMNS} == errors


ADAM = {"type": "adam", "iterations": 2, "learning_rate_rotation_rad": 7.5e-3, "learning_rate_translation_mm": 3.0}
ADAM |= {"decay_every": 25, "decay_factor": 0.8}
METHOD = {"init": "ours", "similarity": "mncc", "roi": "none", "optimizer": "adam"}
METHOD |= {"weights": "none"}


def method(start: dict) -> MethodSettings:
    return method_from_config("ours", METHOD, start, ADAM, None, {}, [], None)


def test_a_registration_starts_at_the_encoders_estimate_and_its_time_counts():
    patient, xrays = phantom_specimen(2)
    twists = torch.tensor([[0.03, -0.02, 0.04, 5.0, -6.0, 10.0], [-0.05, 0.01, 0.02, -9.0, 3.0, 12.0]], **DOUBLE)
    estimates = {
        xray.name: Estimate(perturb(xray.true_pose, twist, patient.center_mm), 5000.0 * k)
        for k, (xray, twist) in enumerate(zip(xrays, twists, strict=True))
    }
    start = with_estimates(method({"type": "encoder", "encoder": "ours"}), estimates)
    results = list(register_specimen(patient, xrays, start, seed=0))
    assert len(results) == 2
    for k, (result, xray) in enumerate(zip(results, xrays, strict=True)):
        pose = estimates[xray.name].pose
        assert torch.equal(result.trace.poses[0], pose)
        errors = registration_errors(pose, xray.true_pose, xray.camera, patient.landmarks_mm, patient.center_mm)
        assert result.row["init_mpd_mm"] == pytest.approx(errors["mpd_mm"], rel=1e-9)
        assert 5000.0 * k < result.row["seconds"] < 5000.0 * (k + 1)


def test_a_method_that_does_not_start_from_an_encoder_takes_no_estimates():
    assert isinstance(method({"type": "pa"}).start, PaSettings)
    with pytest.raises(ValueError, match="ours does not start from an encoder"):
        with_estimates(method({"type": "pa"}), {})


# DiffPose's way


def test_the_fixed_statistics_are_diffposes_whatever_the_images_scale():
    picture = images(2)
    taken = with_fixed_statistics(5 * picture - 3, SIZE_PX)
    low, high = picture.amin((1, 2), keepdim=True), picture.amax((1, 2), keepdim=True)
    torch.testing.assert_close(taken, ((picture - low) / (high - low) - 0.3080) / 0.1494, rtol=0, atol=1e-5)


def test_the_resnet_takes_the_input_and_the_pooling_that_it_is_told_to():
    picture, large = images(3, 64, 64), replace(RESNET, image_size_px=64)
    plain = network(large)
    pooled = network(replace(large, input="fixed", pooling="average"))
    pooled.trunk.load_state_dict(plain.trunk.state_dict())
    maps = plain.trunk(with_fixed_statistics(picture, 64)[:, None])
    assert maps.shape == (3, 16, 2, 2)
    torch.testing.assert_close(pooled(picture).twist, pooled.heads(maps.mean((2, 3))))
    assert pooled.heads.rotation.in_features == RESNET.widths[-1]


def test_a_stored_network_without_the_newer_settings_is_as_it_was():
    entry = {"type": "resnet", "image_size_px": SIZE_PX, "layers": [1, 1, 1, 1], "widths": [8, 8, 16, 16]}
    assert network_settings(entry) == RESNET


def data_of(
    patient: Patient, xray: Xray, pool: DrrPool, synthesis: SynthesisSettings = SYNTHESIS, **changes
) -> TrainingData:
    entry = copy.deepcopy(FULL | {key: changes[key] for key in changes if key in ENTRY})
    entry["loss"] |= {key: changes[key] for key in changes if key not in ENTRY}
    segmenter = Segmenter(ROIS, unet_segmenter().network.float())
    return training_data(patient, xray, entry, synthesis, list(ROIS), pool, segmenter, None, RUN, CPU)


def test_a_unit_of_output_is_a_rad_and_a_mm_where_the_config_says_so(patient, xrays, pool):
    assert data_of(patient, xrays[0], pool, output_unit="rad_and_mm").frame.twist_unit.tolist() == [1.0] * 6


def test_the_encoder_turns_about_the_point_about_which_poses_were_drawn(patient, xrays, pool):
    frame = data_of(patient, xrays[0], pool, replace(SYNTHESIS, rotation_center="ct_corner")).frame
    assert torch.equal(frame.isocenter_mm, patient.volume.corner_mm)


def test_the_compared_drrs_end_where_the_ct_ends_if_they_are_told_to(patient, xrays, pool):
    inner = patient.volume.values[8:-8]
    cut = replace(patient, volume=Volume(inner, patient.volume.volume_from_voxel), labels=patient.labels[8:-8])
    synthesis = replace(SYNTHESIS, continued_mm=60.0)
    slices = {
        continued: len(data_of(cut, xrays[0], pool, synthesis, continued=continued).images.volume.values)
        for continued in (True, False)
    }
    assert slices[False] == len(inner)
    assert slices[True] > len(inner) + 10


def test_both_compared_drrs_have_the_contrast_that_was_drawn(patient, xrays, pool):
    data = data_of(patient, xrays[0], pool, bone_contrast="drawn")
    bone, gain = SYNTHESIS.bone_of(patient.volume), float(data.gain(torch.tensor(3.0)))
    assert gain == 2
    stronger = patient.volume.with_values(patient.volume.values + gain * bone.values)
    by_hand = replace(data.images, volume=stronger, bone=None)
    truth, estimate = pool.poses[:2].double(), pool.poses[2:4].double()
    loss = EncoderLoss(**FULL["loss"])
    with torch.no_grad():
        found = data.images(truth, estimate, loss, torch.full((2,), gain))
        expected = by_hand(truth, estimate, loss)
        plain = data.images(truth, estimate, loss, torch.zeros(2))
    for name in ("similarity", "dice"):
        assert float(found[name]) == pytest.approx(float(expected[name]), abs=1e-4)
    assert abs(float(found["similarity"]) - float(plain["similarity"])) > 1e-3
    assert data_of(patient, xrays[0], pool).images.bone is None


def test_the_contrast_of_a_batch_reaches_the_compared_drrs(tmp_path: Path, patient, xrays, pool, unchecked):
    data, seen = data_of(patient, xrays[0], pool, bone_contrast="drawn"), []

    def compare(truth: Tensor, estimate: Tensor, loss: EncoderLoss, gains: Tensor) -> dict[str, Tensor]:
        seen.append(gains)
        return {"similarity": 0 * estimate.sum()}

    def draw(epoch: int, rng: np.random.Generator) -> DrrSet:
        return replace(data.draw(epoch, rng), bone_contrasts=torch.tensor([1.0, 1.5, 2.0, 3.0]))

    trained(replace(data, draw=draw, images=compare), ENTRY, tmp_path)
    assert all(gains.tolist() == [0.0, 0.5] for gains in seen)
    assert len(seen) == 6
