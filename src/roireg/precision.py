"""Which products a GPU may round: the only place that says so."""

from contextlib import AbstractContextManager, nullcontext

import torch


def set_precision() -> None:
    """Convolutions of networks in TF32 (10 bits of mantissa), products of matrices in float32, for this process.

    Poses are multiplied as matrices, some of them in float32 by the renderer: TF32 would move a patient a metre away
    by half a millimetre.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False


def rounded_transformer(device: torch.device) -> AbstractContextManager:
    """bfloat16 for the products of a vision transformer on a GPU that has it, else float32; weights stay in float32."""
    return torch.autocast("cuda", torch.bfloat16) if bfloat16_on(device) else nullcontext()


def bfloat16_on(device: torch.device) -> bool:
    """Whether a device is a GPU that computes in bfloat16 (Ampere, compute capability 8.0, or newer)."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
