"""On which device a tensor is, and how it gets to a GPU."""

import torch
from torch import Tensor


def is_on(tensor: Tensor, device: torch.device | str) -> bool:
    """True if a tensor is on the device; `cuda` without an index stands for any GPU."""
    device = torch.device(device)
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. A GPU takes it from pinned memory, and the core does not wait until it has done so."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
