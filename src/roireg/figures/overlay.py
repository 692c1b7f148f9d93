"""Pictures that show whether a pose is right: X-ray and DRR side by side, in a checkerboard, and as an animation."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.feature import canny
from skimage.util import compare_images
from torch import Tensor

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.xray import DIRECTIONS, Xray
from roireg.drr import coverage, project_mask, render
from roireg.figures.panel import panel
from roireg.figures.style import BAR_MM, PALETTE, save_figure, scale_bar
from roireg.files import atomic_path
from roireg.geometry.camera import Camera, project

DPI = 150
EDGE = "#F0E442"
PANEL_INCH = 3.4
EDGE_SIGMA_PX = 1.5
GIF_FRAMES, GIF_MS, GIF_PX = 40, 80, 384
WINDOW_SIGMA_PX = 8.0
# Standard deviations between black and white.
CONTRAST_SDS = 5.0
SHADE = "#D55E00"
# Notes below the panels: size of letters, letters in a line, height of a line.
NOTE_POINTS, NOTE_LETTERS, NOTE_INCH = 7, 220, 0.14
HALO = [withStroke(linewidth=1.8, foreground="black")]


def local_contrast(image: Float[Tensor, "H W"], covered: Bool[Tensor, "H W"]) -> Float[np.ndarray, "H W"]:
    """The image standardized in a Gaussian window: each pixel minus the local mean, divided by the local SD.

    Local NCC compares images in this form.

    Args:
        image: an X-ray or a DRR.
        covered: pixels whose rays pass only through patient that the CT contains; the others become 0.

    Returns:
        Values in [0, 1]; 0.5 is the local mean.
    """
    weight = covered.double().numpy()
    values = image.double().numpy() * weight
    mass = gaussian_filter(weight, WINDOW_SIGMA_PX).clip(1e-6)
    mean = gaussian_filter(values, WINDOW_SIGMA_PX) / mass
    variance = (gaussian_filter(values * image.double().numpy(), WINDOW_SIGMA_PX) / mass - mean**2).clip(0)
    floor = 0.1 * float(image[covered].std()) if int(covered.sum()) > 1 else 1.0
    standard = (image.double().numpy() - mean) / np.sqrt(variance + floor**2 + 1e-12)
    return np.where(weight > 0, (0.5 + standard / CONTRAST_SDS).clip(0, 1), 0)


def overlay_figure(
    patient: Patient,
    xray: Xray,
    pose: Float[Tensor, "4 4"],
    title: str,
    counted: Bool[Tensor, "H W"] | None = None,
) -> Figure:
    """Four panels: X-ray; DRR; checkerboard of both; X-ray with the DRR's edges and the labels' silhouettes.

    Pixels that do not count are shaded in the X-rays. Below stands what was assumed or corrected on reading.

    Args:
        patient: the CT and its labels.
        xray: the registered X-ray.
        pose: `volume_from_camera`, mm.
        title: title of the figure.
        counted: pixels with a weight in the registration; by default those that are measured and that the CT covers.
    """
    covered = counted
    if covered is None:
        covered = coverage(patient.volume, xray.camera, pose[None])[0] > 0
        covered = covered if xray.mask is None else covered & xray.mask
    drr = scaled(render(patient.volume, xray.camera, pose[None]), covered[None].float())[0]
    seen, shown = (local_contrast(image, covered) for image in (xray.image, drr))
    height, width = xray.image.shape
    notes = assumed(patient, xray)
    inches = 4 * PANEL_INCH, PANEL_INCH * height / width + 0.9 + NOTE_INCH * len(notes)
    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots(1, 4)
    panel(axes[0], xray.image)
    axes[0].set_title(f"X-ray {xray.name}" + ("" if bool(covered.all()) else ", shaded: does not count"))
    panel(axes[1], drr.where(covered, drr[covered].min()) if bool(covered.any()) else drr)
    axes[1].set_title("DRR at the pose")
    axes[2].imshow(compare_images(seen, shown, method="checkerboard"), cmap="gray", interpolation="bilinear")
    axes[2].set_title("X-ray and DRR in turn, local contrast")
    panel(axes[3], xray.image)
    edges = canny(shown, sigma=EDGE_SIGMA_PX, mask=covered.numpy(), low_threshold=0.15, high_threshold=0.35)
    rows, columns = np.nonzero(edges)
    axes[3].plot(columns, rows, ".", color=EDGE, markersize=1.5)
    axes[3].set_title("edges of the DRR over the X-ray")
    _labels(axes[3], patient, xray, pose)
    for axis in (axes[0], axes[3]):
        shade(axis, covered)
    if notes:
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=NOTE_POINTS)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        _sides(axis, xray, pose)
    scale_bar(axes[0], BAR_MM / xray.camera.pixel_spacing_mm[0], f"{BAR_MM} mm on the detector")
    figure.suptitle(title)
    return figure


def shade(axes: Axes, counted: Bool[Tensor, "H W"]) -> None:
    """Shade and hatch the pixels of a panel that do not count."""
    if not bool(counted.all()):
        hidden = np.ma.masked_equal((~counted).numpy().astype(float), 0)
        axes.imshow(hidden, cmap=ListedColormap([SHADE]), alpha=0.35, interpolation="nearest")
        if bool(counted.any()):
            axes.contourf((~counted).numpy().astype(float), levels=[0.5, 1.5], colors="none", hatches=["///"])


def assumed(patient: Patient, xray: Xray) -> list[str]:
    """Lines that say what was assumed about the files, and what was corrected."""
    told = [f"{patient.name}: {note}" for note in patient.warnings]
    told += [f"{xray.name}: {note}" for note in xray.warnings]
    return [line for note in told for line in wrap(f"• {note}", NOTE_LETTERS)]


def side_letters(camera: Camera, pose: Float[Tensor, "4 4"]) -> tuple[str, str, str, str]:
    """Of the patient's sides (L, R, A, P, H, F) those that lie left, right, up and down in the picture.

    Args:
        camera: camera of the picture.
        pose: `volume_from_camera`, mm.
    """
    center = pose[:3, 3] + camera.source_to_detector_mm * 0.7 * pose[:3, 2]
    middle = project(center[None], camera, pose)[0]
    ends = {
        name: project((center + 20.0 * center.new_tensor(axis))[None], camera, pose)[0] - middle
        for name, axis in DIRECTIONS.items()
    }

    def nearest(column: float, row: float) -> str:
        along = {name: float(end @ end.new_tensor([column, row])) for name, end in ends.items()}
        return max(along, key=along.__getitem__)

    return nearest(-1, 0), nearest(1, 0), nearest(0, -1), nearest(0, 1)


def _sides(axes: Axes, xray: Xray, pose: Float[Tensor, "4 4"]) -> None:
    """Write the letters of the patient's sides at the borders."""
    places = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03))
    for (x, y), name in zip(places, side_letters(xray.camera, pose), strict=True):
        letter = axes.text(x, y, name, transform=axes.transAxes, color="white", fontsize=9)
        letter.set(ha="center", va="center", path_effects=HALO)


def _labels(axes: Axes, patient: Patient, xray: Xray, pose: Float[Tensor, "4 4"]) -> None:
    if patient.labels is None:
        return
    step_mm = 0.5 * float(patient.volume.spacing_mm.min())
    for index, label in enumerate(patient.label_names):
        mask = patient.volume.with_values((patient.labels == label).float())
        silhouette = project_mask(mask, xray.camera, pose[None], step_mm)[0]
        if bool(silhouette.any()) and not bool(silhouette.all()):
            color = PALETTE[index % len(PALETTE)]
            axes.contour(silhouette.numpy().astype(float), levels=[0.5], colors=[color], linewidths=0.8)


def write_overlay(
    path: str | Path,
    patient: Patient,
    xray: Xray,
    pose: Float[Tensor, "4 4"],
    title: str,
    counted: Bool[Tensor, "H W"] | None = None,
) -> None:
    """Save `overlay_figure`; the file extension selects the format."""
    save_figure(overlay_figure(patient, xray, pose, title, counted), [path], DPI)


def write_gif(path: str | Path, patient: Patient, xray: Xray, poses: Sequence[Float[Tensor, "4 4"]]) -> None:
    """Write an animation of the optimization: the checkerboard of X-ray and DRR at each step.

    Args:
        path: a GIF.
        patient, xray: the CT and the X-ray.
        poses: `volume_from_camera`, mm, step by step.
    """
    picks = np.unique(np.linspace(0, len(poses) - 1, min(len(poses), GIF_FRAMES)).round().astype(int))
    frames = [checkerboard(patient, xray, poses[index]) for index in picks]
    write_animation(path, frames, [GIF_MS] * (len(frames) - 1) + [20 * GIF_MS])


def checkerboard(patient: Patient, xray: Xray, pose: Float[Tensor, "4 4"]) -> Image.Image:
    """Squares of the X-ray and of the DRR at a pose `volume_from_camera` (mm), enlarged to `GIF_PX` or nearly so."""
    covered = coverage(patient.volume, xray.camera, pose[None])[0] > 0
    drr = render(patient.volume, xray.camera, pose[None])[0]
    seen, shown = (local_contrast(image, covered) for image in (xray.image, drr))
    board = compare_images(seen, shown, method="checkerboard")
    picture = Image.fromarray((board * 255).astype(np.uint8))
    scale = max(GIF_PX // max(xray.image.shape), 1)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BILINEAR)


def write_animation(path: str | Path, frames: Sequence[Image.Image], durations_ms: Sequence[int]) -> None:
    """Write pictures of one size as a GIF that repeats, atomically."""
    with atomic_path(path) as temporary:
        frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=list(durations_ms), loop=0)
