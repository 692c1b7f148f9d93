"""Writes the result of a check: a page with findings and tables, a CSV of X-rays, and a figure for each specimen."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roireg.check.conclusions import Finding, conclusions
from roireg.check.dataset import SHIFTS_VOXELS, CheckSettings, SpecimenCheck, check_specimen
from roireg.check.evidence import Agreement, StoredView, is_camera, silhouettes
from roireg.check.hypotheses import mean_agreement
from roireg.data.deepfluoro import specimen_names, stored_parameters
from roireg.data.label_names import normalized
from roireg.drr import render
from roireg.errors import InputError
from roireg.figures.panel import panel
from roireg.figures.style import PALETTE, PANEL_INCH, save_figure
from roireg.files import atomic_path, write_csv
from roireg.geometry.camera import project

logger = logging.getLogger("roireg")

DPI = 120
PAGE, TABLE = "check.md", "check.csv"
NOT_COMPARED = (None,) * len(SHIFTS_VOXELS)


def check_dataset(
    file: h5py.File,
    specimens: Sequence[str],
    settings: CheckSettings,
    expected_xrays: Mapping[str, int],
    folder: str | Path,
) -> list[Finding]:
    """Check a dataset and write `check.md`, `check.csv` and a figure for each specimen.

    Args:
        file: HDF5 file in the DeepFluoro layout.
        specimens: names of the specimens to check; empty for all.
        settings: settings of the check.
        expected_xrays: known number of X-rays, by specimen.
        folder: output folder, created if missing.

    Returns:
        The findings, the worst first.

    Raises:
        InputError: a specimen is not in the file, or cannot be read at all.
    """
    known = specimen_names(file)
    for name in specimens:
        if name not in known:
            remedy = f"Choose among: {', '.join(known)}"
            raise InputError(f"specimen {name}", f"{file.filename} does not contain it", remedy)
    parameters = stored_parameters(file)
    checks = []
    for name in specimens or known:
        checks.append(check_specimen(file, name, settings))
        logger.info("%s: compared", name)
        save_figure(check_figure(checks[-1]), [Path(folder) / f"{name}.png"], DPI)
    findings = conclusions(checks, parameters, settings, expected_xrays)
    write_csv(Path(folder) / TABLE, xray_table(checks))
    with atomic_path(Path(folder) / PAGE) as temporary:
        temporary.write_text(check_page(checks, findings, settings), encoding="utf-8")
    return findings


def xray_table(checks: Sequence[SpecimenCheck]) -> pd.DataFrame:
    """A row for each X-ray: landmark residual (px), pose, flags; Dice and NCC by shift if it was compared with DRRs."""
    rows = []
    for one in checks:
        for view in one.views:
            row = {"specimen": one.name, "projection": view.name, **vars(view)}
            del row["name"]
            row["uncovered"] = one.uncovered.get(view.name, np.nan)
            for shift, found in zip(SHIFTS_VOXELS, one.shifts.get(view.name, ()), strict=False):
                row |= {f"dice_{shift:+g}": found.dice, f"ncc_{shift:+g}": found.ncc}
            rows.append(row)
    return pd.DataFrame(rows)


def check_page(checks: Sequence[SpecimenCheck], findings: Sequence[Finding], settings: CheckSettings) -> str:
    """The page in Markdown: findings, agreement by shift, grids, labels."""
    lines = ["# Check of the dataset", "", *(f"- **{one.level}**: {one.text}" for one in findings), ""]
    shifts = [f"{shift:+g} voxels" for shift in SHIFTS_VOXELS]
    lines += ["## Agreement at the stored poses", "", "Landmarks: root mean square distance in px of the stored image."]
    lines += ["Dice of gt-seg and projected labels, and NCC of X-ray and DRR, by shift of the CT.", ""]
    table = []
    for one in checks:
        row = {"specimen": one.name, "X-rays": len(one.views), "compared": len(one.shifts) or len(one.stored)}
        row["landmarks (px)"] = f"{pd.Series([view.landmarks_px for view in one.views]).mean():.2f}"
        by_shift: list[Agreement | None] = [mean_agreement(column) for column in zip(*one.shifts.values(), strict=True)]
        if not by_shift and one.stored:
            by_shift = [None, mean_agreement(one.stored), None]
        for key in ("dice", "ncc"):
            for shift, found in zip(shifts, by_shift or NOT_COMPARED, strict=True):
                row[f"{key} {shift}"] = "" if found is None else f"{getattr(found, key):.4f}"
        table.append(row)
    lines += [pd.DataFrame(table).to_markdown(index=False), "", "## Grids", ""]
    grids = [{"specimen": one.name, "CT": one.ct_grid, "labels": one.labels_grid} for one in checks]
    lines += [pd.DataFrame(grids).to_markdown(index=False), "", "## Labels", ""]
    rois = {normalized(roi): roi for roi in settings.rois}
    labels = [
        {
            "specimen": one.name,
            "id": row.label,
            "name": row.name,
            "ROI of the config": rois.get(normalized(row.name), ""),
            "voxels": row.voxels,
            "median HU": f"{row.median_hu:.0f}",
        }
        for one in checks
        for row in one.labels
    ]
    lines += [pd.DataFrame(labels).to_markdown(index=False), ""]
    return "\n".join(lines)


def check_figure(check: SpecimenCheck) -> Figure:
    """A row for each X-ray: the X-ray with landmarks, its DRR at the stored pose, the X-ray with outlines of labels."""
    views = check.shown or (None,)
    figure = Figure(figsize=(3 * PANEL_INCH, (PANEL_INCH + 0.2) * len(views) + 0.5), layout="constrained")
    for row, view in zip(figure.subplots(len(views), 3, squeeze=False), views, strict=True):
        for axes in row:
            axes.set(xticks=[], yticks=[])
        if view is not None:
            _row(row, check, view)
    figure.suptitle(
        f"{check.name}: at the stored poses (landmarks o stored, + projected; labels solid projected, dotted gt-seg)"
    )
    return figure


def _row(row: Sequence[Axes], check: SpecimenCheck, view: StoredView) -> None:
    panel(row[0], view.image)
    row[0].set_title(f"X-ray {view.name}, as it is stored")
    panel(row[2], view.image)
    if view.landmarks_px:
        # Convert from px of the stored image to px of the reduced one.
        side = [size - 2 * view.crop_px for size in (view.parameters.columns, view.parameters.rows)]
        scale = np.array([size / length for size, length in zip(view.image.shape[::-1], side, strict=True)])
        stored = (np.stack([*view.landmarks_px.values()]) - view.crop_px + 0.5) * scale - 0.5
        row[0].plot(*stored.T, "o", fillstyle="none", color=PALETTE[1], markersize=5)
    if not is_camera(view.parameters):
        row[1].set_title("no camera: see check.md")
        return
    camera, pose = view.camera(), view.pose()
    points = np.stack([*check.scan.landmarks_mm.values()]) if check.scan.landmarks_mm else np.zeros((0, 3))
    row[0].plot(*project(pose.new_tensor(points), camera, pose).numpy().T, "+", color=PALETTE[5], markersize=5)
    panel(row[1], render(check.scan.volume, camera, pose[None])[0].float())
    row[1].set_title("DRR at the stored pose")
    row[2].set_title("labels")
    for index, (label, silhouette) in enumerate(silhouettes(check.scan, view).items()):
        colour = PALETTE[index % len(PALETTE)]
        outlines = [(silhouette, "solid")]
        if view.segmentation is not None:
            outlines.append((view.segmentation == label, "dotted"))
        for mask, style in outlines:
            if bool(mask.any()) and not bool(mask.all()):
                row[2].contour(
                    mask.numpy().astype(float), levels=[0.5], colors=[colour], linewidths=0.9, linestyles=style
                )
