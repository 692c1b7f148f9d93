"""Test of the device on which a tensor is."""

import torch
from torch import Tensor


def is_on(tensor: Tensor, device: torch.device | str) -> bool:
    """True if a tensor is on the device; `cuda` without an index stands for any GPU."""
    device = torch.device(device)
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)
