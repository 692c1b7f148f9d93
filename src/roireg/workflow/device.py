"""Chooses the device of a job: the CPU, or the GPU assigned to it."""

import os
import shutil
import sysconfig
from pathlib import Path

import torch

from roireg.errors import InputError
from roireg.precision import set_precision


def job_device(gpus: int, key: str) -> torch.device:
    """The device of a job.

    Args:
        gpus: the job's resource `gpu`; 0 for the CPU.
        key: config key that requests GPUs, for the error message.

    Raises:
        InputError: the job has a GPU, but torch or Triton cannot use it.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        fault = "torch finds no CUDA GPU on this machine"
        raise InputError(f"config: {key}", fault, "Set it to 0 for the CPU, or repair the driver (nvidia-smi)")
    check_compiler(key)
    set_precision()
    return torch.device("cuda")


def check_compiler(key: str) -> None:
    """Whether Triton, which renders DRRs on a GPU, can compile: it builds a module in C when it first runs.

    Args:
        key: config key that requests GPUs, for the error message.

    Raises:
        InputError: there is no C compiler, or no `Python.h`.
    """
    remedy = "Install it, or set the key to 0 for the CPU"
    compilers = [os.environ["CC"].split()[0]] if os.environ.get("CC") else ["gcc", "clang", "cc"]
    if not any(shutil.which(name) for name in compilers):
        fault = f"Triton needs a C compiler on this machine ({', '.join(compilers)}: not found)"
        raise InputError(f"config: {key}", fault, f"{remedy}; on Debian and Ubuntu: apt-get install gcc libc6-dev")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        fault = f"Triton needs the headers of this Python ({header}: not found)"
        raise InputError(f"config: {key}", fault, f"{remedy}; on Debian and Ubuntu: apt-get install python3-dev")
