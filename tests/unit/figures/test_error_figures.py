"""Figures of errors and of the case study show what the rows say."""

import numpy as np
import pandas as pd
import pytest
import torch
from volumes import phantom_specimen

from roireg.figures.errors import capture_range, cumulative_errors
from roireg.figures.figure4 import figure4, pelvis_silhouette
from roireg.figures.figure5 import RADIUS_MM, case_study, discs, landmarks_under
from roireg.geometry.poses import perturb
from roireg.metrics.pose_errors import registration_errors

EDGES_MM = (0, 5, 10, 20)


def rows(method: str, init_mm: list[float], end_mm: list[float]) -> pd.DataFrame:
    specimen = [f"P{index % 2}" for index in range(len(init_mm))]
    return pd.DataFrame({"method": method, "specimen": specimen, "init_mpd_mm": init_mm, "mpd_mm": end_mm})


def test_the_cumulative_curve_counts_failures():
    table = rows("a", [9.0] * 4, [0.5, 3.0, np.nan, 0.2])
    (line, _) = cumulative_errors(table, {"a": "A"}).axes[0].lines
    assert line.get_xdata().tolist() == [0.2, 0.5, 3.0]
    assert line.get_ydata().tolist() == [0.25, 0.5, 0.75]


def test_bars_of_the_capture_range_are_shares_of_the_starts_in_an_interval():
    table = pd.concat(
        [rows("a", [1.0, 2.0, 7.0, 9.0, 30.0], [0.5, 2.0, 0.1, 0.2, 0.1]), rows("b", [1.0, 7.0], [5.0, np.nan])]
    )
    axes = capture_range(table, {"a": "A", "b": "B"}, EDGES_MM, seed=0).axes[0]
    assert [(round(bar.get_x() + bar.get_width() / 2, 6), bar.get_height()) for bar in axes.patches] == [
        (-0.2, 0.5),
        (0.8, 1.0),
        (0.2, 0.0),
        (1.2, 0.0),
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0 to 5\n(2)", "5 to 10\n(2)", "10 to 20\n(0)"]


def registration(patient, xray, twist: list[float], method: str) -> dict:
    pose = perturb(xray.true_pose, torch.tensor(twist, dtype=torch.float64), patient.center_mm)
    errors = registration_errors(pose, xray.true_pose, xray.camera, patient.landmarks_mm, patient.center_mm)
    flat = {f"pose_{r}{c}": float(pose[r, c]) for r in range(3) for c in range(4)}
    return {"specimen": patient.name, "projection": xray.name, "method": method, **errors, **flat}


@pytest.fixture(scope="module")
def phantom():
    return phantom_specimen(3)


@pytest.fixture(scope="module")
def patient(phantom):
    return phantom[0]


@pytest.fixture(scope="module")
def xrays(phantom):
    return phantom[1]


@pytest.fixture(scope="module")
def registrations(patient, xrays) -> pd.DataFrame:
    near, far = [0.0, 0.0, 0.0, 0.1, 0.0, 0.1], [0.1, 0.0, 0.1, 25.0, 10.0, 5.0]
    return pd.DataFrame(
        registration(patient, xray, [(index + 1) * x for x in twist], method)
        for index, xray in enumerate(xrays)
        for method, twist in (("near", near), ("far", far))
    )


def test_moved_landmarks_are_apart_by_the_rows_3d_error(patient, xrays, registrations):
    for _, row in registrations.iterrows():
        truth, moved = landmarks_under(patient, xrays, row["projection"], row)
        assert np.linalg.norm(moved - truth, axis=1).mean() == pytest.approx(row["tre_mm"])


def test_discs_have_their_radius_and_place():
    across, up = np.arange(-20, 20, 0.5), np.arange(-15, 15, 0.5)
    shown = discs(np.array([[5.0, -3.0]]), across, up)
    assert shown.shape == (len(up), len(across))
    assert shown.sum() * 0.25 == pytest.approx(np.pi * RADIUS_MM**2, rel=0.03)
    assert shown[np.abs(up + 3).argmin(), np.abs(across - 5).argmin()]


def test_the_case_study_shows_the_median_x_ray_of_the_first_method(patient, xrays, registrations):
    dice = pd.DataFrame(
        {"segmenter": segmenter, "image": image, "roi": roi, "dice": value}
        for segmenter, value in (("unet", 0.5), ("medsam", 0.75))
        for image in ("xray", "drr")
        for roi in ("tibia", "talus")
    )
    labels = {"near": "Near", "far": "Far"}
    figure = case_study(patient, xrays, dice, {"unet": "U-Net", "medsam": "MedSAM"}, registrations, labels)
    left, right = figure.subfigs
    assert [bar.get_width() for bar in left.axes[0].patches] == [0.5, 0.5, 0.75, 0.75]
    middle = xrays[1].name
    assert f"{patient.name}/{middle}" in right.get_suptitle()
    shown = registrations[registrations["projection"] == middle].set_index("method")
    for title, method in ((right.axes[1].get_title(), "near"), (right.axes[4].get_title(), "far")):
        assert f"mpd {shown.loc[method, 'mpd_mm']:.2f} mm" in title


def test_figure_4_has_a_panel_a_method_with_its_overlap(patient, xrays, registrations):
    figure = figure4([(patient, xrays)], registrations, {"near": "Near", "far": "Far"})
    near, far = (axes.get_title() for axes in figure.axes)
    xray = xrays[1]
    truth = pelvis_silhouette(patient, xray, xray.true_pose)
    assert (near.split("\n")[0], far.split("\n")[0]) == ("Near", "Far")
    shares = [float(title.rsplit(" ", 1)[1]) for title in (near, far)]
    assert shares[0] > 0.97 > shares[1] > 0
    assert 0 < truth.float().mean() < 1
