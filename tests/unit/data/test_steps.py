"""Steps between planes of a CT are found; whole CTs have none, nor does what merely changes from plane to plane."""

import numpy as np
import pytest
import torch
from own_patient import chest_hu, itk_image
from SimpleITK import WriteImage

from roireg.data.readers.ct import read_patient
from roireg.data.steps import largest_step
from roireg.data.volume import Volume

WORKING_MM = 2.0


@pytest.fixture(scope="module")
def chest() -> Volume:
    hu, _, frame = chest_hu()
    return Volume(torch.from_numpy(hu.astype(np.float32)), torch.from_numpy(frame))


def working(hu: Volume, voxel_mm: float = WORKING_MM) -> Volume:
    return hu.block_means(tuple(int(max(voxel_mm // spacing, 1)) for spacing in hu.spacing_mm.tolist()))


def moved(hu: Volume, axis: int, planes: slice, along: int, voxels: int) -> Volume:
    """The CT with some planes shifted by whole voxels; axes are those of the array, `(z, y, x)`."""
    values = hu.values.numpy().copy()
    region = (slice(None),) * axis + (planes,)
    values[region] = np.roll(values[region], voxels, along)
    return hu.with_values(torch.from_numpy(values))


@pytest.mark.parametrize("voxel_mm", [1.5, 2.0, 3.0, 5.0, 8.0])
def test_a_whole_ct_has_none(chest, voxel_mm):
    assert largest_step(working(chest, voxel_mm)) is None


@pytest.mark.parametrize(
    ("axis", "planes", "along", "voxels"),
    # The CT has 133 slices of 2.5 mm, of 512 x 512 pixels of 0.7 mm.
    [
        (0, slice(40, 133), 2, 12),
        (0, slice(60, 90), 1, 16),
        (1, slice(180, 260), 0, 4),
        (1, slice(201, 512), 2, 20),
        (2, slice(0, 231), 1, 14),
        (2, slice(300, 401), 0, 3),
    ],
)
def test_a_step_is_found_where_it_is_and_as_long_as_it_is(chest, axis, planes, along, voxels):
    found = largest_step(working(moved(chest, axis, planes, along, voxels)))
    assert found is not None
    assert found.axis == 2 - axis
    spacing_mm = chest.spacing_mm.numpy()[::-1]
    assert found.shift_mm == pytest.approx(voxels * spacing_mm[along], abs=1.01 * max(WORKING_MM, spacing_mm[along]))
    ends = np.array([planes.start, planes.stop]) * spacing_mm[axis] / working(chest).spacing_mm.numpy()[found.axis]
    assert np.abs(ends - found.plane).min() <= 2


def test_a_gap_of_other_values_or_a_change_from_slice_to_slice_is_no_step(chest):
    values = chest.values.numpy().copy()
    values[50:70] = -1000
    assert largest_step(working(chest.with_values(torch.from_numpy(values)))) is None
    noise = np.random.default_rng(0).normal(0, 60, chest.values.shape).astype(np.float32)
    assert largest_step(working(chest.with_values(chest.values + torch.from_numpy(noise)))) is None


def test_a_constant_or_tiny_ct_has_none():
    for shape in ((1, 1, 1), (2, 3, 4), (20, 20, 20)):
        assert largest_step(Volume(torch.full(shape, -1000.0), torch.eye(4, dtype=torch.float64))) is None


def test_it_is_said_on_reading(chest, tmp_path):
    broken = moved(chest, 0, slice(66, 133), 2, 16)
    WriteImage(itk_image(broken.values.numpy().astype(np.int16), chest_hu()[2]), str(tmp_path / "ct.nrrd"))
    patient = read_patient(tmp_path / "ct.nrrd")
    assert patient.step is not None
    (warning,) = (text for text in patient.warnings if "shifted" in text)
    assert "of the working grid's z, planes are shifted by 11 mm" in warning
