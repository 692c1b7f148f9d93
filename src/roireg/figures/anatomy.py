"""The paper's Figure 1 (ROIs and landmarks in 3D and in the X-ray), and a figure of a segmenter's masks."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyvista
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke
from scipy.ndimage import find_objects
from skimage.measure import marching_cubes
from torch import Tensor
from vtkmodules.vtkCommonCore import vtkLogger

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.drr.rois import KEY, project_rois, roi_map, roi_volumes
from roireg.figures.panel import panel
from roireg.figures.style import BAR_MM, scale_bar
from roireg.geometry.camera import project

# Okabe and Ito's colours and a brown. In this order, colour-blind readers can distinguish bones that touch each other
# in the pelvis even where the colour is mixed with grey, and the dark landmarks stand out on the light hemipelves.
ROI_COLOURS = ("#D55E00", "#009E73", "#56B4E9", "#F0E442", "#E69F00", "#0072B2", "#CC79A7", "#7A4B1E")
LANDMARK_COLOUR = "#3B0764"
LANDMARK_RADIUS_MM = 4.0
HIDDEN_OPACITY = 0.7
FILL_OPACITY = 0.5
HALO: list[AbstractPathEffect] = [withStroke(linewidth=1.8, foreground="black")]
SURFACE_DETAIL_MM = 1.5
SMOOTHING_STEPS = 20
MARGIN_MM = 20.0
SCREENSHOT_PX = 1400
CAMERA_DISTANCE_MM = 2000.0
PAGE_INCH = 7.0
# VTK kills its process if it finds no OpenGL, so a child process tests that first.
PROBE = (
    "from vtkmodules.vtkRenderingCore import vtkRenderWindow; import vtkmodules.vtkRenderingOpenGL2;"
    "window = vtkRenderWindow(); window.SetOffScreenRendering(1); window.Render()"
)

logger = logging.getLogger("roireg")


@dataclass(frozen=True, eq=False)
class Scene:
    """Content and viewing direction of the 3D panel, which is an orthographic view.

    Attributes:
        surfaces: one for each ROI, volume frame, mm; a ROI without voxels has a surface without points.
        landmarks_mm: `(N, 3)`, volume frame.
        axes: three rows, unit vectors of the volume frame: to the viewer's right, up, and towards the viewer.
    """

    surfaces: tuple[pyvista.PolyData, ...]
    landmarks_mm: Float[np.ndarray, "N 3"]
    axes: Float[np.ndarray, "3 3"]

    def box_mm(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Lower and upper corner, along `axes`, of the box that holds the surfaces and landmarks with a margin."""
        points = np.concatenate([*(surface.points for surface in self.surfaces), self.landmarks_mm]) @ self.axes.T
        return points.min(axis=0) - MARGIN_MM, points.max(axis=0) + MARGIN_MM


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """An image and its masks. A pixel of a mask is a ROI number: 0 for background, r + 1 for the r-th ROI.

    Attributes:
        image: `(H, W)` grey values.
        truth: `(H, W)`, the true mask; None if the dataset has none.
        predicted: `(H, W)`, the segmenter's mask.
        dice: mean over the ROIs; None without a true mask.
    """

    image: Float[Tensor, "H W"]
    truth: UInt8[Tensor, "H W"] | None
    predicted: UInt8[Tensor, "H W"]
    dice: float | None


@dataclass(frozen=True, eq=False)
class SegmentationCase:
    """The masks that one segmenter predicts for one X-ray and for the DRR at the X-ray's true pose.

    Attributes:
        label: segmenter and rank, such as "U-Net, typical".
        specimen, projection: keys of the X-ray in its dataset.
        xray, drr: both images with their masks.
    """

    label: str
    specimen: str
    projection: str
    xray: SegmentedImage
    drr: SegmentedImage


def roi_colours(count: int) -> list[str]:
    """A colour for each ROI; with more ROIs than `ROI_COLOURS`, colours repeat."""
    return [ROI_COLOURS[index % len(ROI_COLOURS)] for index in range(count)]


def roi_surface(mask: Bool[np.ndarray, "D H W"], volume_from_voxel: Float[np.ndarray, "4 4"]) -> pyvista.PolyData:
    """The smoothed surface of a mask in mm, closed also where the mask touches the end of the grid.

    Args:
        mask: `(z, y, x)` voxels; if none is set, the surface has no points.
        volume_from_voxel: mm from voxel indices `(x, y, z)`.
    """
    if not mask.any():
        return pyvista.PolyData()
    step = max(1, round(SURFACE_DETAIL_MM / np.linalg.norm(volume_from_voxel[:3, :3], axis=0).min()))
    (slices,) = find_objects(mask.astype(np.uint8))
    box = np.pad(mask[slices], step).astype(np.float32)
    corners, faces, _, _ = marching_cubes(box, 0.5, step_size=step, allow_degenerate=False)
    voxels = (corners + [along.start - step for along in slices])[:, ::-1]
    points = voxels @ volume_from_voxel[:3, :3].T + volume_from_voxel[:3, 3]
    return pyvista.PolyData.from_regular_faces(points, faces).smooth_taubin(n_iter=SMOOTHING_STEPS)


def view_axes(xray: Xray) -> Float[np.ndarray, "3 3"]:
    """Viewing axes (right, up, towards the viewer; rows, volume frame) that show the patient as the X-ray does.

    With `fx > 0` the viewer is at the source; with `fx < 0` the image is mirrored and the viewer is behind the
    detector.
    """
    rotation = xray.known_pose[:3, :3].numpy()
    right = np.sign(float(xray.camera.intrinsics_px[0, 0])) * rotation[:, 0]
    return np.stack([right, -rotation[:, 1], np.cross(right, -rotation[:, 1])])


def make_scene(patient: Patient, xray: Xray, rois: Sequence[str]) -> Scene:
    """The scene of the ROIs and the landmarks, seen from the X-ray's direction.

    Raises:
        InputError: a ROI is not among the patient's labels.
    """
    frame = patient.volume.volume_from_voxel.numpy()
    surfaces = tuple(roi_surface(patient.label_mask([roi], KEY).numpy(), frame) for roi in rois)
    return Scene(surfaces, patient.landmarks_mm.numpy(), view_axes(xray))


def _screenshot(scene: Scene) -> UInt8[np.ndarray, "H W 3"]:
    """An image of the scene, rendered by VTK; its borders are those of `Scene.box_mm`.

    Raises:
        RuntimeError: VTK finds no OpenGL on this machine.
    """
    if subprocess.run([sys.executable, "-c", PROBE], capture_output=True).returncode != 0:
        raise RuntimeError("VTK finds no OpenGL (EGL or OSMesa)")
    # Without an X server VTK warns and falls back to EGL: show errors only.
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    lower, upper = scene.box_mm()
    size, middle = (upper - lower)[:2], scene.axes.T @ ((lower + upper) / 2)
    plotter = pyvista.Plotter(off_screen=True, window_size=np.round(SCREENSHOT_PX / size.max() * size).astype(int))
    plotter.set_background("white")  # type: ignore[arg-type]  # pyvista's wrapper hides that it is a method
    for surface, colour in zip(scene.surfaces, roi_colours(len(scene.surfaces)), strict=True):
        if surface.n_points:
            plotter.add_mesh(surface, color=colour, smooth_shading=True, ambient=0.2, diffuse=0.85)
    for landmark in scene.landmarks_mm:
        plotter.add_mesh(pyvista.Sphere(radius=LANDMARK_RADIUS_MM, center=landmark), color=LANDMARK_COLOUR, ambient=0.5)
    plotter.camera_position = [middle + CAMERA_DISTANCE_MM * scene.axes[2], middle, scene.axes[1]]
    plotter.camera.parallel_projection = True
    plotter.camera.parallel_scale = size[1] / 2
    plotter.reset_camera_clipping_range()
    with closing(plotter):
        return np.asarray(plotter.screenshot(return_img=True))


def _paint(axes: Axes, scene: Scene) -> None:
    """Draw the surfaces with matplotlib, from the farthest face to the nearest one."""
    corners, shades = [], []
    for surface, colour in zip(scene.surfaces, roi_colours(len(scene.surfaces)), strict=True):
        faces = (surface.points @ scene.axes.T)[surface.regular_faces.reshape(-1, 3)]
        normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
        facing = np.abs(normals[:, 2:]) / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
        corners.append(faces)
        shades.append((0.35 + 0.65 * facing) * to_rgb(colour))
    triangles, colours = np.concatenate(corners), np.concatenate(shades)
    order = np.argsort(triangles[..., 2].mean(axis=1))
    # Edges in the colour of their face hide the gaps between neighbouring faces.
    drawn = PolyCollection([*triangles[order, :, :2]], facecolors=colours[order], edgecolors=colours[order])
    axes.add_collection(drawn).set(linewidths=0.2, rasterized=True)


def _scene_panel(axes: Axes, scene: Scene) -> None:
    """Draw the scene on axes in mm, y up."""
    (left, bottom, _), (right, top, _) = scene.box_mm()
    try:
        axes.imshow(_screenshot(scene), extent=(left, right, bottom, top))
    except RuntimeError as error:
        logger.warning("3D panel drawn by matplotlib: %s", error)
        _paint(axes, scene)
    # Transparent circles keep landmarks behind a bone visible; in front of a bone they cover spheres of that colour.
    for landmark in scene.landmarks_mm @ scene.axes.T:
        axes.add_patch(Circle(landmark[:2], LANDMARK_RADIUS_MM, color=LANDMARK_COLOUR, lw=0, alpha=HIDDEN_OPACITY))
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _name_sides(axes: Axes, lateral: float, colour: str) -> None:
    """Write R and L, the patient's sides, into the upper corners; `lateral` > 0: their left is at the right border."""
    for x, side in zip((0.03, 0.97), "RL" if lateral > 0 else "LR", strict=True):
        axes.text(x, 0.97, side, transform=axes.transAxes, color=colour, ha="center", va="top", weight="bold")


def _fill(axes: Axes, numbers: UInt8[Tensor, "H W"], count: int) -> None:
    colours = np.zeros((count + 1, 4))
    colours[1:, :3], colours[1:, 3] = [to_rgb(colour) for colour in roi_colours(count)], FILL_OPACITY
    axes.imshow(colours[numbers.numpy()], interpolation="nearest")


def _outline(axes: Axes, numbers: UInt8[Tensor, "H W"], count: int) -> None:
    for number, colour in enumerate(roi_colours(count), start=1):
        inside = numbers == number
        if bool(inside.any()) and not bool(inside.all()):
            lines = axes.contour(inside.numpy().astype(float), levels=[0.5], colors=[colour], linewidths=1.0)
            lines.set_path_effects(HALO)


def figure1(patient: Patient, xray: Xray, rois: Sequence[str]) -> Figure:
    """The paper's Figure 1: ROIs and landmarks in 3D (left) and in the X-ray (right), seen from the same side.

    If the X-ray has no mask, the right panel shows the silhouettes of the CT's labels at the true pose.

    Args:
        patient: the CT, its labels and landmarks.
        xray: one of the patient's X-rays.
        rois: names of labels.

    Raises:
        InputError: a ROI is not among the patient's labels.
    """
    if xray.labels is None:
        numbers, source = project_rois(roi_volumes(patient, rois), xray.camera, xray.known_pose[None])[0], "CT labels"
    else:
        numbers, source = roi_map(xray.labels, patient.label_names, rois), "mask"
    scene = make_scene(patient, xray, rois)
    figure = Figure(figsize=(PAGE_INCH, 0.57 * PAGE_INCH), layout="constrained")
    left, right = figure.subplots(1, 2)
    _scene_panel(left, scene)
    left.set_title(f"{patient.name}: CT labels and landmarks")
    panel(right, xray.image)
    right.set_title(f"X-ray {xray.name}: {source} and projected landmarks")
    _fill(right, numbers, len(rois))
    pixels = project(patient.landmarks_mm, xray.camera, xray.known_pose).numpy()
    inside = ((pixels > -0.5) & (pixels < np.array(numbers.shape[::-1]) - 0.5)).all(axis=1)
    (marks,) = right.plot(*pixels[inside].T, "o", color=LANDMARK_COLOUR, ms=4, mec="white", mew=0.5, label="landmark")
    scale_bar(left, BAR_MM, f"{BAR_MM} mm", "black")
    scale_bar(right, BAR_MM / xray.camera.pixel_spacing_mm[0], f"{BAR_MM} mm on the detector")
    for axes, colour in ((left, "black"), (right, "white")):
        _name_sides(axes, scene.axes[0, 0], colour)
    for text in right.texts:
        text.set_path_effects(HALO)
    figure.legend(handles=[*_roi_handles(rois), marks], loc="outside lower center", ncols=4)
    return figure


def segmentation_figure(cases: Sequence[SegmentationCase], rois: Sequence[str], title: str) -> Figure:
    """One row for each case: the X-ray with true outlines, the X-ray with the segmenter's mask, then both for the DRR.

    Args:
        cases: from top to bottom.
        rois: names in the order of the ROI numbers.
        title: title of the whole figure.
    """
    figure = Figure(figsize=(PAGE_INCH, (PAGE_INCH / 4 + 0.1) * len(cases) + 0.6), layout="constrained")
    grid = figure.subplots(len(cases), 4, squeeze=False)
    for row, case in zip(grid, cases, strict=True):
        for pair, (name, shown) in zip(row.reshape(2, 2), (("X-ray", case.xray), ("DRR", case.drr)), strict=True):
            for axes in pair:
                panel(axes, shown.image)
            _fill(pair[1], shown.predicted, len(rois))
            if shown.truth is None:
                middle = pair[0].annotate("no true mask", (0.5, 0.5), xycoords="axes fraction", ha="center")
                middle.set(color="white", backgroundcolor="black")
            else:
                _outline(pair[0], shown.truth, len(rois))
            pair[0].set_title(f"{name}: truth")
            dice = "no Dice" if shown.dice is None else f"mean Dice {shown.dice:.3f}"
            pair[1].set_title(f"{name}: {dice}")
        row[0].set_ylabel(f"{case.label}\n{case.specimen}/{case.projection}")
    figure.suptitle(title)
    figure.legend(handles=_roi_handles(rois), loc="outside lower center", ncols=min(len(rois), 6))
    return figure


def _roi_handles(rois: Sequence[str]) -> list[Patch]:
    return [Patch(color=colour, label=roi) for roi, colour in zip(rois, roi_colours(len(rois)), strict=True)]
