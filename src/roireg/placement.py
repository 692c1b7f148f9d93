"""Where tensors are."""

import torch
from torch import Tensor


def is_on(tensor: Tensor, device: torch.device | str) -> bool:
    """Whether a tensor is on a device; a device without an index, such as `cuda`, is any of its kind."""
    device = torch.device(device)
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)
