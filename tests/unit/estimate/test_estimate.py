"""What a run will cost: the arithmetic, and the patient who stands in."""

from collections.abc import Sequence

import pytest
import torch

from roireg.drr import render
from roireg.estimate.costs import ASSUMED_GPU_GFLOPS, Cost, hours, report
from roireg.estimate.phantom import phantom
from roireg.estimate.steps import registration_step
from roireg.register import gauss_newton
from roireg.register.levels import Problem
from roireg.register.trace import Trace
from roireg.workflow.config import default_config
from roireg.workflow.plan import method_settings

TRAINING = Cost("train_unet", "unet", 6, 7200, "batches of 5", 2.0, gpu=True, bytes=3e9)
REGISTRATION = Cost("register", "ours+gn", 12, 366, "X-rays", 0.5, gpu=False)


def test_hours_are_steps_times_seconds_on_the_machine_where_they_run():
    assert hours(REGISTRATION, 50.0, on_gpu=False) == (pytest.approx(366 * 0.5 / 3600), None)
    assert hours(TRAINING, 50.0, on_gpu=True) == (None, 4.0)
    assert hours(TRAINING, 50.0, on_gpu=False) == (None, pytest.approx(4.0 * 50 / ASSUMED_GPU_GFLOPS))


def cells(text: str, first: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first}"))
    return [cell.strip(" *") for cell in line.split("|")[1:-1]]


def test_the_report_adds_up_and_says_what_was_not_measured():
    text = report([TRAINING, REGISTRATION, REGISTRATION], 2500.0, on_gpu=False)
    assert cells(text, "train_unet") == ["train_unet", "unet", "6", "7,200 batches of 5", "2", "–", "1.0", "3.0"]
    assert cells(text, "**all")[2:] == ["30", "", "", "0.1", "1.0", "3.0"]
    assert "NOT measured" in text
    assert "NOT measured" not in report([TRAINING], 2500.0, on_gpu=True)
    assert "NOT measured" not in report([REGISTRATION], 2500.0, on_gpu=False)


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
