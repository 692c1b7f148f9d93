"""A process of its own: Triton's interpreter is chosen before Triton is imported, and torch gets a GPU that is none."""

import os

os.environ["TRITON_INTERPRET"] = "1"
# The emulator sends one operation after another; a second thread of torch's would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from importlib import import_module

import nanodrr.drr.renderer
import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel


@pytest.fixture
def same_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CPU and emulated GPU use the same algorithms, so that results can be compared bit for bit."""
    monkeypatch.setattr(nanodrr.drr.renderer, "pick_fused_backend", lambda *_: None)
    # `roireg.drr.render` is the function of that name.
    monkeypatch.setattr(import_module("roireg.drr.render"), "default_backend", lambda device: "nanodrr")
    # bfloat16 is for GPUs alone.
    monkeypatch.setattr("roireg.precision.bfloat16_on", lambda device: False)
    # Torch has an attention of its own for each kind of device.
    with sdpa_kernel(SDPBackend.MATH):
        yield
