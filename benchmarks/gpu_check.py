"""Checks and times what runs on a GPU, in ten minutes (`make gpu-check`), and writes a JSON file for an issue.

It needs no data: patients are phantoms, networks untrained. Results are compared with the CPU's, with the tolerances
of tests/gpu. The exit status is 1 if one of them differs, 2 if there is no GPU that can be used.
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.volume import attenuation_settings
from roireg.data.xray import Xray
from roireg.drr import fused, sampled
from roireg.drr.nanodrr import as_subject, sample_count
from roireg.drr.render import default_step_mm
from roireg.errors import InputError
from roireg.estimate.phantom import phantom
from roireg.estimate.steps import encoder_step, segmenter_step
from roireg.estimate.work import Measuring, uncounted
from roireg.geometry.conversions import to_nanodrr_intrinsics
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert, transform_points
from roireg.register.method import method_from_config
from roireg.register.run import Placement, register_specimen
from roireg.segment.model import Segmenter
from roireg.training.drrs import settings_from_config
from roireg.workflow.config import default_config
from roireg.workflow.device import check_compiler
from roireg.workflow.plan import encoder_settings, method_settings, segmenter_settings

KEY = "make gpu-check"
OUTPUT = Path("results/gpu-check.json")
ROIS = ["left hemipelvis", "right hemipelvis", "left femur", "right femur"]
CPU = torch.device("cpu")
BYTES_PER_MIB = 2**20
# Those of tests/gpu: landmarks in the camera's frame; images and translations, and rotations, relative to the largest.
TOLERANCE_MM, TOLERANCE, ROTATION_TOLERANCE = 0.01, 1e-5, 1e-4
# Samples on the border of two voxels may be rounded to either.
SILHOUETTE_TOLERANCE = 1e-3
# So many steps that libraries have chosen their kernels before the last, which is timed.
STEPS = Measuring(4, uncounted)


@dataclass(frozen=True)
class Sizes:
    """What is checked and timed: sides of images and CT, networks, and batches. The default is the paper's run."""

    image_px: int = 256
    voxels: int = 360
    unet_widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    medsam: str = "vit_b"
    resnet: tuple[tuple[int, ...], tuple[int, ...]] = ((2, 2, 2, 2), (64, 128, 256, 512))
    encoder_batch: int = 8
    segmenter_batch: int = 2
    adam_iterations: int = 20
    renderings: int = 20


@dataclass(frozen=True)
class Check:
    """A difference from the CPU, or between two kernels, and the largest that is right."""

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """False also if the value is NaN."""
        return self.value <= self.limit


@dataclass(frozen=True)
class Timing:
    """Seconds of a step, and the peak of the GPU's memory (MiB)."""

    name: str
    seconds: float
    peak_mib: float


def gpu() -> torch.device:
    """The GPU.

    Raises:
        InputError: there is none, or Triton cannot compile.
    """
    if not torch.cuda.is_available():
        remedy = "Run it on a machine where `nvidia-smi` lists a GPU, with a driver for this torch (docs/cluster.md)"
        raise InputError(KEY, f"torch {torch.__version__} finds no CUDA GPU on this machine", remedy)
    check_compiler(KEY)
    return torch.device("cuda")


def timed(name: str, run: Callable[[], object], repeats: int, device: torch.device) -> Timing:
    """Mean time of a call, after one that compiles."""
    run()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - began) / repeats
    return Timing(name, seconds, torch.cuda.max_memory_allocated(device) / BYTES_PER_MIB)


def poses_near(xray: Xray, patient: Patient, count: int) -> Tensor:
    """Poses around that of the X-ray, `(B, 4, 4)`."""
    spread = torch.tensor([0.05, 0.05, 0.05, 8.0, 8.0, 8.0], dtype=torch.float64)
    twists = torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * spread
    return perturb(xray.known_pose, twists, patient.center_mm)


def nanodrr_image(patient: Patient, xray: Xray, poses: Tensor, backend: str) -> Tensor:
    """A rendering by one of nanodrr's kernels, `(B, H, W)`, on the device of the poses."""
    from nanodrr.drr import render

    volume, view, real = patient.volume.to(poses.device), xray.camera, torch.float32
    depth, rows, columns = volume.values.shape
    return render(
        as_subject(volume),
        to_nanodrr_intrinsics(view)[None].to(poses.device, real).expand(len(poses), -1, -1),
        poses.to(real),
        torch.full((len(poses),), view.source_to_detector_mm, dtype=real, device=poses.device),
        view.height,
        view.width,
        n_samples=sample_count((depth, rows, columns), patient.volume.spacing_mm, default_step_mm(patient.volume)),
        backend=backend,
    )[:, 0]


def kernels(patient: Patient, xray: Xray, device: torch.device, sizes: Sizes) -> tuple[list[Check], list[Timing]]:
    """nanodrr's Triton kernel against its PyTorch one: images, gradients to the pose, and speed."""
    poses = poses_near(xray, patient, 2).to(device)
    center_mm = patient.center_mm.to(device)
    weights = torch.linspace(0.2, 1.7, sizes.image_px**2, device=device).reshape(sizes.image_px, -1)
    images, gradients = {}, {}
    for backend in ("torch", "triton"):
        twist = torch.zeros(len(poses), 6, dtype=torch.float64, device=device, requires_grad=True)
        image = nanodrr_image(patient, xray, perturb(poses, twist, center_mm), backend)
        (gradients[backend],) = torch.autograd.grad((image * weights).sum(), twist)
        images[backend] = image.detach()
    checks = [
        Check(
            "Triton's image against PyTorch's, relative",
            float((images["triton"] - images["torch"]).abs().max() / images["torch"].max()),
            TOLERANCE,
        )
    ]
    for name, part, tolerance in (
        ("rotation", slice(0, 3), ROTATION_TOLERANCE),
        ("translation", slice(3, 6), TOLERANCE),
    ):
        difference, right = (gradients["triton"] - gradients["torch"])[:, part], gradients["torch"][:, part]
        checks.append(
            Check(f"Triton's gradient to {name} against PyTorch's", float(difference.norm() / right.norm()), tolerance)
        )
    timings = [
        timed(
            f"a rendering of 2 images, {backend}",
            lambda backend=backend: nanodrr_image(patient, xray, poses, backend),
            sizes.renderings,
            device,
        )
        for backend in ("torch", "triton")
    ]
    return checks, timings


def renderers(patient: Patient, xray: Xray, device: torch.device, sizes: Sizes) -> tuple[list[Check], list[Timing]]:
    """The renderers of Gauss-Newton and of silhouettes against the CPU's."""
    poses, volume, view = poses_near(xray, patient, 2), patient.volume, xray.camera
    step_mm = default_step_mm(volume)

    def rendered(on: torch.device) -> tuple[Tensor, Tensor]:
        return sampled.render_with_jacobian(volume.to(on), view, poses, patient.center_mm, step_mm)

    pairs = [(one.cpu(), other) for one, other in zip(rendered(device), rendered(CPU), strict=True)]
    image, jacobian = (float((one - other).norm() / other.norm()) for one, other in pairs)
    mask = volume.with_values((patient.labels > 0).float())
    hits = sampled.project_mask(mask, view, poses.to(device), step_mm).cpu()
    other = float((hits != fused.project_mask(mask, view, poses, step_mm)).float().mean())
    checks = [
        Check("image of Gauss-Newton's renderer against the CPU's, relative", image, TOLERANCE),
        Check("its Jacobian against the CPU's, relative", jacobian, ROTATION_TOLERANCE),
        Check("pixels of silhouettes that differ from the CPU's", other, SILHOUETTE_TOLERANCE),
    ]
    return checks, [timed("2 images with Jacobian", lambda: rendered(device), sizes.renderings, device)]


def registrations(patient: Patient, xray: Xray, device: torch.device, sizes: Sizes) -> tuple[list[Check], list[Timing]]:
    """Gauss-Newton and Adam on the GPU against the CPU: where landmarks are found, and seconds for an X-ray."""
    config = default_config()
    checks, timings = [], []
    for optimizer, name in (("gauss_newton", "perturbed+gn"), ("adam", "perturbed")):
        method = method_from_config(optimizer, **method_settings(config, name), rois=ROIS, step_mm=None)
        if optimizer == "adam":
            method = replace(method, search=replace(method.search, patience=None, iterations=sizes.adam_iterations))

        def registered(where: torch.device, method: Any = method) -> Any:
            return next(iter(register_specimen(patient, [xray], method, 0, Placement(where, 1))))

        torch.cuda.reset_peak_memory_stats(device)
        row = registered(device)
        peak_mib = torch.cuda.max_memory_allocated(device) / BYTES_PER_MIB
        timings.append(Timing(f"{optimizer}, an X-ray", float(row.row["seconds"]), peak_mib))
        if optimizer == "gauss_newton":
            other = registered(CPU)
            timings.append(Timing(f"{optimizer}, an X-ray, on the CPU", float(other.row["seconds"]), 0.0))
            points = [transform_points(invert(one.trace.poses[-1]), patient.landmarks_mm) for one in (row, other)]
            distance_mm = float((points[0] - points[1]).norm(dim=-1).max())
            checks.append(Check("landmarks found by Gauss-Newton against the CPU, mm", distance_mm, TOLERANCE_MM))
    return checks, timings


def trainings(patient: Patient, xray: Xray, device: torch.device, sizes: Sizes) -> list[Timing]:
    """Seconds of a batch of each network's training."""
    config, timings = default_config(), []
    network: dict[str, Any] = {"image_size_px": sizes.image_px, "widths": list(sizes.unet_widths)}
    entries = {
        "unet": {**network, "batch_size": sizes.segmenter_batch},
        "medsam": {"variant": sizes.medsam, "batch_size": sizes.segmenter_batch},
    }
    steps = {}
    for name, entry in entries.items():
        settings = segmenter_settings(config, name)
        settings["segmenter"] = {**settings["segmenter"], **entry}
        torch.cuda.reset_peak_memory_stats(device)
        steps[name] = segmenter_step(settings, ROIS, xray, device, STEPS)
        peak_mib = torch.cuda.max_memory_allocated(device) / BYTES_PER_MIB
        timings.append(Timing(f"{name}, a batch of {sizes.segmenter_batch}", steps[name].seconds, peak_mib))
    layers, widths = sizes.resnet
    settings = encoder_settings(config, "ours")
    resnet = {"type": "resnet", "image_size_px": sizes.image_px, "layers": list(layers), "widths": list(widths)}
    loss = {**settings["encoder"]["loss"], "image_size_px": sizes.image_px, "rendered_per_batch": sizes.encoder_batch}
    settings["encoder"] = {
        **settings["encoder"],
        "network": {**settings["encoder"]["network"], **resnet},
        "batch_size": sizes.encoder_batch,
        "loss": loss,
    }
    synthesis = settings_from_config(config["synthesize"], attenuation_settings(config["prepare"]))
    guide = Segmenter(tuple(ROIS), steps["unet"].network.eval().requires_grad_(False))
    torch.cuda.reset_peak_memory_stats(device)
    step = encoder_step(settings, replace(synthesis, min_roi_fraction=0.0), ROIS, patient, xray, guide, device, STEPS)
    peak_mib = torch.cuda.max_memory_allocated(device) / BYTES_PER_MIB
    return [*timings, Timing(f"encoder, a batch of {sizes.encoder_batch}", step.seconds, peak_mib)]


def checked(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """All checks and timings, and what they were made with."""
    patient, xray = phantom(ROIS, sizes.image_px, sizes.voxels)
    checks: list[Check] = []
    timings: list[Timing] = []
    for part in (kernels, renderers, registrations):
        found, took = part(patient, xray, device, sizes)
        checks += found
        timings += took
    timings += trainings(patient, xray, device, sizes)
    return {
        "gpu": torch.cuda.get_device_name(device),
        "compute_capability": list(torch.cuda.get_device_capability(device)),
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("roireg", "torch", "nanodrr", "monai")},
        "sizes": asdict(sizes),
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
        "timings": [asdict(timing) for timing in timings],
    }


def summary(found: dict[str, Any]) -> str:
    """The results for a reader."""
    lines = [f"{found['gpu']}, torch {found['versions']['torch']}", ""]
    for check in found["checks"]:
        verdict = "ok  " if check["passed"] else "FAIL"
        lines.append(f"{verdict} {check['name']}: {check['value']:.2g} (at most {check['limit']:g})")
    lines += ["", f"{'seconds':>10} {'peak MiB':>10}"]
    lines += [f"{one['seconds']:10.4f} {one['peak_mib']:10.0f}  {one['name']}" for one in found["timings"]]
    return "\n".join(lines)


def main(sizes: Sizes, output: Path) -> int:
    """Check, print and write; the exit status."""
    try:
        device = gpu()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = checked(device, sizes)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{summary(found)}\n\nwritten to {output}")
    return 0 if all(check["passed"] for check in found["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main(Sizes(), OUTPUT))
