"""The paper's Figure 5: Dice of one patient's segmented X-rays, and 3D landmarks under the estimated and true pose."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from roireg.data.patient import Patient
from roireg.data.pose_results import pose_of_row
from roireg.data.xray import Xray
from roireg.figures.style import PALETTE, PANEL_INCH
from roireg.geometry.se3 import invert, transform_points
from roireg.segment.evaluate import XRAY

TRUTH_ONLY, ESTIMATE_ONLY, BOTH = "#0072B2", "#F0E442", "#009E73"
RADIUS_MM = 6.0
PIXEL_MM = 0.5
# For each plane, which axes of the volume's LPS frame are drawn to the right and up. LPS's first axis points to the
# patient's left, so the patient's left is drawn at the right, as in an X-ray seen from the front.
PLANES = (("coronal", (0, 2)), ("sagittal", (1, 2)), ("axial", (0, 1)))
AXIS_NAMES = ("right – left", "front – back", "down – up")


def case_study(
    patient: Patient,
    xrays: Sequence[Xray],
    dice: pd.DataFrame,
    segmenters: dict[str, str],
    rows: pd.DataFrame,
    methods: dict[str, str],
) -> Figure:
    """Dice of every ROI by segmenter (left), and landmarks projected on three anatomical planes by method (right).

    On the left a dot is one X-ray. The right side shows one X-ray, the one of median error under the first method, with
    a row for each method.

    Args:
        patient, xrays: the specimen.
        dice: Dice of the segmenters on this specimen.
        segmenters: label by segmenter.
        rows: registrations of the methods on this specimen.
        methods: label by method.
    """
    figure = Figure(figsize=(PANEL_INCH * 4.6, PANEL_INCH * len(methods) + 0.6), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.5, 3))[0]
    _draw_dice(left.subplots(), dice[dice["image"] == XRAY], segmenters)
    first = rows[rows["method"] == next(iter(methods))].sort_values("mpd_mm")
    projection = first.iloc[(len(first) - 1) // 2]["projection"]
    grid = right.subplots(len(methods), 3, squeeze=False)
    for panels, (method, label) in zip(grid, methods.items(), strict=True):
        row = rows[(rows["method"] == method) & (rows["projection"] == projection)].iloc[0]
        truth_mm, estimate_mm = landmarks_under(patient, xrays, projection, row)
        for axes, (name, plane) in zip(panels, PLANES, strict=True):
            _draw_plane(axes, truth_mm[:, plane], estimate_mm[:, plane])
            axes.set_title(name)
            axes.set_xlabel(f"{AXIS_NAMES[plane[0]]} (mm)")
            axes.set_ylabel(f"{AXIS_NAMES[plane[1]]} (mm)")
        panels[1].set_title(f"{label}: mpd {row['mpd_mm']:.2f} mm, 3D (tre) {row['tre_mm']:.2f} mm\nsagittal")
    right.suptitle(f"{patient.name}/{projection}: landmarks, balls of {RADIUS_MM:g} mm radius")
    colours = ((TRUTH_ONLY, "true pose"), (ESTIMATE_ONLY, "estimated pose"), (BOTH, "both"))
    right.legend(
        handles=[Patch(color=color, label=text) for color, text in colours], loc="outside lower center", ncols=3
    )
    return figure


def landmarks_under(
    patient: Patient, xrays: Sequence[Xray], projection: str, row: pd.Series
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Landmarks where the true pose and where an estimated pose place them, in the true volume frame (mm).

    The mean distance between the two sets is the row's `tre_mm`.
    """
    truth = next(xray.known_pose for xray in xrays if xray.name == projection)
    moved = transform_points(truth, transform_points(invert(pose_of_row(row)), patient.landmarks_mm))
    return patient.landmarks_mm.numpy(), moved.numpy()


def discs(
    centres_mm: Float[np.ndarray, "N 2"], right_mm: Float[np.ndarray, "W"], up_mm: Float[np.ndarray, "H"]
) -> Bool[np.ndarray, "H W"]:
    """Mask of the pixels within `RADIUS_MM` of any centre; columns lie at `right_mm`, rows at `up_mm`."""
    x = right_mm[None, :, None] - centres_mm[:, 0]
    y = up_mm[:, None, None] - centres_mm[:, 1]
    return (np.hypot(x, y) <= RADIUS_MM).any(axis=-1)


def _draw_plane(axes: Axes, truth_mm: Float[np.ndarray, "N 2"], estimate_mm: Float[np.ndarray, "N 2"]) -> None:
    low = truth_mm.min(axis=0) - 3 * RADIUS_MM
    high = truth_mm.max(axis=0) + 3 * RADIUS_MM
    right_mm, up_mm = (np.arange(a, b, PIXEL_MM) for a, b in zip(low, high, strict=True))
    truth, estimate = discs(truth_mm, right_mm, up_mm), discs(estimate_mm, right_mm, up_mm)
    for shown, color in ((truth & ~estimate, TRUTH_ONLY), (estimate & ~truth, ESTIMATE_ONLY), (truth & estimate, BOTH)):
        axes.contourf(right_mm, up_mm, shown, levels=[0.5, 1.5], colors=[color])
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])


def _draw_dice(axes: Axes, dice: pd.DataFrame, segmenters: dict[str, str]) -> None:
    rois = list(dict.fromkeys(dice["roi"]))
    shift = 0.8 / len(segmenters)
    for index, (segmenter, label) in enumerate(segmenters.items()):
        own = dice[dice["segmenter"] == segmenter]
        color = PALETTE[index % len(PALETTE)]
        for number, roi in enumerate(rois):
            values = own.loc[own["roi"] == roi, "dice"].dropna()
            y = number + (index - (len(segmenters) - 1) / 2) * shift
            axes.barh(y, values.mean(), shift, color=color, alpha=0.6, label=label if number == 0 else None)
            axes.plot(values, np.full(len(values), y), "k.", markersize=3)
    axes.set_yticks(range(len(rois)), rois)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice on X-rays (bar: mean)")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(segmenters))
