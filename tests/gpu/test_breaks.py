"""The other tests of this folder fail when the code is broken in the ways that they are there to find."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from emulated_gpu import MixedDevices
from test_agreement import test_a_registration_gives_the_same_poses as agreement
from test_budget import test_an_iteration_reads_nothing_back_and_copies_no_image as budget
from test_budget import test_an_online_batch_of_an_encoder_reads_nothing_back_and_copies_no_image as encoder_budget

from roireg.drr import nanodrr
from roireg.encode import train
from roireg.geometry import poses
from roireg.metrics import similarity
from roireg.register import charts, objective


def test_a_tensor_left_on_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch, same_kernels):
    right = charts.perturbation_chart
    monkeypatch.setattr(charts, "perturbation_chart", lambda initial, center_mm: right(initial, center_mm.cpu()))
    with pytest.raises(MixedDevices, match="found at least two devices"):
        agreement("none", "coverage", None)


def test_a_blocking_read_in_the_loop_is_found(monkeypatch: pytest.MonkeyPatch, same_kernels):
    right = similarity.similarity

    def reading(*settings):
        measure = right(*settings)

        def measured(*images):
            found = measure(*images)
            if found.mean().item() > 1:
                raise ValueError("no correlation exceeds 1")
            return found

        return measured

    monkeypatch.setattr(similarity, "similarity", reading)
    with pytest.raises(AssertionError, match=r"PerStep\(reads=1\.0.*\.reads"):
        budget("none", "none", 1, None)


def test_a_loss_read_in_each_batch_is_found(monkeypatch: pytest.MonkeyPatch, same_kernels, tmp_path: Path):
    right = train.total

    def read(terms, settings):
        loss = right(terms, settings)
        assert loss.item() < 1e6
        return loss

    monkeypatch.setattr(train, "total", read)
    with pytest.raises(AssertionError, match=r"PerStep\(reads=1\.0.*\.reads"):
        encoder_budget(tmp_path, None)


def test_an_image_copied_in_the_loop_is_found(monkeypatch: pytest.MonkeyPatch, same_kernels):
    right, dark = objective.scaled, torch.zeros(40, 40)
    monkeypatch.setattr(objective, "scaled", lambda image, weight: right(image - dark.to(image.device), weight))
    with pytest.raises(AssertionError, match=r"\.copied_bytes"):
        budget("none", "none", 1, None)


def test_a_rendering_in_float64_is_found(monkeypatch: pytest.MonkeyPatch, same_kernels):
    right = nanodrr.as_subject
    monkeypatch.setattr(
        nanodrr, "as_subject", lambda volume: right(replace(volume, values=volume.values.to(torch.float64)))
    )
    with pytest.raises(AssertionError, match=r"\.float64_in_renderer"):
        budget("none", "none", 1, None)


def test_poses_of_less_precision_on_the_gpu_are_found(monkeypatch: pytest.MonkeyPatch, same_kernels):
    right = poses.se3_exp

    def rounded(twist):
        return right(twist) if twist.device.type == "cpu" else right(twist).float().double()

    monkeypatch.setattr(poses, "se3_exp", rounded)
    with pytest.raises(AssertionError):
        agreement("none", "none", None)
