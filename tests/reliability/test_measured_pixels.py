"""Pixels without measurement do not count: padding, shutters, round fields, flat borders, saturated air."""

import numpy as np
import pytest
import torch
from own_patient import carm_camera, write_carm_dicom
from PIL import Image
from scipy import ndimage

from roireg.data.measured import counting_pixels, found_border, measured_pixels
from roireg.data.patient import Patient
from roireg.data.readers.xray import read_xray
from roireg.data.records import read_specimen, write_specimen
from roireg.data.volume import Volume
from roireg.errors import InputError
from roireg.register.gauss_newton import register_gauss_newton
from roireg.register.levels import Problem, level
from roireg.register.settings import GaussNewtonSettings

SIZE = 160
RNG = np.random.default_rng(0)
CAMERA = carm_camera(SIZE, 320.0, 1000.0)
# Intensities behind something with structure everywhere.
PIXELS = (20000 * np.exp(ndimage.gaussian_filter(RNG.normal(size=(SIZE, SIZE)), 4) * 4)).clip(300, 60000)
PIXELS = PIXELS.astype(np.uint16)
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]
ROUND = (ROW - 79.5) ** 2 + (COLUMN - 79.5) ** 2 > 70**2
TILTED = (COLUMN * 0.9 + ROW * 0.2 > 130) | (COLUMN * 0.95 - ROW * 0.15 < 20)
RECTANGLE = (ROW < 20) | (COLUMN > 140)


def overlap(mask, hidden):
    """Of the union of what was found to be hidden and what is."""
    return (mask & hidden).sum() / (mask | hidden).sum()


@pytest.mark.parametrize("hidden", [ROUND, TILTED, RECTANGLE], ids=["round", "tilted", "rectangle"])
@pytest.mark.parametrize("bone_bright", [False, True])
def test_a_border_as_dark_as_metal_is_found(hidden, bone_bright):
    level = PIXELS.max() + 100 if bone_bright else 0
    found = found_border(np.where(hidden, level, PIXELS), bone_bright)
    assert overlap(found, hidden) > 0.97


@pytest.mark.parametrize("hidden", [ROUND, RECTANGLE], ids=["round", "rectangle"])
def test_a_border_as_bright_as_air_is_found_around_a_disc_or_a_rectangle(hidden):
    assert overlap(found_border(np.where(hidden, 65535, PIXELS), False), hidden) > 0.97


def test_a_border_with_a_little_noise_is_found():
    noise = RNG.integers(0, 40, PIXELS.shape)
    assert overlap(found_border(np.where(ROUND, noise, PIXELS), False), ROUND) > 0.97


@pytest.mark.parametrize("bone_bright", [False, True])
def test_saturated_air_beside_a_patient_is_no_border_and_does_not_count(bone_bright):
    waist = 35 + 12 * np.sin(ROW / 25)
    air = (waist > COLUMN) | (SIZE - waist < COLUMN)
    values = np.where(air, 0 if bone_bright else 65535, PIXELS)
    assert found_border(values, bone_bright) is None
    assert measured_pixels("x", values, bone_bright) is None
    valid = counting_pixels("x", values, bone_bright)
    assert not valid[air].any()
    assert valid.sum() > 0.93 * (~air).sum()


def test_air_with_noise_and_a_few_pixels_at_the_limit_are_measurements():
    assert counting_pixels("x", PIXELS, False) is None
    few = PIXELS.copy()
    few[40:48, 40:48] = 65535
    assert counting_pixels("x", few, False) is None
    noise = RNG.integers(60000, 60400, PIXELS.shape)
    assert counting_pixels("x", np.where(120 + 8 * np.sin(ROW / 20) < COLUMN, noise, PIXELS // 2), False) is None


def test_what_is_hidden_altogether_is_refused():
    with pytest.raises(InputError, match="measurements"):
        measured_pixels("x", PIXELS, False, ROW > 2)


CASES = {
    "padding": (ROUND, 0, {"PixelPaddingValue": 0}),
    "padding of 65535": (ROUND, 65535, {"PixelPaddingValue": 65535}),
    "range": (TILTED, 65000, {"PixelPaddingValue": 64000, "PixelPaddingRangeLimit": 65535}),
    "circle": (
        ROUND,
        4000,
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [80, 80], "RadiusOfCircularShutter": 70},
    ),
    "collimator": (
        ROUND,
        4000,
        {"CollimatorShape": "CIRCULAR", "CenterOfCircularCollimator": [80, 80], "RadiusOfCircularCollimator": 70},
    ),
    "polygon": (
        TILTED,
        4000,
        {
            "ShutterShape": "POLYGONAL",
            "VerticesOfThePolygonalShutter": [1, 22, 1, 145, 160, 109, 160, 47],
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_tags_hide_is_masked(tmp_path, case):
    hidden, level, tags = CASES[case]
    path = write_carm_dicom(
        tmp_path / "x.dcm", np.where(hidden, level, PIXELS).astype(np.uint16), CAMERA, (0, 0), **tags
    )
    xray = read_xray(path, size_px=SIZE)
    plain = read_xray(write_carm_dicom(tmp_path / "p.dcm", PIXELS, CAMERA, (0, 0)), size_px=SIZE)
    rows, columns = xray.mask.nonzero(as_tuple=True)
    # Where the window is, by the principal points.
    shift = (plain.camera.intrinsics_px - xray.camera.intrinsics_px)[:2, 2].round().long()
    assert not hidden[(rows + shift[1]).numpy(), (columns + shift[0]).numpy()].any()
    assert xray.mask.sum() > 0.9 * (~hidden).sum()
    # On what is measured, the image is that of the file without hidden pixels, up to brightness and contrast.
    seen = xray.image[xray.mask], plain.image[rows + shift[1], columns + shift[0]]
    assert float(torch.corrcoef(torch.stack(seen))[0, 1]) > 0.999
    assert any("does not count" in one for one in xray.warnings)


def test_unset_and_swapped_edges_are_no_crop(tmp_path):
    edges = ("UpperHorizontalEdge", "LowerHorizontalEdge", "LeftVerticalEdge", "RightVerticalEdge")

    def image(values):
        tags = {f"Shutter{name}": value for name, value in zip(edges, values, strict=True)}
        return read_xray(
            write_carm_dicom(tmp_path / "x.dcm", PIXELS, CAMERA, (0, 0), ShutterShape="RECTANGULAR", **tags),
            size_px=SIZE,
        )

    unset = image([0, 0, 0, 0])
    assert unset.image.shape == (SIZE, SIZE)
    assert any("not heeded" in one for one in unset.warnings)
    assert torch.equal(image([150, 11, 140, 21]).image, image([11, 150, 21, 140]).image)
    assert image([11, 150, 21, 140]).image.shape == (140, 120)


def test_transparent_pixels_are_no_measurement(tmp_path):
    grey = (PIXELS // 256).astype(np.uint8)
    path = tmp_path / "x.png"
    Image.fromarray(np.dstack([grey, np.where(ROUND, 0, 255).astype(np.uint8)]), "LA").save(path)
    (tmp_path / "c.yaml").write_text(
        "source_to_detector_mm: 1000\npixel_spacing_mm: 2.0\nbone: dark\nintensity: linear\nprimary_deg: 0\n"
    )
    xray = read_xray(path, tmp_path / "c.yaml", size_px=SIZE)
    assert xray.mask is not None
    # Of a disc's bounding box, less its edge.
    assert 0.72 < float(xray.mask.float().mean()) < np.pi / 4


def ball(tmp_path=None):
    """A patient of a few blobs, and a camera in front."""
    values = torch.from_numpy(ndimage.gaussian_filter(RNG.random((40, 40, 40)), 3)).float()
    values = 0.05 * (values - values.mean()).clamp_min(0) / values.std()
    frame = torch.eye(4, dtype=torch.float64) * 4
    frame[3, 3] = 1
    volume = Volume(values, frame)
    return Patient(
        "blobs", volume, torch.zeros(values.shape, dtype=torch.uint8), {}, volume.center_mm, volume.center_mm[None]
    )


def test_registration_does_not_look_at_masked_pixels():
    from roireg.drr import render
    from roireg.geometry.poses import pa_pose, perturb

    patient = ball()
    camera = carm_camera(64, 250.0, 1000.0)
    truth = pa_pose(patient.center_mm, 700.0)
    image = render(patient.volume, camera, truth[None])[0]
    image = (image - image.min()) / (image.max() - image.min())
    row, column = np.mgrid[:64, :64]
    mask = torch.from_numpy((row - 31.5) ** 2 + (column - 31.5) ** 2 < 26**2)
    spoilt = torch.where(mask, image, torch.rand(64, 64, generator=torch.Generator().manual_seed(0)))
    start = perturb(truth, torch.tensor([0.02, -0.02, 0.02, 2.0, -2.0, 3.0], dtype=torch.float64), patient.center_mm)
    settings = GaussNewtonSettings(levels_px=(32, 64), local_sigma_px=(4.0, 5.0), iterations=20)
    found = {}
    for name, pixels in (("whole", image), ("spoilt", spoilt)):
        problem = Problem(pixels, camera, patient.volume, None, None, mask=mask)
        assert level(problem, 64, 5.0).measured_fraction == pytest.approx(float(mask.float().mean()), abs=0.01)
        trace = register_gauss_newton([problem], start, patient.center_mm, settings)
        found[name] = trace.poses[trace.best]
    # Not a digit of what is masked comes through at full size; blocks of the coarse level hold measured pixels alone.
    assert torch.equal(found["whole"], found["spoilt"])
    assert float((found["whole"] - truth)[:3, 3].norm()) < 0.5


def test_a_mask_is_kept_with_the_specimen(tmp_path):
    from dataclasses import replace

    from volumes import phantom_specimen

    patient, xrays = phantom_specimen()
    mask = torch.zeros(xrays[0].image.shape, dtype=torch.bool)
    mask[3:, 5:] = True
    write_specimen(tmp_path / "s.h5", patient, [replace(xrays[0], mask=mask), *xrays[1:]])
    _, read = read_specimen(tmp_path / "s.h5")
    assert torch.equal(read[0].mask, mask)
    assert all(one.mask is None for one in read[1:])
