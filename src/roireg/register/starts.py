"""The initial pose that a user of the command gives, by a pose file or an encoder."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

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
    from roireg.register.own_networks import estimated_rig_pose

    return estimated_rig_pose(encoder, xray)
