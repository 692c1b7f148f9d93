"""The Dice coefficient against hand counts, and against scipy's dissimilarity."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import dice as dissimilarity

from roireg.metrics.overlap import dice_of_each

HALF = torch.zeros(4, 4, dtype=torch.bool)
HALF[:2] = True
WHOLE = torch.ones_like(HALF)


@pytest.mark.parametrize(("other", "expected"), [(HALF, 1), (HALF.flip(0), 0), (WHOLE, 2 / 3)])
def test_masks_of_known_overlap(other, expected):
    assert float(dice_of_each(HALF, other)) == pytest.approx(expected)
    assert float(dice_of_each(other.double(), HALF.double())) == pytest.approx(expected)


def test_two_empty_masks_have_none_unless_eps_makes_it_zero():
    empty = torch.zeros_like(HALF)
    assert dice_of_each(empty, empty).isnan()
    assert float(dice_of_each(empty, empty, eps=1e-5)) == 0
    assert float(dice_of_each(HALF, empty)) == 0


def test_each_mask_of_a_batch_has_its_own():
    masks, others = torch.stack([HALF, HALF, WHOLE]), torch.stack([HALF, WHOLE, HALF.flip(0)])
    torch.testing.assert_close(dice_of_each(masks, others), torch.tensor([1, 2 / 3, 2 / 3]))


@given(st.integers(0, 2**32 - 1))
def test_it_is_one_minus_scipys_dissimilarity(seed):
    one, other = torch.randint(0, 2, (2, 7, 9), generator=torch.Generator().manual_seed(seed)).bool()
    expected = 1 - dissimilarity(one.flatten().numpy(), other.flatten().numpy())
    assert float(dice_of_each(one, other)) == pytest.approx(expected)


def test_pixels_of_weight_0_do_not_count():
    weight = torch.zeros(4, 4)
    weight[:2] = 0.7
    assert float(dice_of_each(HALF, WHOLE, weight)) == pytest.approx(1)
