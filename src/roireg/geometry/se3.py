"""Rigid transforms as 4x4 matrices: exponential, logarithm, inverse, action on points. In radians and millimetres."""

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.so3 import rotation_vector

SMALL_ANGLE_RAD = 1e-4


def skew(vector: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """The matrix of the cross product: `skew(a) @ b = a x b`."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vector.shape, 3)


def _exp_coefficients(angle_sq: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`sin(a)/a`, `(1 - cos a)/a^2`, `(a - sin a)/a^3`; Taylor series near zero keep gradients finite."""
    small = angle_sq < SMALL_ANGLE_RAD**2
    safe_sq = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe_sq.sqrt()
    a = torch.where(small, 1 - angle_sq / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - angle_sq / 24, (1 - angle.cos()) / safe_sq)
    c = torch.where(small, 1 / 6 - angle_sq / 120, (angle - angle.sin()) / (safe_sq * angle))
    return a, b, c


def se3_exp(twist: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 4 4"]:
    r"""Exponential map of SE(3), $\mathrm{Exp}([r, t])$ of the paper's section 2.1.

    $$\mathrm{Exp}([r, t]) = \begin{pmatrix} I + A S + B S^2 & (I + B S + C S^2)\, t \\ 0 & 1 \end{pmatrix},
    \quad S = [r]_\times$$

    Args:
        twist: rotation vector r in rad, then t in mm.

    Returns:
        Rigid transforms, exact and differentiable also at r = 0.
    """
    rotation, translation = twist[..., :3], twist[..., 3:]
    a, b, c = (x[..., None, None] for x in _exp_coefficients((rotation * rotation).sum(-1)))
    s = skew(rotation)
    s2 = s @ s
    eye = torch.eye(3, dtype=twist.dtype, device=twist.device).expand_as(s)
    left_jacobian = eye + b * s + c * s2
    upper = torch.cat([eye + a * s + b * s2, left_jacobian @ translation[..., None]], dim=-1)
    # Filled where it is: a list would be copied to the device.
    bottom = upper.new_zeros(*upper.shape[:-2], 1, 4)
    bottom[..., 3] = 1
    return torch.cat([upper, bottom], dim=-2)


def se3_log(transform: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 6"]:
    """Inverse of `se3_exp`: the twist's rotation vector (rad, length 0 to pi) and translation part (mm)."""
    rotation = rotation_vector(transform[..., :3, :3])
    _, b, c = (x[..., None, None] for x in _exp_coefficients((rotation * rotation).sum(-1)))
    s = skew(rotation)
    eye = torch.eye(3, dtype=transform.dtype, device=transform.device).expand_as(s)
    left_jacobian = eye + b * s + c * (s @ s)
    # Not `solve`, which waits for the device to look for singular matrices; there are none.
    translation = torch.linalg.solve_ex(left_jacobian, transform[..., :3, 3:])[0][..., 0]
    return torch.cat([rotation, translation], dim=-1)


def invert(transform: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """Inverse of a rigid transform in closed form."""
    rotation = transform[..., :3, :3].transpose(-1, -2)
    upper = torch.cat([rotation, -rotation @ transform[..., :3, 3:]], dim=-1)
    return torch.cat([upper, transform[..., 3:, :]], dim=-2)


def transform_points(a_from_b: Float[Tensor, "*B 4 4"], points_b: Float[Tensor, "*B N 3"]) -> Float[Tensor, "*B N 3"]:
    """Convert points (mm) from frame b to frame a."""
    return points_b @ a_from_b[..., :3, :3].transpose(-1, -2) + a_from_b[..., None, :3, 3]


def is_rigid(transform: Float[Tensor, "..."], tolerance: float = 1e-3) -> bool:
    """True if the matrix is a proper rotation and a translation; entries of `R^T R - I` may reach `tolerance`."""
    if transform.shape != (4, 4) or not bool(torch.isfinite(transform).all()):
        return False
    r = transform[:3, :3]
    eye = torch.eye(3, dtype=r.dtype, device=r.device)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=r.dtype, device=r.device)
    orthogonal = bool(((r.T @ r - eye).abs() < tolerance).all())
    return orthogonal and float(torch.det(r)) > 0 and bool(((transform[3] - bottom).abs() < tolerance).all())


def translation(offset_mm: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 4 4"]:
    """The pure translation by `offset_mm`."""
    out = torch.eye(4, dtype=offset_mm.dtype, device=offset_mm.device).repeat(*offset_mm.shape[:-1], 1, 1)
    out[..., :3, 3] = offset_mm
    return out
