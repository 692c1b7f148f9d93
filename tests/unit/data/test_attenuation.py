"""Attenuation from Hounsfield units, in DiffDRR's way and in ours."""

import pytest
import torch
from diffdrr.data import transform_hu_to_density

from roireg.data.volume import (
    AttenuationSettings,
    attenuation_from_hu,
    attenuation_settings,
    diffdrr_attenuation,
)
from roireg.errors import InputError

HU = torch.arange(-1024, 3072, dtype=torch.float32).reshape(16, 16, 16)
PREPARE = {"mu_water_per_mm": 0.02, "mu_bone_per_mm": 0.05, "attenuation": "diffdrr", "bone_multiplier": 2.5}


@pytest.mark.parametrize("multiplier", [1.0, 2.5, 10.0])
def test_it_is_diffdrrs_density_but_for_the_unit(multiplier):
    theirs, ours = transform_hu_to_density(HU, multiplier), diffdrr_attenuation(HU, multiplier)
    torch.testing.assert_close(ours / ours.max(), theirs, rtol=1e-5, atol=1e-7)


def test_water_has_the_attenuation_of_water_and_air_none():
    mu = diffdrr_attenuation(HU, 2.5, 0.02)
    assert float(mu[HU == 0]) == pytest.approx(0.02)
    assert (mu[HU <= -800] == 0).all()
    # The step at 350 HU is DiffDRR's.
    assert float(mu[HU == 351] / mu[HU == 350]) == pytest.approx((799 + 2.5 * 351) / (799 + 350), rel=1e-5)


def test_the_config_chooses_how():
    assert torch.equal(attenuation_settings(PREPARE).of(HU), diffdrr_attenuation(HU, 2.5, 0.02))
    two = attenuation_settings({**PREPARE, "attenuation": "two_slopes"})
    assert torch.equal(two.of(HU), attenuation_from_hu(HU, 0.02, 0.05))
    assert torch.equal(AttenuationSettings().of(HU), attenuation_from_hu(HU))


@pytest.mark.parametrize("value", [-900.0, float("nan")])
def test_a_ct_of_air_or_without_numbers_is_an_error(value):
    with pytest.raises(InputError):
        diffdrr_attenuation(torch.full((2, 2, 2), value), 1.0)
