"""Rotations: their logarithm and their angle."""

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_vector(rotation: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Axis times angle (rad, 0 to pi) of rotation matrices; differentiable, also at the identity."""
    # Imported where it is needed: roma loads torch's compiler, which takes longer than registering an X-ray.
    from roma import rotmat_to_rotvec

    return rotmat_to_rotvec(rotation)


def rotation_angle(rotation: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B"]:
    """Angle (rad, 0 to pi) of rotation matrices, from the sine and the cosine in them; not for gradients."""
    odd = rotation - rotation.transpose(-1, -2)
    sine = torch.stack([odd[..., 2, 1], odd[..., 0, 2], odd[..., 1, 0]], dim=-1).norm(dim=-1)
    cosine = rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(sine, cosine)
