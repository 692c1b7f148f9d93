"""Precision of products on a GPU. No other module sets it."""

from contextlib import AbstractContextManager, nullcontext

import torch


def set_precision() -> None:
    """Set this process to compute convolutions in TF32 (10 bits of mantissa) and matrix products in float32.

    Poses are matrices, and the renderer multiplies some of them in float32. With TF32, a point 1 m from the camera
    would move by half a millimetre.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False


def rounded_transformer(device: torch.device) -> AbstractContextManager[object]:
    """Context in which a vision transformer's products are bfloat16 on GPUs that support it, else float32.

    Weights remain float32.
    """
    return torch.autocast("cuda", torch.bfloat16) if bfloat16_on(device) else nullcontext()


def bfloat16_on(device: torch.device) -> bool:
    """True if the device is a GPU that computes in bfloat16 (Ampere, compute capability 8.0, or newer)."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
