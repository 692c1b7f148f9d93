"""Figures of anatomy: both panels show the same sides, whatever draws them; masks, their Dice, and what is missing."""

import logging
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from builders import LABEL_NAMES, prepare_settings, write_small_dataset
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from skimage.color import deltaE_ciede2000, rgb2hsv, rgb2lab

from roireg.data.patient import Patient
from roireg.data.prepare import prepare_specimen
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.figures import anatomy as anatomy_figures
from roireg.figures.anatomy import (
    LANDMARK_COLOUR,
    ROI_COLOURS,
    SegmentationCase,
    SegmentedImage,
    figure1,
    roi_colours,
    roi_surface,
    segmentation_figure,
    view_axes,
)
from roireg.geometry.camera import project

NAMES = {**LABEL_NAMES, 20: "screw"}
ROIS = tuple(NAMES.values())
# Of dichromats (Machado, Oliveira and Fernandes 2009, severity 1), on linear RGB.
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


@pytest.fixture(scope="module")
def specimen(tmp_path_factory) -> tuple[Patient, tuple[Xray, ...]]:
    path = tmp_path_factory.mktemp("anatomy") / "small.h5"
    with open_dataset(write_small_dataset(path, upside_down=(False,), label_names=NAMES)) as file:
        return prepare_specimen(file, "P01", prepare_settings())


@pytest.fixture(scope="module")
def patient(specimen) -> Patient:
    return specimen[0]


@pytest.fixture(scope="module")
def xrays(specimen) -> tuple[Xray, ...]:
    return specimen[1]


@pytest.fixture(params=["vtk", "matplotlib"])
def drawn_by(request, monkeypatch) -> str:
    """What draws the 3D panel: matplotlib where VTK cannot."""

    def no_screen(scene):
        raise RuntimeError("no screen")

    monkeypatch.setattr(anatomy_figures, "SCREENSHOT_PX", 500)
    if request.param == "matplotlib":
        monkeypatch.setattr(anatomy_figures, "_screenshot", no_screen)
    return request.param


@pytest.fixture
def nothing_in_3d(monkeypatch) -> None:
    """For tests of the rest of the figure."""
    monkeypatch.setattr(anatomy_figures, "_screenshot", lambda scene: np.full((4, 4, 3), 255, np.uint8))


def mirrored(xray: Xray) -> Xray:
    """The same exposure as seen from the source instead of from behind the detector."""
    k = xray.camera.intrinsics_px.clone()
    k[0] *= -1
    k[0, 2] += xray.camera.width - 1
    camera = replace(xray.camera, intrinsics_px=k)
    return replace(xray, image=xray.image.flip(1), labels=xray.labels.flip(1), camera=camera)


def pixels(figure: Figure) -> np.ndarray:
    """`(H, W, 3)` in [0, 1], rows from the bottom, as matplotlib counts them."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(120)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255


def panels(figure: Figure) -> list[np.ndarray]:
    """Pixels of each of the figure's axes, rows from the bottom."""
    image = pixels(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    return [image[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)] for box in boxes]


def has_hue(image: np.ndarray, colour: str) -> np.ndarray:
    """`(H, W)` where an image has the hue of a colour; shading and mixing with grey do not change hues."""
    hue, saturation, _ = np.moveaxis(rgb2hsv(image), -1, 0)
    difference = np.abs(hue - rgb2hsv(np.array(to_rgb(colour)))[0])
    return (np.minimum(difference, 1 - difference) < 0.02) & (saturation > 0.15)


def centres(image: np.ndarray) -> np.ndarray:
    """`(R, 2)` mean (x, y) of each ROI's colour, as shares of the image's size from its middle."""
    found = [np.argwhere(has_hue(image, colour)) for colour in roi_colours(len(ROIS))]
    assert min(map(len, found)) > 100
    return np.stack([where.mean(axis=0)[::-1] / image.shape[1::-1] - 0.5 for where in found])


def contrast(a, b) -> float:
    return float(deltaE_ciede2000(rgb2lab(np.array(to_rgb(a))), rgb2lab(np.array(to_rgb(b)))))


@pytest.mark.parametrize("view", [lambda xray: xray, mirrored], ids=["from the detector", "from the source"])
def test_both_panels_show_every_roi_on_the_same_side(patient, xrays, drawn_by, view):
    figure = figure1(patient, view(xrays[0]), ROIS)
    in_3d, in_xray = map(centres, panels(figure))
    aside = np.abs(in_xray[:, 0]) > 0.1
    assert aside.sum() >= 2
    assert (np.sign(in_3d) == np.sign(in_xray))[aside, 0].all()
    for axis in (0, 1):
        assert np.corrcoef(in_3d[:, axis], in_xray[:, axis])[0, 1] > 0.95


def test_all_landmarks_are_seen_where_they_are(patient, xrays, drawn_by):
    xray = xrays[0]
    figure = figure1(patient, xray, ROIS)
    image = pixels(figure)
    in_view = patient.landmarks_mm.numpy() @ view_axes(xray).T
    in_xray = project(patient.landmarks_mm, xray.camera, xray.true_pose).numpy()
    for axes, places in zip(figure.axes, (in_view[:, :2], in_xray), strict=True):
        columns, rows = axes.transData.transform(places).astype(int).T
        seen = [contrast(colour, LANDMARK_COLOUR) for colour in image[rows, columns]]
        assert len(seen) == 16
        assert max(seen) < 25 < min(contrast(colour, LANDMARK_COLOUR) for colour in ROI_COLOURS)


def test_the_legend_names_rois_and_landmarks(patient, xrays, nothing_in_3d):
    (legend,) = figure1(patient, xrays[0], ROIS).legends
    assert [text.get_text() for text in legend.get_texts()] == [*ROIS, "landmark"]


def test_landmarks_beside_the_detector_are_left_out(patient, xrays, nothing_in_3d):
    xray = xrays[0]
    narrow = replace(xray, image=xray.image[:, :40], labels=xray.labels[:, :40], camera=replace(xray.camera, width=40))
    shown = figure1(patient, narrow, ROIS).axes[1].lines[0].get_xydata()
    assert 0 < len(shown) < len(patient.landmarks_mm)
    assert shown[:, 0].max() < 39.5


def test_the_fallback_says_why(patient, xrays, monkeypatch, caplog):
    monkeypatch.setattr(anatomy_figures, "PROBE", "import os; os.abort()")
    with caplog.at_level(logging.WARNING, logger="roireg"):
        figure = figure1(patient, xrays[0], ROIS)
    assert "OpenGL" in caplog.text
    assert len(centres(panels(figure)[0])) == len(ROIS)


def test_an_xray_without_mask_gets_the_labels_of_the_ct(patient, xrays, nothing_in_3d):
    xray = xrays[0]
    with_mask, without = (figure1(patient, x, ROIS) for x in (xray, replace(xray, labels=None)))
    assert "CT labels" in without.axes[1].get_title()
    assert "CT labels" not in with_mask.axes[1].get_title()
    np.testing.assert_allclose(centres(panels(without)[1]), centres(panels(with_mask)[1]), atol=0.02)


def test_a_roi_without_voxels_and_no_landmarks_still_make_a_figure(patient, xrays, drawn_by):
    bare = replace(
        patient, label_names={**NAMES, 99: "hat"}, landmark_names=(), landmarks_mm=torch.zeros(0, 3).double()
    )
    figure = figure1(bare, xrays[0], ["tibia", "hat"])
    image = panels(figure)[0]
    assert has_hue(image, ROI_COLOURS[0]).sum() > 100
    assert not has_hue(image, ROI_COLOURS[1]).any()


def test_an_unknown_roi_is_an_error_of_the_config(patient, xrays):
    with pytest.raises(InputError, match="config: rois"):
        figure1(patient, xrays[0], ["femur"])


def test_the_viewer_stands_in_front_of_the_patient(patient, xrays):
    xray = xrays[0]
    axes = view_axes(xray)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes[2, 1] < -0.8
    assert axes[1, 2] > 0.8
    assert view_axes(mirrored(xray))[2, 1] > 0.8


def test_a_surface_is_closed_and_keeps_place_and_volume():
    z, y, x = np.meshgrid(*(np.arange(n) for n in (30, 34, 38)), indexing="ij")
    mask = ((z - 2) / 14) ** 2 + ((y - 16) / 12) ** 2 + ((x - 20) / 10) ** 2 < 1
    frame = np.array([[0.0, -2.0, 0.0, 50.0], [3.0, 0.0, 0.0, -20.0], [0.0, 0.0, 2.5, 7.0], [0.0, 0.0, 0.0, 1.0]])
    surface = roi_surface(mask, frame)
    voxels = np.stack([x[mask], y[mask], z[mask], np.ones(mask.sum())])
    assert surface.n_open_edges == 0
    assert surface.volume == pytest.approx(mask.sum() * 2 * 3 * 2.5, rel=0.03)
    extent = (frame @ voxels)[:3]
    np.testing.assert_allclose(surface.bounds[0::2], extent.min(axis=1), atol=3.0)
    np.testing.assert_allclose(surface.bounds[1::2], extent.max(axis=1), atol=3.0)


def segmented(dice: float | None, truth: bool = True) -> SegmentedImage:
    """The first ROI at the left is the truth; the second one at the right is predicted."""
    left, right = torch.zeros(2, 32, 32, dtype=torch.uint8)
    left[8:24, 4:12], right[8:24, 20:28] = 1, 2
    return SegmentedImage(torch.linspace(0, 1, 32).repeat(32, 1), left if truth else None, right, dice)


def cases() -> list[SegmentationCase]:
    return [
        SegmentationCase("U-Net, typical", "P01", "000", segmented(0.912), segmented(0.934)),
        SegmentationCase("U-Net, worst", "P02", "007", segmented(None, truth=False), segmented(0.051)),
    ]


def test_a_line_a_case_with_the_dice_of_each_mask():
    figure = segmentation_figure(cases(), ROIS, "Test set")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["X-ray: truth", "X-ray: mean Dice 0.912", "DRR: truth", "DRR: mean Dice 0.934"]
    assert titles[4:] == ["X-ray: truth", "X-ray: no Dice", "DRR: truth", "DRR: mean Dice 0.051"]
    labels = [axes.get_ylabel() for axes in figure.axes[::4]]
    assert labels == ["U-Net, typical\nP01/000", "U-Net, worst\nP02/007"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(ROIS)
    assert figure.get_suptitle() == "Test set"


def test_truth_is_outlined_predictions_are_filled_and_missing_truth_is_stated():
    figure = segmentation_figure(cases(), ROIS, "Test set")
    shown = panels(figure)
    first, second = ([has_hue(image, colour).mean() for image in shown] for colour in ROI_COLOURS[:2])
    filled = 16 * 8 / 32**2
    np.testing.assert_allclose(np.array(second)[1::2], filled, rtol=0.15)
    assert not np.any(np.array(first)[1::2])
    assert not np.any(np.array(second)[0::2])
    assert first[4] == 0
    assert all(0 < first[index] < filled / 2 for index in (0, 2, 6))
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert said == [["no true mask"] if index == 4 else [] for index in range(8)]


def test_more_rois_than_colours():
    rois = [f"bone {number}" for number in range(len(ROI_COLOURS) + 3)]
    numbers = torch.arange(1, len(rois) + 1, dtype=torch.uint8).repeat(16, 1)
    image = SegmentedImage(torch.rand(16, len(rois)), numbers, numbers, 1.0)
    figure = segmentation_figure([SegmentationCase("U-Net", "P01", "000", image, image)], rois, "Many")
    assert pixels(figure).std() > 0
    assert len(figure.legends[0].get_texts()) == len(rois)


def seen_as(colour: str, matrix: list[list[float]]) -> np.ndarray:
    linear = np.array(to_rgb(colour)) ** 2.2
    return (np.array(matrix) @ linear).clip(0, 1) ** (1 / 2.2)


def test_palette_colours_are_distinct_for_the_colour_blind_too():
    assert len(ROI_COLOURS) >= 8
    for one, other in combinations((*ROI_COLOURS, LANDMARK_COLOUR), 2):
        assert contrast(one, other) > 15
        for matrix in (DEUTERANOPIA, PROTANOPIA):
            assert contrast(seen_as(one, matrix), seen_as(other, matrix)) > 7
