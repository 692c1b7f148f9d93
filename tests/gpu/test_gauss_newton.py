"""Gauss-Newton on the emulated GPU: the poses of the CPU's renderer, from another one that takes the same samples."""

from dataclasses import replace

import pytest
import torch
from emulated_gpu import Gpu, emulated_gpu
from registrations import WEIGHTS, registered, two_bones

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.volume import Volume
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.geometry.se3 import invert, transform_points
from roireg.register.method import MethodSettings
from roireg.register.settings import GaussNewtonSettings, PerturbationSettings

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TOLERANCE_MM = 0.01
IMAGE_BYTES = 40 * 40 * 4
SHORT, LONG = 2, 6


def gauss_newton(weights: str, **search: object) -> MethodSettings:
    """Gauss-Newton on two levels, from a perturbed truth."""
    levels = {"levels_px": (20, 40), "local_sigma_px": (8.0, 5.0), "robust": "tukey"}
    return MethodSettings(
        name=f"gn, {weights}",
        init="perturbed",
        similarity="builtin",
        roi="none",
        optimizer="gn",
        weights=weights,
        start=PerturbationSettings(rotation_sd_deg=2.0, translation_sd_mm=4.0),
        search=GaussNewtonSettings(**{**levels, **search}),
        regions=None,
        pixels=WEIGHTS[weights],
        step_mm=None,
    )


def smooth() -> tuple[Patient, tuple[Xray, ...]]:
    """The phantom, and an X-ray that is its DRR."""
    return two_bones(1)


def sharp_and_cut() -> tuple[Patient, tuple[Xray, ...]]:
    """The phantom of two constant densities, cut by its grid on all sides, and a noisy X-ray of it."""
    patient, xrays = two_bones(1)
    cut = (slice(6, -6), slice(5, -5), slice(8, -8))
    values = 0.03 * (patient.volume.values > 0.02) + 0.05 * (patient.volume.values > 0.04)
    frame = patient.volume.volume_from_voxel.clone()
    frame[:3, 3] += frame[:3, :3] @ torch.tensor([8.0, 5.0, 6.0], dtype=torch.float64)
    volume = Volume(values[cut].float().contiguous(), frame)
    generator = torch.Generator().manual_seed(0)
    noisy = []
    for xray in xrays:
        image = scaled(render(volume, xray.camera, xray.known_pose[None]))[0]
        noisy.append(replace(xray, image=image + 0.05 * torch.rand(image.shape, generator=generator)))
    return replace(patient, volume=volume, labels=patient.labels[cut].contiguous()), tuple(noisy)


@pytest.mark.parametrize(
    ("subject", "weights"),
    [
        (smooth, "none"),
        (smooth, "coverage and exclusion"),
        (sharp_and_cut, "none"),
        (sharp_and_cut, "coverage and exclusion"),
    ],
)
def test_landmarks_are_found_where_the_cpu_finds_them(subject, weights: str):
    patient, xrays = subject()
    how = gauss_newton(weights)
    expected = registered(patient, xrays, how, CPU)
    with emulated_gpu() as gpu:
        found = registered(patient, xrays, how, GPU)
    for one, other in zip(expected, found, strict=True):
        assert len(one.trace.poses) == len(other.trace.poses)
        in_camera = [
            transform_points(invert(trace.poses[-1]), patient.landmarks_mm) for trace in (one.trace, other.trace)
        ]
        # In all three directions, depth among them.
        assert float((in_camera[0] - in_camera[1]).norm(dim=-1).max()) < TOLERANCE_MM
        assert one.mpd_mm[-1] < 0.2 < one.mpd_mm[0]
    assert not (gpu.missing and torch.backends.cuda.is_built())


def test_an_iteration_waits_for_the_gpu_once_and_copies_no_image():
    def run(iterations: int) -> Gpu:
        # A patient of its own, with nothing on the GPU yet.
        patient, xrays = two_bones(1)
        # One level, and tolerances that no step meets.
        level = {"levels_px": (40,), "local_sigma_px": (5.0,), "iterations": iterations}
        how = gauss_newton(
            "coverage and exclusion", **level, tolerance_rotation_rad=1e-12, tolerance_translation_mm=1e-12
        )
        with emulated_gpu() as gpu:
            (row,) = registered(patient, xrays, how, GPU)
        assert len(row.trace.poses) == iterations + 1
        return gpu

    short, long = run(SHORT), run(LONG)
    reads = [gpu.total("sync") + gpu.total("d2h") for gpu in (short, long)]
    copied = [sum(gpu.bytes["h2d"].values()) for gpu in (short, long)]
    assert reads[1] - reads[0] == LONG - SHORT
    assert copied[1] - copied[0] < (LONG - SHORT) * IMAGE_BYTES
