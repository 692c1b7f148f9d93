"""The picture of a result: what does not count is shaded, and what was assumed about the files stands below."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from own_patient import carm_camera, write_carm_dicom, write_volume
from PIL import Image
from reliability.subjects import FRAME, label_ids, phantom_hu

from roireg.data.readers.ct import read_patient
from roireg.data.readers.xray import read_xray
from roireg.data.xray import expected_pose
from roireg.drr import render
from roireg.figures.overlay import SHADE, assumed, overlay_figure, write_overlay
from roireg.report.gallery import data_uri

CAMERA = carm_camera(64, 160.0)
ODD = "50% $\\frac$ {b} [c]"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    ct = write_volume(folder / f"{ODD}.nii.gz", phantom_hu(), FRAME)
    labels = write_volume(folder / "labels.nrrd", label_ids()[2:], FRAME @ translated(2))
    patient = read_patient(ct, labels)
    line = render(patient.volume, CAMERA, expected_pose(patient, xray_of(folder, np.ones((64, 64)), {}))[None])[0]
    return patient, folder, 50000 * np.exp(-line.numpy())


def translated(slices: int) -> np.ndarray:
    frame = np.eye(4)
    frame[2, 3] = slices
    return frame


def xray_of(folder, pixels, changes):
    noisy = (pixels + np.random.default_rng(0).integers(0, 50, pixels.shape)).astype(np.uint16)
    path = write_carm_dicom(folder / f"{ODD}.dcm", noisy, CAMERA, (0.0, 0.0), **changes)
    return read_xray(path, size_px=64)


def shaded(axes) -> np.ndarray:
    """Pixels of the pictures of a panel that are shaded."""
    return np.any([~np.ma.getmaskarray(image.get_array()) for image in axes.images[1:]], axis=0)


def test_pixels_that_are_not_measured_or_left_out_are_shaded(files):
    patient, folder, pixels = files
    shutter = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": ["32", "32"], "RadiusOfCircularShutter": "28"}
    xray = xray_of(folder, pixels, shutter)
    assert xray.mask is not None
    counted = xray.mask.clone()
    counted[40:] = False
    figure = overlay_figure(patient, xray, expected_pose(patient, xray), ODD, counted)
    for panel in (figure.axes[0], figure.axes[3]):
        np.testing.assert_array_equal(shaded(panel), ~counted.numpy())
        assert panel.images[1].get_cmap().colors == [SHADE]
    whole = overlay_figure(patient, replace(xray, mask=None), expected_pose(patient, xray), "", counted | True)
    assert len(whole.axes[0].images) == 1
    assert "shaded" not in whole.axes[0].get_title()


def test_what_was_assumed_stands_below_and_any_name_can_be_written(files, tmp_path):
    patient, folder, pixels = files
    xray = xray_of(folder, pixels, {})
    lines = " ".join(assumed(patient, xray))
    for note in (*patient.warnings, *xray.warnings):
        assert note in lines
    assert "brought from another grid" in lines
    write_overlay(tmp_path / "overlay.png", patient, xray, expected_pose(patient, xray), ODD)
    figure = overlay_figure(patient, xray, expected_pose(patient, xray), ODD)
    assert "brought from another grid" in figure.get_supxlabel()
    assert figure.get_suptitle() == ODD


def test_the_report_shades_what_is_not_measured():
    image, mask = torch.linspace(0, 1, 64).repeat(64, 1), torch.ones(64, 64, dtype=torch.bool)
    assert decoded(data_uri(image)).mode == decoded(data_uri(image, mask)).mode == "L"
    mask[:, :16] = False
    picture = np.asarray(decoded(data_uri(image, mask)), dtype=float)
    colourful = np.ptp(picture, axis=-1)
    assert colourful[:, :14].min() > 30
    assert colourful[:, 18:].max() < 10


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
