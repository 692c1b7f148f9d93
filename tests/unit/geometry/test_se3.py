"""Rigid transforms against scipy, and where formulas like to fail: at zero and at half a turn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from roireg.geometry.se3 import (
    invert,
    is_rigid,
    se3_exp,
    se3_log,
    skew,
    transform_points,
    translation,
)
from roireg.geometry.so3 import rotation_angle

DOUBLE = {"dtype": torch.float64}
ANGLES = [0.0, 1e-12, 1e-9, 9.9e-5, 1.01e-4, 1e-3, 0.5, 2.0, math.pi - 1e-3, math.pi - 1e-6]
AXIS = torch.tensor([2.0, -3.0, 6.0], **DOUBLE) / 7
SHIFT = torch.tensor([120.0, -35.0, 400.0], **DOUBLE)


def unit(vector) -> torch.Tensor:
    vector = torch.tensor(vector, **DOUBLE)
    return vector / vector.norm()


axes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1).map(unit)
shifts = st.tuples(*[st.floats(-1000, 1000)] * 3).map(lambda v: torch.tensor(v, **DOUBLE))


def generator(twist: torch.Tensor) -> np.ndarray:
    """The 4x4 matrix whose matrix exponential is the transform."""
    out = np.zeros((4, 4))
    out[:3, :3], out[:3, 3] = skew(twist[:3]).numpy(), twist[3:].numpy()
    return out


@settings(max_examples=60, deadline=None)
@given(axis=axes, shift=shifts, angle=st.floats(0, math.pi - 1e-4))
def test_log_undoes_exp(axis, shift, angle):
    twist = torch.cat([angle * axis, shift])
    assert torch.allclose(se3_log(se3_exp(twist)), twist, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("angle", ANGLES)
def test_log_undoes_exp_at_special_angles(angle):
    twist = torch.cat([angle * AXIS, SHIFT])
    again = se3_log(se3_exp(twist))
    assert torch.allclose(again[:3], twist[:3], rtol=1e-7, atol=1e-15)
    assert torch.allclose(again[3:], twist[3:], rtol=1e-7)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1), (2, -3, 6), (1, 1, 0)])
def test_half_a_turn_gives_one_of_its_two_axes(axis):
    turn = se3_exp(torch.cat([math.pi * unit(axis), SHIFT]))
    twist = se3_log(turn)
    assert float(twist[:3].norm()) == pytest.approx(math.pi, abs=1e-9)
    assert abs(float(twist[:3] @ unit(axis))) == pytest.approx(math.pi, abs=1e-9)
    assert torch.allclose(se3_exp(twist), turn, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(axis=axes, shift=shifts, angle=st.floats(0, 3 * math.pi))
def test_exp_is_the_matrix_exponential(axis, shift, angle):
    twist = torch.cat([angle * axis, shift])
    expected = expm(generator(twist))
    np.testing.assert_allclose(se3_exp(twist).numpy(), expected, rtol=1e-9, atol=1e-8)
    rotation = Rotation.from_rotvec(twist[:3].numpy()).as_matrix()
    np.testing.assert_allclose(se3_exp(twist)[:3, :3].numpy(), rotation, atol=1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_is_the_matrix_exponential_at_special_angles(angle):
    twist = torch.cat([angle * AXIS, SHIFT])
    np.testing.assert_allclose(se3_exp(twist).numpy(), expm(generator(twist)), rtol=1e-10, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_log_is_scipys_rotation_vector(seed):
    rotation = Rotation.random(rng=np.random.default_rng(seed))
    transform = torch.eye(4, **DOUBLE)
    transform[:3, :3] = torch.from_numpy(rotation.as_matrix())
    np.testing.assert_allclose(se3_log(transform)[:3].numpy(), rotation.as_rotvec(), atol=1e-9)


def test_a_batch_is_its_elements():
    twists = torch.cat([torch.tensor(ANGLES, **DOUBLE)[:, None] * AXIS, SHIFT.expand(len(ANGLES), 3)], dim=-1)
    batch = twists.reshape(2, 5, 6)
    assert torch.allclose(se3_exp(batch).reshape(-1, 4, 4), torch.stack([se3_exp(twist) for twist in twists]))
    assert torch.allclose(se3_log(se3_exp(batch)).reshape(-1, 6), twists, atol=1e-6)


def test_the_derivative_of_exp_at_zero_is_the_generators():
    jacobian = torch.autograd.functional.jacobian(se3_exp, torch.zeros(6, **DOUBLE))
    expected = np.stack([generator(row) for row in torch.eye(6, **DOUBLE)], axis=-1)
    np.testing.assert_array_equal(jacobian.numpy(), expected)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.0])
def test_the_derivative_of_exp_is_that_of_differences(angle):
    twist = torch.cat([angle * AXIS, SHIFT / 100]).requires_grad_()
    assert torch.autograd.gradcheck(se3_exp, (twist,), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.0])
def test_the_derivative_of_log_after_exp_is_the_identity(angle):
    twist = torch.cat([angle * AXIS, SHIFT])
    jacobian = torch.autograd.functional.jacobian(lambda x: se3_log(se3_exp(x)), twist)
    assert torch.allclose(jacobian, torch.eye(6, **DOUBLE), atol=1e-4)


@pytest.mark.parametrize("angle", [*ANGLES, math.pi])
def test_the_angle_is_scipys_also_where_it_is_tiny_or_half_a_turn(angle):
    rotation = Rotation.from_rotvec(angle * AXIS.numpy())
    matrices = torch.from_numpy(rotation.as_matrix()).expand(2, 3, 3)
    np.testing.assert_allclose(rotation_angle(matrices).numpy(), rotation.magnitude(), rtol=1e-9, atol=2e-15)


@settings(max_examples=30, deadline=None)
@given(axis=axes, shift=shifts, angle=st.floats(0, math.pi))
def test_invert_is_the_inverse(axis, shift, angle):
    transform = se3_exp(torch.cat([angle * axis, shift]))
    np.testing.assert_allclose(invert(transform).numpy(), np.linalg.inv(transform.numpy()), atol=1e-9)
    assert torch.allclose(invert(transform) @ transform, torch.eye(4, **DOUBLE), atol=1e-9)


def test_points_are_turned_then_shifted():
    quarter = se3_exp(torch.tensor([0.0, 0.0, math.pi / 2, 0.0, 0.0, 0.0], **DOUBLE))
    moved = translation(torch.tensor([10.0, 20.0, 30.0], **DOUBLE)) @ quarter
    points = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 5.0]], **DOUBLE)
    expected = torch.tensor([[10.0, 21.0, 30.0], [9.0, 20.0, 35.0]], **DOUBLE)
    assert torch.allclose(transform_points(moved, points), expected)


def test_skew_is_the_cross_product():
    a, b = torch.tensor([1.0, -2.0, 3.0], **DOUBLE), torch.tensor([4.0, 0.5, -6.0], **DOUBLE)
    assert torch.allclose(skew(a) @ b, torch.linalg.cross(a, b))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1.0, math.pi])
def test_a_rigid_transform_is_rigid(angle):
    assert is_rigid(se3_exp(torch.cat([angle * AXIS, SHIFT])))
    assert is_rigid(se3_exp(torch.cat([angle * AXIS, SHIFT]).float()))


def changed(row: int, column: int, value: float) -> torch.Tensor:
    out = se3_exp(torch.cat([0.7 * AXIS, SHIFT]))
    out[row, column] = value
    return out


@pytest.mark.parametrize(
    "matrix",
    [
        torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], **DOUBLE)),
        -torch.eye(4, **DOUBLE),
        torch.diag(torch.tensor([1.01, 1.01, 1.01, 1.0], **DOUBLE)),
        torch.diag(torch.tensor([1.0, 1.0, 1.0, 2.0], **DOUBLE)),
        torch.zeros(4, 4, **DOUBLE),
        torch.eye(3, **DOUBLE),
        torch.eye(4, **DOUBLE)[:3],
        changed(0, 3, math.nan),
        changed(1, 1, math.nan),
        changed(2, 3, math.inf),
        changed(0, 1, 0.9),
        changed(3, 0, 0.01),
        se3_exp(torch.cat([0.7 * AXIS, SHIFT])).T,
    ],
    ids=[
        *("reflection", "inversion", "scaling", "scaled-w", "zeros", "3x3", "3x4"),
        *("nan-shift", "nan-turn", "inf", "shear", "projective", "transposed"),
    ],
)
def test_what_is_not_rigid_is_told_apart(matrix):
    assert not is_rigid(matrix)
