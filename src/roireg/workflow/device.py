"""Chooses the device of a job: the CPU, or the GPU assigned to it."""

import torch

from roireg.errors import InputError
from roireg.precision import set_precision


def job_device(gpus: int, key: str) -> torch.device:
    """The device of a job.

    Args:
        gpus: the job's resource `gpu`; 0 for the CPU.
        key: config key that requests GPUs, for the error message.

    Raises:
        InputError: the job has a GPU, but torch cannot use it.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        fault = "torch finds no CUDA GPU on this machine"
        raise InputError(f"config: {key}", fault, "Set it to 0 for the CPU, or repair the driver (nvidia-smi)")
    set_precision()
    return torch.device("cuda")
