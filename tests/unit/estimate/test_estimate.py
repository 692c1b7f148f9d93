"""What a run will cost: the arithmetic, and the patient who stands in."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from roireg.data.volume import attenuation_settings
from roireg.drr import render
from roireg.drr.nanodrr import sample_count
from roireg.estimate import large_medsam
from roireg.estimate.card import ASSUMED_CARD, Card
from roireg.estimate.costs import Cost, OnGpu, report
from roireg.estimate.phantom import phantom
from roireg.estimate.steps import encoder_step, registration_step, segmenter_step
from roireg.estimate.work import COUNTED, Work, counted
from roireg.register import gauss_newton
from roireg.register.levels import Problem
from roireg.register.trace import Trace
from roireg.training.drrs import settings_from_config
from roireg.workflow.config import default_config
from roireg.workflow.plan import encoder_settings, method_settings, segmenter_settings

TRAINING = Cost("train_segmenter", "unet", 6, 7200, "batches of 5", 2.0, gpu=True, bytes=3e9)
REGISTRATION = Cost("register", "ours+gn", 12, 366, "X-rays", 0.5, gpu=False)


CARD = Card("a card", 2e12, 1e12, 4e12, 1e12, 0.5, 0.5, 1e10, 3.0, 1e-5, 10)
WORK = Work(
    convolutions=1e10, products=5e9, bound_bytes=5e9, launches=980, samples=2e7, samples_with_gradient=1e7, renderings=2
)


def test_the_time_on_a_card_is_that_of_arithmetic_traffic_and_samples():
    # Convolutions and products 10 ms each, traffic 10 ms, samples 2e7 + 4 * 1e7: 6 ms.
    assert WORK.device_seconds(CARD, bfloat16=False) == pytest.approx(0.036)
    assert WORK.device_seconds(CARD, bfloat16=True) == pytest.approx(0.036 - 0.01 * 3 / 4)
    assert WORK.host_seconds(CARD) == pytest.approx(0.01)


def test_a_step_takes_as_long_as_the_slower_of_card_and_core():
    assert OnGpu(WORK, False, 0.02).seconds(CARD) == pytest.approx(0.036)
    assert OnGpu(WORK, False, 0.2).seconds(CARD) == pytest.approx(0.21)


def test_hours_are_steps_times_seconds_and_what_is_waited_for():
    assert REGISTRATION.hours == pytest.approx(366 * 0.5 / 3600)
    assert replace(TRAINING, derived=OnGpu(WORK, False, 0.0, 1.5)).hours == pytest.approx(4.0 + 1.5)


def test_operations_of_a_network_are_counted():
    with counted() as work:
        # 6 output channels, 3 x 3 x 4 products each, on 8 x 8 pixels.
        torch.nn.functional.conv2d(torch.zeros(1, 4, 8, 8), torch.zeros(6, 4, 3, 3), padding=1)
        torch.zeros(5, 7) @ torch.zeros(7, 2)
        torch.ones(10).view(2, 5).T.exp()
    assert work.convolutions == 2 * 6 * 3 * 3 * 4 * 64
    assert work.products == 2 * 5 * 7 * 2
    # Four tensors of zeros, one of ones, a convolution, a product, an exponential; views are free.
    assert work.launches == 8
    assert work.bound_bytes == 4 * (4 * 64 + 6 * 36 + 35 + 14 + 10 + 2 * 10)


def test_the_work_of_medsams_full_size_is_counted_without_computing():
    batch, iteration = large_medsam.training_work(2, 6, 256), large_medsam.iteration_work(6, 256)
    # 4096 tokens, 12 blocks of 12 * 768^2 weights, two operations each; attention comes in addition.
    least = 2 * 4096 * 12 * 12 * 768**2
    # Forward, forward again, and twice as much backward; for a gradient to the image once as much.
    assert 2 * 4 * least < batch.products < 2 * 4 * 2 * least
    assert 3 * least < iteration.products < 3 * 2 * least
    assert batch.launches > 1000


def test_renderings_are_counted_as_samples_and_stay_what_they_are():
    patient, xray = phantom(["a"], 8, 20)
    pose = xray.known_pose[None]
    expected = render(patient.volume, xray.camera, pose)
    moving = pose.clone().requires_grad_()
    with counted() as work:
        found = render(patient.volume, xray.camera, pose)
        render(patient.volume, xray.camera, moving).sum().backward()
    assert torch.equal(found, expected)
    rays = 8 * 8
    per_ray = sample_count((20, 20, 20), patient.volume.spacing_mm, 0.75 * 18.0)
    assert (work.samples, work.samples_with_gradient, work.renderings) == (rays * per_ray, rays * per_ray, 3)
    assert moving.grad is not None


@pytest.mark.parametrize(("name", "images"), [("unet", 2), ("ours", 1)])
def test_the_work_of_a_training_is_counted(name: str, images: int):
    config = default_config()
    rois = ["a", "b"]
    patient, xray = phantom(rois, 32, 40)
    if name == "unet":
        settings = segmenter_settings(config, "unet")
        settings["segmenter"] |= {"widths": [4, 6], "image_size_px": 32, "batch_size": images}
        step = segmenter_step(settings, rois, xray, torch.device("cpu"), COUNTED)
        assert step.work.renderings == 0
    else:
        settings = encoder_settings(config, "diffpose")
        settings["encoder"] |= {"batch_size": 4}
        settings["encoder"]["loss"] |= {"rendered_per_batch": images, "image_size_px": 32}
        synthesis = settings_from_config(config["synthesize"], attenuation_settings(config["prepare"]))
        synthesis = replace(synthesis, min_roi_fraction=0.0, continued_fraction=0.0)
        step = encoder_step(settings, synthesis, rois, patient, xray, None, torch.device("cpu"), COUNTED)
        # Of body and bone: the batch, and of one example the DRRs at both poses, one of them with a gradient.
        assert step.work.samples > step.work.samples_with_gradient > 0
    assert step.work.convolutions > 1e6
    assert step.work.launches > 100
    assert 0 < step.preparation_seconds < 60


def cells(text: str, first: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first}"))
    return [cell.strip(" *") for cell in line.split("|")[1:-1]]


def test_the_report_adds_up_and_says_what_was_not_measured():
    derived = replace(TRAINING, derived=OnGpu(WORK, False, 0.02, 1.5))
    text = report([derived, REGISTRATION, REGISTRATION], 2500.0, 1.2e9)
    row = ["unet", "6", "7,200 batches of 5", "2", "–", "5.5", "3.0"]
    assert cells(text, "train_segmenter") == ["train_segmenter", *row]
    assert cells(text, "**all")[2:] == ["30", "", "", "0.1", "5.5", "3.0"]
    assert "NOT measured" in text
    assert "Dataset, prepared specimens and DRRs take 1.2 GB more" in text
    # Of the card that the estimate assumes.
    device, host = WORK.device_seconds(ASSUMED_CARD, False), 0.02 + WORK.host_seconds(ASSUMED_CARD)
    assert cells(text, "unet")[6:] == [f"{1e3 * device:.1f}", f"{1e3 * host:.1f}", "1.5"]
    assert "NOT measured" not in report([TRAINING, REGISTRATION], 2500.0, 0)


def test_the_report_says_what_becomes_of_the_hours_if_an_assumption_is_twice_too_good():
    slow = replace(WORK, bound_bytes=5e12)
    step = OnGpu(slow, False, 0.02, 1.5)
    derived = replace(TRAINING, seconds=step.seconds(ASSUMED_CARD), derived=step)
    measured = replace(TRAINING, seconds=1.0)
    text = report([derived, measured, REGISTRATION], 2500.0, 1.2e9)
    half = 5e12 / ASSUMED_CARD.bytes_per_second / (ASSUMED_CARD.memory_efficiency / 2)
    rest = replace(slow, bound_bytes=0).device_seconds(ASSUMED_CARD, False)
    assert cells(text, "traffic reaches 40%")[1] == f"{2 * (half + rest) + 1.5 + 2:.1f}"
    # The card is the slower one, so the core's launches do not matter.
    assert cells(text, "a launch takes 20 us")[1] == cells(text, "**all")[6]


def test_the_phantom_shows_every_roi_in_its_own_xray():
    rois = ["a", "b", "c", "d", "e", "f"]
    patient, xray = phantom(rois, 48, 60)
    assert sorted(xray.labels.unique().tolist()) == list(range(7))
    assert xray.image.shape == (48, 48)
    assert float(xray.image.max()) == 1.0
    # A ball of water through its middle, and of bone in it.
    thickest_mm = float(render(patient.volume, xray.camera, xray.true_pose[None]).max()) / 0.0192
    assert 0.9 * 345 < thickest_mm < 1.4 * 345
    assert torch.allclose(patient.volume.spacing_mm, torch.full((3,), 6.0, dtype=torch.float64))


@pytest.mark.parametrize("views", [1, 2, 3])
def test_a_step_of_a_joint_registration_is_measured_on_as_many_x_rays(monkeypatch, views):
    jointly = []
    measured = gauss_newton.register_gauss_newton

    def recorded(problems: Sequence[Problem], *args) -> Trace:
        jointly.append(len(problems))
        return measured(problems, *args)

    monkeypatch.setattr(gauss_newton, "register_gauss_newton", recorded)
    config = default_config()
    settings = method_settings(config, "multi_start+gn")
    settings["method"]["views"] = views
    settings["initial_pose"] = {**settings["initial_pose"], "starts": 8, "keep": 2}
    settings["weights"] = config["weights"]["coverage"]
    rois = ["a", "b"]
    patient, xray = phantom(rois, 48, 60)
    assert 0 < registration_step(settings, rois, patient, xray, {}, torch.device("cpu")) < 60
    # Once to compile, and once with the clock running.
    assert jointly[:2] == [views, views]
