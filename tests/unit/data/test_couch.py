"""What a CT shows beside the patient is found and left out; what belongs to the patient stays."""

import numpy as np
import pytest
import torch
from own_patient import write_volume

from roireg.data.couch import AIR_HU, find_surroundings
from roireg.data.readers.ct import read_patient
from roireg.data.volume import Volume

FAT, MUSCLE, BONE, CARBON, LUNG = -100.0, 50.0, 700.0, 340.0, -850.0
SPACING = (2.0, 2.0, 4.0)
SHAPE = (30, 100, 110)


def grid_mm() -> list[np.ndarray]:
    """Coordinates `(z, y, x)` from the middle of each slice; z from the first one."""
    z, y, x = (np.arange(n) * step for n, step in zip(SHAPE, SPACING[::-1], strict=True))
    return np.meshgrid(z, y - y.mean(), x - x.mean(), indexing="ij")


def trunk() -> np.ndarray:
    """A trunk with fat, a lung, a spine and an arm beside it."""
    _, y, x = grid_mm()
    hu = np.full(SHAPE, AIR_HU, np.float32)
    hu[(x / 75) ** 2 + (y / 60) ** 2 < 1] = FAT
    hu[(x / 68) ** 2 + (y / 52) ** 2 < 1] = MUSCLE
    hu[((x - 25) / 25) ** 2 + (y / 35) ** 2 < 1] = LUNG
    hu[(x / 15) ** 2 + ((y - 40) / 10) ** 2 < 1] = BONE
    hu[(x + 93) ** 2 + y**2 < 12**2] = MUSCLE
    hu[(x + 93) ** 2 + y**2 < 5**2] = BONE
    return hu


def with_couch(hu: np.ndarray) -> np.ndarray:
    """A curved shell of carbon below, and a fold of a blanket above."""
    z, y, x = grid_mm()
    hu = hu.copy()
    sagitta = y - (70 - (x / 75) ** 2 * 14)
    hu[(sagitta >= 0) & (sagitta < 5) & (np.abs(x) < 90) & (hu < -500)] = CARBON
    hu[(np.abs(y + 75 - 8 * np.sin(x / 20)) < 2) & (np.abs(x) < 60) & (z > 20)] = -200.0
    return hu


def volume(hu: np.ndarray) -> Volume:
    return Volume(torch.from_numpy(hu), torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64)))


def test_couch_and_blanket_are_beside_the_patient_who_stays_whole():
    bare, hu = trunk(), with_couch(trunk())
    found = find_surroundings(volume(hu))
    assert found is not None
    outside = found.outside.numpy()
    patient = bare > -500
    assert not (outside & patient).any()
    things = (hu > -500) & ~patient
    # What is within 4 mm of the skin cannot be told from it.
    assert (outside & things).sum() > 0.9 * things.sum()
    assert found.volume_ml == pytest.approx((outside & things).sum() * np.prod(SPACING) / 1000)


def test_a_patient_without_a_couch_has_nothing_beside_him():
    assert find_surroundings(volume(trunk())) is None


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0)])
def test_the_order_of_axes_does_not_matter(order):
    """Slices across the patient may be along any axis of the file."""
    hu = with_couch(trunk())
    frame = np.diag([*SPACING, 1.0])
    # Axes of the array are (z, y, x), columns of the frame (x, y, z).
    columns = [2 - axis for axis in reversed(order)]
    turned = Volume(
        torch.from_numpy(np.ascontiguousarray(hu.transpose(order))), torch.from_numpy(frame[:, [*columns, 3]])
    )
    plain, found = find_surroundings(volume(hu)), find_surroundings(turned)
    assert plain is not None
    assert found is not None
    np.testing.assert_array_equal(found.outside.numpy(), plain.outside.numpy().transpose(order))


def test_a_ct_of_bones_alone_is_left_as_it_is():
    """A blade of bone is as thin as a couch."""
    _, y, x = grid_mm()
    hu = np.full(SHAPE, AIR_HU, np.float32)
    hu[x**2 + y**2 < 15**2] = BONE
    hu[(np.abs(y) < 3) & (x > 0) & (x < 80)] = BONE
    assert find_surroundings(volume(hu)) is None


def test_water_all_around_is_no_couch():
    assert find_surroundings(volume(np.maximum(trunk(), 0.0))) is None


def test_it_is_left_out_and_told_unless_it_is_to_be_kept(tmp_path):
    path = tmp_path / "ct.nii.gz"
    hu = with_couch(trunk())
    write_volume(path, hu.astype(np.int16), np.diag([*SPACING, 1.0]))
    without, kept = read_patient(path), read_patient(path, couch="keep")
    (told,) = [one for one in without.warnings if "beside the patient" in one]
    assert "--couch keep" in told
    assert not any("beside the patient" in one for one in kept.warnings)
    outside = find_surroundings(volume(hu)).outside
    changed = kept.volume.values != without.volume.values
    assert torch.equal(changed, outside & (kept.volume.values > 0))
    assert not bool(without.volume.values[outside].any())
    # Nor are points of bone, at which errors are predicted, on the couch.
    lowest = (SHAPE[1] - 1) / 2 * SPACING[1] + 60
    assert float(kept.bone_points_mm[:, 1].max()) > lowest > float(without.bone_points_mm[:, 1].max())
