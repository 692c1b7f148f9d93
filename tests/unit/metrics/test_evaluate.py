"""Errors against cases that can be computed by hand, and the statistics over them."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from roireg.geometry.camera import Camera
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import translation
from roireg.metrics.pose_errors import registration_errors
from roireg.metrics.statistics import (
    paired_change,
    paired_differences,
    paired_test,
    sign_flip_test,
    specimen_bootstrap,
    success_rate,
    summarize,
)

DOUBLE = {"dtype": torch.float64}
SDD, DEPTH = 1000.0, 800.0
MAGNIFICATION = SDD / DEPTH
ISOCENTER = torch.tensor([12.0, -140.0, 190.0], **DOUBLE)
# All in the plane of the isocentre parallel to the detector of the posterior-anterior view.
OFFSETS = torch.tensor([[30.0, 0.0, 40.0], [-60.0, 0.0, 80.0], [0.0, 0.0, -20.0], [15.0, 0.0, 0.0]], **DOUBLE)
LANDMARKS = ISOCENTER + OFFSETS
TRUTH = pa_pose(ISOCENTER, DEPTH)


def camera(sign: float = -1.0, spacing: tuple[float, float] = (0.4, 0.5)) -> Camera:
    k = [[sign * SDD / spacing[0], 0.0, 371.0], [0.0, SDD / spacing[1], 320.0], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, **DOUBLE), 600, 760, spacing)


def errors(estimate: torch.Tensor, truth: torch.Tensor = TRUTH, view: Camera | None = None) -> dict[str, float]:
    return registration_errors(estimate, truth, view or camera(), LANDMARKS, ISOCENTER)


def in_camera(x: float, y: float, z: float) -> torch.Tensor:
    """The true pose, its camera moved by (x, y, z) mm along its own axes."""
    return TRUTH @ translation(torch.tensor([x, y, z], **DOUBLE))


def turned(x: float, y: float, z: float) -> torch.Tensor:
    """The true pose turned about the isocentre by degrees."""
    twist = torch.tensor([math.radians(a) for a in (x, y, z)] + [0.0, 0.0, 0.0], **DOUBLE)
    return perturb(TRUTH, twist, ISOCENTER)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_equal_poses_have_no_error(sign):
    truth = turned(7.0, -3.0, 11.0)
    for name, value in errors(truth.clone(), truth, camera(sign)).items():
        assert value == pytest.approx(0.0, abs=1e-9), name


@pytest.mark.parametrize(("x", "y"), [(5.0, 0.0), (0.0, 5.0), (3.0, -4.0)])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_shift_along_the_detector_is_magnified(x, y, sign):
    result = errors(in_camera(x, y, 0.0), view=camera(sign))
    assert result["mpd_mm"] == pytest.approx(5 * MAGNIFICATION)
    assert result["tre_mm"] == pytest.approx(5.0)
    assert result["translation_mm"] == pytest.approx(5.0)
    assert result["rotation_deg"] == pytest.approx(0.0, abs=1e-9)


def test_each_pose_has_its_own_detector():
    # The detector moves along by 5 mm while the projected point moves against it by 5 mm times SDD / depth.
    result = errors(in_camera(5.0, 0.0, 0.0))
    assert result["mrpd_mm"] == pytest.approx(5 * (MAGNIFICATION - 1))
    assert result["mpd_legacy"] == pytest.approx(0.194 * 5 * (MAGNIFICATION - 1))


def test_the_projection_error_is_in_mm_whatever_the_pixels():
    values = [errors(in_camera(3.0, -4.0, 10.0), view=camera(spacing=s))["mpd_mm"] for s in ((0.4, 0.5), (2.0, 0.1))]
    assert values[0] == pytest.approx(values[1])


def test_a_shift_in_depth_hardly_shows_in_the_image():
    result = errors(in_camera(0.0, 0.0, -10.0))
    from_axis = OFFSETS.norm(dim=-1)
    expected = float((from_axis * (SDD / DEPTH - SDD / (DEPTH + 10.0))).mean())
    assert result["mpd_mm"] == pytest.approx(expected)
    assert expected < 1
    assert result["tre_mm"] == pytest.approx(10.0)
    assert result["translation_mm"] == pytest.approx(10.0)


@pytest.mark.parametrize("angle", [1e-6, 0.5, 90.0, 179.0])
def test_a_turn_in_the_image_plane_moves_points_on_circles(angle):
    # Camera z is -y of the volume.
    result = errors(turned(0.0, angle, 0.0))
    chord = float((OFFSETS.norm(dim=-1) * 2 * math.sin(math.radians(angle) / 2)).mean())
    assert result["rotation_deg"] == pytest.approx(angle, rel=1e-6)
    assert result["translation_mm"] == pytest.approx(0.0, abs=1e-9)
    assert result["tre_mm"] == pytest.approx(chord)
    assert result["mpd_mm"] == pytest.approx(chord * MAGNIFICATION)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, -3, 6)])
def test_the_rotation_error_is_the_angle_whatever_the_axis(axis):
    unit = np.array(axis) / np.linalg.norm(axis)
    assert errors(turned(*(12.5 * unit)))["rotation_deg"] == pytest.approx(12.5)


def test_the_translation_error_is_taken_at_the_isocentre():
    # A turn about the source moves the isocentre by a chord although the camera's own position stays.
    turn = perturb(torch.eye(4, **DOUBLE), torch.tensor([math.radians(10.0), 0, 0, 0, 0, 0], **DOUBLE), TRUTH[:3, 3])
    result = errors(turn @ TRUTH)
    assert result["translation_mm"] == pytest.approx(DEPTH * 2 * math.sin(math.radians(5.0)))
    assert result["rotation_deg"] == pytest.approx(10.0)


def test_the_legacy_figure_is_a_fixed_share_of_the_projection_distance():
    result = errors(turned(3.0, -5.0, 2.0) @ translation(torch.tensor([4.0, 1.0, -20.0], **DOUBLE)))
    assert result["mrpd_mm"] > 1
    assert result["mpd_legacy"] == pytest.approx(0.194 * result["mrpd_mm"], rel=1e-12)


def test_the_errors_do_not_depend_on_which_pose_is_called_the_truth():
    estimate = turned(3.0, -5.0, 2.0)
    assert errors(estimate) == pytest.approx(errors(TRUTH, estimate))


def test_success_is_below_the_threshold_and_a_failure_is_none():
    assert success_rate(np.array([0.5, 1.0, 0.999, 2.0]), 1) == 0.5
    assert success_rate(np.array([0.5, np.nan, 0.1, np.inf]), 1) == 0.5
    assert success_rate(np.array([np.nan, np.nan]), 10) == 0.0


def table(errors_by_specimen: dict[str, list[float]], column: str = "mpd_mm") -> pd.DataFrame:
    rows = [
        {"specimen": specimen, "projection": f"{index:03d}", "init": "ours", column: value}
        for specimen, values in errors_by_specimen.items()
        for index, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


UNLIKE = {f"s{i}": (10.0 * i + np.linspace(-1, 1, 12)).tolist() for i in range(5)}


@pytest.mark.parametrize("statistic", [np.mean, np.median, lambda x: success_rate(x, 15)])
def test_the_interval_holds_the_statistic(statistic):
    rows = table(UNLIKE)
    low, high = specimen_bootstrap(rows, "mpd_mm", statistic, seed=0)
    assert low < statistic(rows["mpd_mm"].to_numpy()) < high


def test_one_specimen_has_no_interval():
    rows = table({"s": [1.0, 2.0, 7.0]})
    assert specimen_bootstrap(rows, "mpd_mm", np.median, seed=0) == (2.0, 2.0)


def test_the_interval_is_the_seeds():
    rows = table(UNLIKE)
    first = specimen_bootstrap(rows, "mpd_mm", np.mean, seed=4, resamples=50)
    assert specimen_bootstrap(rows, "mpd_mm", np.mean, seed=4, resamples=50) == first
    assert specimen_bootstrap(rows, "mpd_mm", np.mean, seed=5, resamples=50) != first


def test_the_interval_is_wider_than_one_that_takes_xrays_for_independent():
    rows = table(UNLIKE)
    low, high = specimen_bootstrap(rows, "mpd_mm", np.mean, seed=0)
    values = rows["mpd_mm"].to_numpy()
    draws = np.random.default_rng(0).choice(values, size=(2000, len(values))).mean(axis=1)
    naive_low, naive_high = np.percentile(draws, [2.5, 97.5])
    assert high - low > 2 * (naive_high - naive_low)


def test_like_specimens_have_the_interval_of_their_common_value():
    assert specimen_bootstrap(table({"a": [1.0, 3.0], "b": [1.0, 3.0]}), "mpd_mm", np.mean, seed=0) == (2.0, 2.0)


def registrations(mpd_mm: list[float]) -> pd.DataFrame:
    rows = table({"a": mpd_mm[: len(mpd_mm) // 2], "b": mpd_mm[len(mpd_mm) // 2 :]})
    others = {"init_mpd_mm": 20.0, "rotation_deg": 0.5, "tre_mm": 3.0, "mpd_legacy": 0.1, "seconds": 4.0}
    return rows.assign(**others, translation_mm=2 * rows["mpd_mm"])


def test_a_summary_holds_the_papers_cells_and_what_stands_beside_them():
    mpd = [0.1, 0.4, 0.9, 1.0, 1.5, 4.0, 8.0, 30.0]
    summary = summarize(registrations(mpd), seed=0)
    assert set(summary) == {
        *("xrays", "specimens", "failures", "init_mpd_mm_median", "srr_1mm_legacy", "seconds_median"),
        *(
            f"{c}_{s}"
            for c in ("mpd_mm", "mpd_legacy", "init_mpd_mm", "rotation_deg", "translation_mm", "tre_mm")
            for s in ("mean", "sd")
        ),
        *(f"srr_{t}mm" for t in (1, 2, 5, 10)),
        *("srr_1mm_ci_low", "srr_1mm_ci_high", "mpd_mm_median_ci_low", "mpd_mm_median_ci_high"),
        *(f"mpd_mm_{q}" for q in ("q25", "median", "q75", "p95")),
    }
    assert (summary["xrays"], summary["specimens"], summary["failures"]) == (8, 2, 0)
    assert summary["srr_1mm_legacy"] == 1.0
    assert [summary[f"srr_{t}mm"] for t in (1, 2, 5, 10)] == [3 / 8, 5 / 8, 6 / 8, 7 / 8]
    assert summary["mpd_mm_mean"] == pytest.approx(np.mean(mpd))
    assert summary["mpd_mm_sd"] == pytest.approx(np.std(mpd, ddof=1))
    assert summary["translation_mm_mean"] == pytest.approx(2 * np.mean(mpd))
    assert summary["mpd_mm_median"] == pytest.approx(1.25)
    assert summary["mpd_mm_q25"] == pytest.approx(0.775)
    assert summary["mpd_mm_q75"] == pytest.approx(5.0)
    assert summary["mpd_mm_p95"] == pytest.approx(np.percentile(mpd, 95))
    assert (summary["srr_1mm_ci_low"], summary["srr_1mm_ci_high"]) == (0.0, 0.75)
    assert summary["rotation_deg_sd"] == 0.0
    assert (summary["init_mpd_mm_median"], summary["seconds_median"]) == (20.0, 4.0)


def test_a_failure_is_not_left_out_of_a_summary():
    summary = summarize(registrations([0.1, 0.2, 0.3, np.nan]), seed=0)
    assert summary["srr_1mm"] == 0.75
    assert summary["srr_10mm"] == 0.75
    assert summary["failures"] == 1
    assert math.isnan(summary["mpd_mm_mean"])
    assert summary["mpd_mm_median"] == pytest.approx(0.25)
    assert summary["mpd_mm_p95"] == math.inf


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([-1.0, -2.0, -4.0], 2 / 8),
        ([-1.0, -2.0, 4.0], 8 / 8),
        ([1.0, -2.0, -4.0], 4 / 8),
        ([0.1, 0.2, 0.4, 0.8, 1.6, 3.2], 2 / 64),
        ([-0.1, 0.2, 0.4, 0.8, 1.6, 3.2], 4 / 64),
        ([0.1, -0.2, 0.4, 0.8, 1.6, 3.2], 6 / 64),
        ([1.0, 1.0], 2 / 4),
        ([0.0, 0.0, 0.0], 1.0),
        ([5.0], 1.0),
    ],
)
def test_the_p_value_is_the_share_of_sign_patterns_as_far_from_zero(differences, p_value):
    test = sign_flip_test(np.array(differences), seed=0)
    assert test.p_value == pytest.approx(p_value)
    assert test.smallest == 2 / 2 ** len(differences)
    assert test.specimens == len(differences)
    assert sign_flip_test(-np.array(differences), seed=0) == test


def test_the_p_value_of_three_specimens_is_never_below_a_quarter_however_many_x_rays_there_are():
    a = table({f"s{i}": np.linspace(5, 9, 500).tolist() for i in range(3)})
    test = paired_test(a, a.assign(mpd_mm=0.1), seed=0)
    assert (test.p_value, test.smallest) == (0.25, 0.25)


def test_starts_of_one_x_ray_do_not_count_as_further_specimens():
    rng = np.random.default_rng(0)
    a, b = (table({f"s{i}": rng.uniform(1, 9, 4).tolist() for i in range(5)}) for _ in range(2))
    more_a, more_b = (pd.concat([x, *(x.assign(init=f"ours@{k}") for k in (1, 2))]) for x in (a, b))
    assert paired_test(more_a, more_b, seed=0) == paired_test(a, b, seed=0)


def test_many_specimens_are_tested_by_drawn_signs_that_the_seed_decides():
    differences = np.random.default_rng(0).normal(0.3, 1, 20)
    one, same, other = (sign_flip_test(differences, seed) for seed in (0, 0, 1))
    assert one == same
    assert one.p_value != other.p_value
    # What a t-test says of as many normal differences, not far from this one's.
    assert one.p_value == pytest.approx(scipy.stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_a_paired_test_takes_the_median_of_each_specimen():
    a = table({"a": [1.0, 1.0, 1.0], "b": [1.0, 1.0, 1.0], "c": [1.0, 1.0, 1.0]})
    # One X-ray in each specimen is lost, the others gain: the mean would say worse, the median better.
    b = table({"a": [0.5, 0.6, 90.0], "b": [0.5, 0.6, 90.0], "c": [0.5, 0.6, np.nan]})
    assert paired_test(b, a, seed=0).p_value == 0.25
    change = paired_change(a, b, seed=0)
    assert change["difference_median"] == pytest.approx(-0.4)
    assert (change["better"], change["worse"]) == (6, 3)


def test_failures_in_both_methods_do_not_differ_and_in_one_decide():
    fine, failed = table({"a": [1.0], "b": [2.0], "c": [3.0]}), table({"a": [np.nan], "b": [np.nan], "c": [np.nan]})
    assert paired_test(failed, failed, seed=0).p_value == 1.0
    change = paired_change(fine, failed, seed=0)
    assert (change["better"], change["worse"], change["paired_p"]) == (0, 3, 0.25)
    assert (change["difference_median"], change["difference_ci_low"]) == (math.inf, math.inf)
    assert paired_change(failed, fine, seed=0)["difference_median"] == -math.inf


def test_a_paired_test_pairs_by_name_not_by_row():
    a = table({"a": [1.0, 5.0, 2.0], "b": [9.0, 4.0, 7.0]})
    assert (paired_differences(a, a.sample(frac=1, random_state=0))["difference"] == 0).all()


@pytest.mark.parametrize("rows", [slice(1, None), slice(0, 3)])
def test_a_paired_test_needs_the_same_xrays(rows):
    a = table({"a": [1.0, 5.0, 2.0], "b": [9.0, 4.0, 7.0]})
    with pytest.raises(ValueError, match="same X-rays"):
        paired_test(a, a.iloc[rows], seed=0)
    with pytest.raises(ValueError, match="same X-rays"):
        paired_test(a.iloc[rows], a, seed=0)
    with pytest.raises(ValueError, match="same X-rays"):
        paired_test(a, a.replace({"specimen": {"b": "c"}}), seed=0)


def test_a_paired_test_needs_the_same_starts():
    a = table({"a": [1.0, 5.0, 2.0], "b": [9.0, 4.0, 7.0]})
    with pytest.raises(ValueError, match="same X-rays"):
        paired_test(a, a.replace({"init": {"ours": "ours@1"}}), seed=0)
