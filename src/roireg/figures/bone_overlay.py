"""Bones over the X-ray that they were registered to: whether their outlines lie on its edges."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from skimage.segmentation import find_boundaries
from torch import Tensor

from roireg.data.xray import Xray
from roireg.drr import project_mask, render
from roireg.figures.overlay import DPI, NOTE_INCH, NOTE_POINTS, PANEL_INCH, shade
from roireg.figures.panel import panel
from roireg.figures.style import PALETTE, save_figure
from roireg.geometry.camera import Camera, project
from roireg.register.bone import Bone

AROUND_SHARE = 0.25


def bone_overlay_figure(bones: Sequence[Bone], xray: Xray, poses: Sequence[Float[Tensor, "4 4"]], title: str) -> Figure:
    """Three panels of the part of the X-ray about the bones: itself; the bones' outlines over it; their DRR.

    Args:
        bones: what was registered.
        xray: to which.
        poses: `volume_from_camera` of each bone, mm.
        title: of the figure.
    """
    camera = xray.camera
    shadows = torch.cat([project(bone.points_mm, camera, pose) for bone, pose in zip(bones, poses, strict=True)])
    low, high = shadows.amin(0), shadows.amax(0)
    around = AROUND_SHARE * float((high - low).max())
    columns = slice(max(int(low[0] - around), 0), max(min(int(high[0] + around), camera.width), 2))
    rows = slice(max(int(low[1] - around), 0), max(min(int(high[1] + around), camera.height), 2))
    part, image = camera.window(rows, columns), xray.image[rows, columns]
    figure = Figure(figsize=(3 * PANEL_INCH, PANEL_INCH * image.shape[0] / image.shape[1] + 0.7), layout="constrained")
    axes = figure.subplots(1, 3)
    pairs = zip(bones, poses, strict=True)
    drr = torch.stack([render(bone.volume, part, pose[None])[0] for bone, pose in pairs]).sum(0)
    for one, shown in zip(axes, (image, image, drr), strict=True):
        panel(one, shown)
        if xray.mask is not None and one is not axes[2]:
            shade(one, xray.mask[rows, columns])
        one.set_xticks([])
        one.set_yticks([])
    for number, (bone, pose) in enumerate(zip(bones, poses, strict=True)):
        shadow = shadow_of(bone, part, pose)
        if bool(shadow.any()) and not bool(shadow.all()):
            color = PALETTE[number % len(PALETTE)]
            axes[1].contour(shadow.numpy().astype(float), levels=[0.5], colors=[color], linewidths=0.9)
    axes[0].set_title(f"X-ray {xray.name}")
    axes[1].set_title("outlines at the poses")
    axes[2].set_title(" and ".join(bone.name for bone in bones))
    figure.suptitle(title)
    return figure


def shadow_of(bone: Bone, camera: Camera, pose: Float[Tensor, "4 4"]) -> Bool[Tensor, "H W"]:
    """Where a bone, its sawn ends included, lies in a picture, at a pose `volume_from_camera` (mm)."""
    mask = bone.kept.with_values(torch.maximum(bone.kept.values, bone.ends.values))
    return project_mask(mask, camera, pose[None])[0]


def outlined(bones: Sequence[Bone], xray: Xray, poses: Sequence[Float[Tensor, "4 4"]]) -> Image.Image:
    """The whole X-ray in grey, with the outline of each bone at its pose `volume_from_camera` (mm) in its colour."""
    picture = xray.image.numpy().clip(0, 1)[..., None].repeat(3, -1)
    for number, (bone, pose) in enumerate(zip(bones, poses, strict=True)):
        edge = find_boundaries(shadow_of(bone, xray.camera, pose).numpy() > 0, mode="inner")
        picture[edge] = to_rgb(PALETTE[number % len(PALETTE)])
    return Image.fromarray((255 * picture).round().astype("uint8"))


def write_bone_overlay(
    path: str | Path,
    bones: Sequence[Bone],
    xray: Xray,
    poses: Sequence[Float[Tensor, "4 4"]],
    title: str,
    notes: Sequence[str] = (),
) -> None:
    """Save `bone_overlay_figure`, with notes below it; the ending gives the format."""
    figure = bone_overlay_figure(bones, xray, poses, title)
    if notes:
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + NOTE_INCH * len(notes))
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=NOTE_POINTS)
    save_figure(figure, [path], DPI)
