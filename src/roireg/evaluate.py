"""Errors of a registration, each with a name that says what it is, and their summaries."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry import Camera, project
from roireg.se3 import invert, so3_log, transform_points

LEGACY_FACTOR = 0.194
THRESHOLDS_MM = (1, 2, 5, 10)


def detector_points_mm(
    points_mm: Float[Tensor, "N 3"], camera: Camera, pose: Float[Tensor, "4 4"]
) -> Float[Tensor, "N 3"]:
    """Where the points' projections lie on the detector of `pose`, in the camera frame."""
    pixels = project(points_mm, camera, pose)
    return torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=-1) @ camera.rays_mm().to(pixels).T


def registration_errors(
    estimate: Float[Tensor, "4 4"],
    truth: Float[Tensor, "4 4"],
    camera: Camera,
    landmarks_mm: Float[Tensor, "N 3"],
    isocenter_mm: Float[Tensor, "3"],
) -> dict[str, float]:
    r"""Errors of an estimated pose.

    Args:
        estimate, truth: `volume_from_camera`, mm.
        camera: the detector.
        landmarks_mm: volume frame.
        isocenter_mm: origin at which the translation error is taken, volume frame.

    Returns:
        `mpd_mm`: mean distance of the landmarks' projections on the detector plane; the paper's "mTRE".
        `mrpd_mm`: mean 3D distance of the projected points, each on its own pose's detector.
        `tre_mm`: mean 3D distance of the landmarks, moved rigidly.
        `mpd_legacy`: `0.194 * mrpd_mm`, the figure of DiffPose's released code, too small by that factor.
        `rotation_deg`: geodesic angle of $R^\top \hat R$.
        `translation_mm`: distance of the isocentre's positions in the camera frame.
    """
    true_px, estimated_px = project(landmarks_mm, camera, truth), project(landmarks_mm, camera, estimate)
    spacing = true_px.new_tensor(camera.pixel_spacing_mm)
    true_detector = transform_points(truth, detector_points_mm(landmarks_mm, camera, truth))
    estimated_detector = transform_points(estimate, detector_points_mm(landmarks_mm, camera, estimate))
    mrpd = (true_detector - estimated_detector).norm(dim=-1).mean()
    moved = transform_points(invert(estimate), landmarks_mm) - transform_points(invert(truth), landmarks_mm)
    isocenter = isocenter_mm[None]
    offset = transform_points(invert(estimate), isocenter) - transform_points(invert(truth), isocenter)
    return {
        "mpd_mm": float(((true_px - estimated_px) * spacing).norm(dim=-1).mean()),
        "mrpd_mm": float(mrpd),
        "tre_mm": float(moved.norm(dim=-1).mean()),
        "mpd_legacy": LEGACY_FACTOR * float(mrpd),
        "rotation_deg": float(torch.rad2deg(so3_log(truth[:3, :3].T @ estimate[:3, :3]).norm())),
        "translation_mm": float(offset.norm()),
    }


def success_rate(errors: np.ndarray, threshold: float) -> float:
    """Share of errors below `threshold`; a failure (NaN) counts as not below."""
    return float(np.mean(np.nan_to_num(errors, nan=np.inf) < threshold))


def specimen_bootstrap(
    table: pd.DataFrame, column: str, statistic, seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95% percentile interval of a statistic when whole specimens are drawn with replacement.

    X-rays of one specimen are not independent, so specimens, not X-rays, are resampled.

    Args:
        table: rows with `specimen` and `column`.
        statistic: function of an array of values.
    """
    rng = np.random.default_rng(seed)
    groups = [group[column].to_numpy() for _, group in table.groupby("specimen", sort=True)]
    draws = rng.integers(len(groups), size=(resamples, len(groups)))
    values = [statistic(np.concatenate([groups[i] for i in draw])) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def summarize(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """Summary of one method over its X-rays: the paper's cells and what stands beside them.

    Args:
        table: registration rows of one method (results contract in docs/results.md).
        seed: of the bootstrap.
    """
    mpd = table["mpd_mm"].to_numpy()
    quartiles = np.percentile(mpd, [25, 50, 75, 95])
    srr = success_rate(mpd, 1)
    low, high = specimen_bootstrap(table, "mpd_mm", lambda x: success_rate(x, 1), seed)
    median_low, median_high = specimen_bootstrap(table, "mpd_mm", np.median, seed)
    summary = {"xrays": len(table), "specimens": table["specimen"].nunique()}
    for column in ("mpd_mm", "rotation_deg", "translation_mm", "tre_mm"):
        summary[f"{column}_mean"] = float(table[column].mean())
        summary[f"{column}_sd"] = float(table[column].std(ddof=1))
    summary |= {f"srr_{t}mm": success_rate(mpd, t) for t in THRESHOLDS_MM}
    summary |= {"srr_1mm": srr, "srr_1mm_ci_low": low, "srr_1mm_ci_high": high}
    summary |= {
        "mpd_mm_q25": quartiles[0],
        "mpd_mm_median": quartiles[1],
        "mpd_mm_q75": quartiles[2],
        "mpd_mm_p95": quartiles[3],
        "mpd_mm_median_ci_low": median_low,
        "mpd_mm_median_ci_high": median_high,
        "init_mpd_mm_median": float(table["init_mpd_mm"].median()),
        "mpd_legacy_mean": float(table["mpd_legacy"].mean()),
        "seconds_median": float(table["seconds"].median()),
    }
    return summary


def paired_p_value(a: pd.DataFrame, b: pd.DataFrame, column: str = "mpd_mm") -> float:
    """Two-sided Wilcoxon signed-rank test of two methods on the same X-rays.

    Raises:
        ValueError: the methods were not run on the same X-rays.
    """
    from scipy import stats

    keys = ["specimen", "projection"]
    joined = a.merge(b, on=keys, suffixes=("_a", "_b"), validate="one_to_one")
    if len(joined) != len(a) or len(joined) != len(b):
        raise ValueError("a paired test needs both methods on the same X-rays")
    difference = joined[f"{column}_a"] - joined[f"{column}_b"]
    if not difference.abs().any():
        return 1.0
    return float(stats.wilcoxon(difference).pvalue)
