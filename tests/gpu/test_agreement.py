"""On the emulated GPU everything that may run on one runs, mixes no devices, and gives what the CPU gives."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from emulated_gpu import Gpu, MixedDevices, emulated_gpu
from registrations import ROI_TERMS, ROIS, WEIGHTS, method, registered, segmenter, two_bones
from trainings import TRAININGS, Killed, kill_at

from roireg.encode.model import PoseEncoder, PoseFrame, network_settings
from roireg.encode.network import build_network
from roireg.geometry.se3 import se3_exp
from roireg.segment.evaluate import segment_specimen
from roireg.workflow.device import job_device

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def kernels_missing(gpu: Gpu) -> dict[str, int]:
    """Ops for which torch has no CUDA kernel; empty where torch was built without CUDA, and cannot say."""
    return dict(gpu.missing) if torch.backends.cuda.is_built() else {}


def test_the_device_of_a_job_refuses_the_cpus_tensors():
    with emulated_gpu() as gpu:
        device = job_device(1, "training.gpu")
        twist = torch.zeros(2, 6, dtype=torch.float64, device=device, requires_grad=True)
        se3_exp(twist).sum().backward()
        assert twist.grad.device.type == "cuda"
        with pytest.raises(MixedDevices):
            twist + torch.zeros(2, 6)
        with pytest.raises(RuntimeError, match="synchronizing"), gpu.synchronised():
            twist.sum().item()
    assert not torch.cuda.is_available()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("roi", ROI_TERMS)
def test_a_registration_gives_the_same_poses(roi: str, weights: str, same_kernels):
    patient, xrays = two_bones(2)
    expected = registered(patient, xrays, method(roi, weights, CPU), CPU)
    with emulated_gpu() as gpu:
        found = registered(patient, xrays, method(roi, weights, GPU), GPU)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.trace.poses, other.trace.poses)
        assert torch.equal(one.trace.objective, other.trace.objective)
        assert one.row["ncc"] == other.row["ncc"]
    # Something was optimized.
    assert not torch.equal(expected[0].trace.poses[0], expected[0].trace.poses[-1])
    assert not kernels_missing(gpu)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_is_killed_and_resumed_gives_the_same_network(
    name: str, tmp_path: Path, same_kernels, monkeypatch: pytest.MonkeyPatch
):
    train = TRAININGS[name]()
    expected = train(tmp_path / "cpu", CPU)
    with emulated_gpu() as gpu:
        with monkeypatch.context() as patch:
            kill_at(3, patch)
            with pytest.raises(Killed):
                train(tmp_path / "gpu", GPU)
        assert (tmp_path / "gpu" / "checkpoint.pt").is_file()
        found = train(tmp_path / "gpu", GPU)
        assert found.equals(expected)
    assert not kernels_missing(gpu)


def test_an_encoder_reads_an_xray_of_another_camera(same_kernels):
    patient, (xray, *_) = two_bones(1)
    settings = network_settings({"type": "resnet", "image_size_px": 32, "layers": [1] * 4, "widths": [8, 8, 16, 16]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(settings).eval()
    camera = xray.camera.window(slice(2, 38), slice(1, 39)).resized(32, 32)
    unit = torch.full((6,), 0.1, dtype=torch.float64)
    frame = PoseFrame(xray.true_pose, patient.center_mm, unit, camera)
    expected = PoseEncoder(network, frame).estimate(xray.image, xray.camera)
    with emulated_gpu():
        encoder = PoseEncoder(network.to(GPU), frame.to(GPU))
        found = encoder.estimate(xray.image, xray.camera)
        assert found.device.type == "cuda"
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("name", ["unet", "medsam"])
def test_a_segmenter_finds_the_same_regions(name: str, same_kernels):
    patient, (xray, *_) = two_bones(1)
    xray = replace(xray, labels=torch.zeros(xray.image.shape, dtype=torch.uint8))
    expected = list(segment_specimen(patient, [xray], segmenter(name, CPU), 4.0, CPU))
    with emulated_gpu():
        found = list(segment_specimen(patient, [xray], segmenter(name, GPU), 4.0, GPU))
    assert len(expected) == 2
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.found, other.found)
        assert torch.equal(one.image, other.image)
    assert {int(number) for one in expected for number in one.found.unique()} >= {1}
    assert len(ROIS) == expected[0].dice.numel()
