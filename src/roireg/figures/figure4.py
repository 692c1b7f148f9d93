"""The paper's Figure 4: landmarks and the pelvis under each method's estimate and under the truth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from roireg.data.label_names import normalized
from roireg.data.patient import Patient
from roireg.data.pose_results import pose_of_row
from roireg.data.xray import Xray
from roireg.drr import project_mask
from roireg.figures.panel import panel
from roireg.figures.style import BAR_MM, PANEL_INCH, scale_bar
from roireg.geometry.camera import project
from roireg.metrics.overlap import dice_of_each

ESTIMATE, TRUTH, OVERLAP = "#D55E00", "#56B4E9", "#CC79A7"
PELVIS = ("left hemipelvis", "right hemipelvis", "upper sacrum")


def pelvis_silhouette(patient: Patient, xray: Xray, pose: torch.Tensor) -> Bool[Tensor, "H W"]:
    """Pixels onto which the pelvis projects at a pose; all labelled bones if no label is named like a pelvic bone."""
    known = {normalized(name) for name in patient.label_names.values()}
    names = tuple(name for name in PELVIS if normalized(name) in known) or tuple(patient.label_names.values())
    mask = patient.volume.with_values(patient.label_mask(names).to(torch.float32))
    return project_mask(mask, xray.camera, pose[None], step_mm=0.5 * float(mask.spacing_mm.min()))[0]


def _outline(axes: Axes, silhouette: Bool[Tensor, "H W"], color: str) -> None:
    if bool(silhouette.any()) and not bool(silhouette.all()):
        axes.contour(silhouette.numpy().astype(float), levels=[0.5], colors=[color], linewidths=0.8)


def _landmarks(axes: Axes, patient: Patient, xray: Xray, pose: torch.Tensor, marker: str, color: str) -> None:
    columns, rows = project(patient.landmarks_mm, xray.camera, pose).numpy().T
    axes.plot(columns, rows, marker, color=color, markersize=4, markeredgewidth=1.0, fillstyle="none")


def figure4(specimens: Sequence[tuple[Patient, Sequence[Xray]]], rows: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """The paper's Figure 4: landmarks and the pelvis under each method's estimate and under the truth.

    A row for each specimen, a column for each method. A specimen is shown by one X-ray: the one of median error under
    the last method.

    Args:
        specimens: patients, each with its X-rays.
        rows: registrations of all methods.
        labels: label by method name, in the order of the columns.
    """
    size = PANEL_INCH * len(labels), (PANEL_INCH + 0.25) * len(specimens) + 0.5
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(specimens), len(labels), squeeze=False)
    last = list(labels)[-1]
    for panels, (patient, xrays) in zip(grid, specimens, strict=True):
        own = rows[rows["specimen"] == patient.name]
        ranked = own[own["method"] == last].sort_values("mpd_mm")
        projection = ranked.iloc[(len(ranked) - 1) // 2]["projection"]
        xray = next(x for x in xrays if x.name == projection)
        truth = pelvis_silhouette(patient, xray, xray.known_pose)
        for axes, (method, label) in zip(panels, labels.items(), strict=True):
            row = own[(own["method"] == method) & (own["projection"] == projection)].iloc[0]
            estimate = pose_of_row(row)
            silhouette = pelvis_silhouette(patient, xray, estimate)
            panel(axes, xray.image)
            overlap = np.ma.masked_equal((silhouette & truth).numpy().astype(float), 0)
            axes.imshow(overlap, cmap=ListedColormap([OVERLAP]), alpha=0.35, interpolation="nearest")
            _outline(axes, truth, TRUTH)
            _outline(axes, silhouette, ESTIMATE)
            _landmarks(axes, patient, xray, xray.known_pose, "o", TRUTH)
            _landmarks(axes, patient, xray, estimate, "x", ESTIMATE)
            result = f"{patient.name}/{projection}: mpd {row['mpd_mm']:.2f} mm"
            axes.set_title(f"{label}\n{result}\noverlap {float(dice_of_each(silhouette, truth).nan_to_num()):.2f}")
        scale_bar(panels[0], BAR_MM / xray.camera.pixel_spacing_mm[0], f"{BAR_MM} mm on the detector")
    handles = [
        Line2D([], [], color=TRUTH, marker="o", fillstyle="none", label="landmarks and pelvis, truth"),
        Line2D([], [], color=ESTIMATE, marker="x", label="landmarks and pelvis, estimate"),
        Patch(color=OVERLAP, alpha=0.5, label="overlap (title: its Dice)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
