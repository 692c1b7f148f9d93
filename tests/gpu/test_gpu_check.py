"""`make gpu-check` from end to end on the emulated GPU, at tiny size; and what it says where there is no GPU."""

import json
from pathlib import Path

import gpu_check
import nanodrr.drr.renderer
import pytest
import torch
from emulated_gpu import emulated_gpu
from gpu_check import Sizes, main
from nanodrr.drr import backends

TINY = Sizes(
    image_px=16,
    voxels=12,
    unet_widths=(4, 4, 4),
    medsam="tiny",
    resnet=((1, 1, 1, 1), (8, 8, 8, 8)),
    encoder_batch=2,
    adam_iterations=2,
    renderings=1,
)


@pytest.fixture(autouse=True)
def pytorch_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """nanodrr takes its PyTorch kernel, unless Triton's is asked for."""
    monkeypatch.setattr(nanodrr.drr.renderer, "pick_fused_backend", lambda *_: None)


def by_the_interpreter(name: str):
    """Triton's kernel, interpreted on the CPU: it takes no tensors of the emulated GPU."""
    from nanodrr.drr._triton import triton_raymarch

    assert name == "triton"

    def march(*args):
        on_cpu = [part.cpu() if isinstance(part, torch.Tensor) else part for part in args]
        return triton_raymarch(*on_cpu).to("cuda")

    return march


def found_on_the_emulated_gpu(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict]:
    monkeypatch.setattr(backends, "load_backend", by_the_interpreter)
    monkeypatch.setattr(gpu_check, "check_compiler", lambda key: None)
    with emulated_gpu():
        status = main(TINY, path)
    return status, json.loads(path.read_text())


def test_it_agrees_with_the_cpu_and_says_what_everything_takes(tmp_path, monkeypatch, capsys):
    status, found = found_on_the_emulated_gpu(tmp_path / "check.json", monkeypatch)
    assert status == 0
    assert [check["name"] for check in found["checks"] if not check["passed"]] == []
    assert len(found["checks"]) == 7
    assert found["gpu"] == "emulated GPU"
    names = " ".join(one["name"] for one in found["timings"])
    for part in ("torch", "triton", "Jacobian", "gauss_newton", "on the CPU", "adam", "unet", "medsam", "encoder"):
        assert part in names
    assert all(one["seconds"] > 0 for one in found["timings"])
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    assert str(tmp_path / "check.json") in printed


def test_a_difference_from_the_cpu_fails(tmp_path, monkeypatch, capsys):
    right = gpu_check.sampled.render_with_jacobian

    def brighter(volume, *args):
        image, jacobian = right(volume, *args)
        return (image if volume.values.device.type == "cpu" else 1.001 * image), jacobian

    monkeypatch.setattr(gpu_check.sampled, "render_with_jacobian", brighter)
    # The other parts take time and do not render with a Jacobian.
    monkeypatch.setattr(gpu_check, "trainings", lambda *args: [])
    monkeypatch.setattr(gpu_check, "kernels", lambda *args: ([], []))
    status, found = found_on_the_emulated_gpu(tmp_path / "check.json", monkeypatch)
    assert status == 1
    assert any("renderer" in check["name"] for check in found["checks"] if not check["passed"])
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_in_one_line_what_is_missing(tmp_path, capsys):
    assert main(TINY, tmp_path / "check.json") == 2
    said = capsys.readouterr().err
    assert "finds no CUDA GPU" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "check.json").exists()
