"""Starts from files: a pose that was found before, or an encoder that was trained for the patient."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.data.estimate import Estimate
from roireg.data.writers.poses import read_pose
from roireg.data.xray import Xray
from roireg.errors import InputError


def initial_rig_pose(xray: Xray, pose: str | Path | None, encoder: str | Path | None) -> Float[Tensor, "4 4"] | None:
    """The initial pose `volume_from_rig` (mm) from a pose file or an encoder; None if neither is given.

    Args:
        xray: the X-ray whose pose is given or estimated.
        pose: a pose.json, or None.
        encoder: a model made by `roireg train encoder`, or None.

    Raises:
        InputError: both are given, or a file cannot be used.
    """
    if pose is not None and encoder is not None:
        raise InputError("--initial", "--encoder is given too", "Give one of them")
    if pose is not None:
        return read_pose(pose).pose @ torch.linalg.inv(xray.rig_from_camera)
    if encoder is None:
        return None
    return encoder_estimates(encoder, [xray])[xray.name].pose @ torch.linalg.inv(xray.rig_from_camera)


def encoder_estimates(model: str | Path, xrays: Sequence[Xray]) -> dict[str, Estimate]:
    """Poses that an encoder of this patient estimates from X-rays, by their names, and the seconds that each took.

    Raises:
        InputError: the file is no encoder, or was trained for another camera.
    """
    # Its network is of timm, which takes longer to import than a registration takes.
    from roireg.encode.model import load_encoder

    encoder = load_encoder(model, torch.device("cpu"))
    found = {}
    for xray in xrays:
        begin = time.perf_counter()
        pose = encoder.estimate(xray.image, xray.camera)
        found[xray.name] = Estimate(pose, time.perf_counter() - begin)
    return found
