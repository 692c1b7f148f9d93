"""Where a job computes: the CPU, or the GPU that it was given."""

import torch

from roireg.errors import InputError
from roireg.precision import set_precision


def job_device(gpus: int, key: str) -> torch.device:
    """The device of a job with so many GPUs.

    Args:
        gpus: the job's resource `gpu`; 0 for the CPU.
        key: of the config, that asks for GPUs.

    Raises:
        InputError: it has a GPU that torch cannot use.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        fault = "torch finds no CUDA GPU on this machine"
        raise InputError(f"config: {key}", fault, "Set it to 0 for the CPU, or repair the driver (nvidia-smi)")
    set_precision()
    return torch.device("cuda")
