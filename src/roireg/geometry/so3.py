"""The logarithm of rotations."""

import torch
from jaxtyping import Float
from torch import Tensor

SMALL = 1e-3


def rotation_vector(rotation: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Axis times angle (rad, 0 to pi) of rotation matrices; differentiable, also at the identity.

    Written here because libraries that have it (`roma`) load torch's compiler when they are imported, which takes
    longer than registering an X-ray. Without branches on values, so that a GPU is not waited for.
    """
    # The products of the unit quaternion (v, w): 4 v v' = R + R' + (1 - trace) I, 4 w v of R - R', 4 w w = 1 + trace.
    transposed = rotation.transpose(-1, -2)
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None]
    eye = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    axes = rotation + transposed + (1 - trace)[..., None] * eye
    odd = rotation - transposed
    mixed = torch.stack([odd[..., 2, 1], odd[..., 0, 2], odd[..., 1, 0]], dim=-1)
    rows = torch.cat([torch.cat([axes, mixed[..., None]], -1), torch.cat([mixed, 1 + trace], -1)[..., None, :]], -2)
    # Each row is the quaternion times four of its components; the largest component loses fewest digits.
    largest = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = rows.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    quaternion = row / row.norm(dim=-1, keepdim=True)
    quaternion = torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
    vector, w = quaternion[..., :3], quaternion[..., 3:]
    squared = vector.square().sum(-1, keepdim=True)
    small = squared < SMALL**2
    # Half the angle over its sine, by its series where a root of zero would have no gradient.
    sine = torch.where(small, 1.0, squared).sqrt()
    ratio = torch.where(small, 1 + squared / 6 + 3 / 40 * squared.square(), torch.atan2(sine, w) / sine)
    return 2 * ratio * vector
