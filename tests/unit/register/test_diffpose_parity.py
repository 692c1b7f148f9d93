"""DiffPose's recipe, with the installed DiffDRR (benchmarks/diffpose.py), against ours under the paper's settings.

`make parity` is the whole comparison, on X-rays of the demo.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from builders import phantom_ct, small_specimen
from diffpose import diffdrr_module, diffdrr_render, register

from roireg.data.estimate import Estimate
from roireg.data.patient import Patient
from roireg.data.volume import Volume, attenuation_settings
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.metrics.pose_errors import projection_distances_mm
from roireg.register.initial import perturbed_start
from roireg.register.method import MethodSettings
from roireg.register.registry import OPTIMIZERS, settings_of
from roireg.register.run import register_specimen
from roireg.register.settings import EncoderStartSettings, PerturbationSettings, WeightSettings
from roireg.seeds import generator

REPOSITORY = Path(__file__).resolve().parents[3]
DEFAULT, PAPER = (yaml.safe_load((REPOSITORY / name).read_text()) for name in ("config.yaml", "config/deepfluoro.yaml"))
ITERATIONS = 60
UPRIGHT = torch.eye(3, dtype=torch.float64).numpy()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Images are small; threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Volume, Patient, Xray, torch.Tensor]:
    """The CT in HU, the patient with the paper's attenuation, an X-ray, and a start."""
    patient, xrays = small_specimen(tmp_path_factory.mktemp("parity"), image_size_px=48, direction=UPRIGHT)
    hu = torch.from_numpy(phantom_ct("P01", direction=UPRIGHT).hu)
    # The phantom is of air, water and bone; DiffDRR gives no density to the least value above air: that of a CT.
    hu[0, 0, 0] = -799
    attenuation = attenuation_settings({**DEFAULT["prepare"], **PAPER["prepare"]})
    volume = patient.volume.with_values(attenuation.of(hu))
    rng = generator(0, "parity", "start")
    spread = PerturbationSettings(rotation_sd_deg=3.0, translation_sd_mm=10.0)
    start = perturbed_start(patient, xrays[0], spread, rng)
    return Volume(hu, volume.volume_from_voxel), replace(patient, volume=volume), xrays[0], start


def of_ours(patient: Patient, xray: Xray, start: torch.Tensor, iterations: int, **changes) -> torch.Tensor:
    entry = {**DEFAULT["optimizers"]["adam"], **PAPER["optimizers"]["adam"], "iterations": iterations, **changes}
    method = MethodSettings(
        name="parity",
        init="given",
        similarity=DEFAULT["methods"]["diffpose"]["similarity"],
        roi="none",
        optimizer="adam",
        weights="none",
        start=EncoderStartSettings(encoder="given"),
        search=settings_of(entry, OPTIMIZERS),
        regions=None,
        pixels=WeightSettings(coverage=False, exclude=(), exclude_margin_mm=0.0),
        step_mm=None,
        estimates={xray.name: Estimate(start, 0.0)},
    )
    (result,) = register_specimen(patient, [xray], method, 0)
    return result.trace.poses


def apart_mm(patient: Patient, xray: Xray, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return projection_distances_mm(a, b, xray.camera, patient.landmarks_mm)


def test_with_one_renderer_diffposes_recipe_and_ours_go_the_same_way(case):
    hu, patient, xray, start = case
    density = patient.volume.with_values(100 * patient.volume.values)
    theirs = register(hu, xray, start, 12, lambda pose: render(density, xray.camera, pose)[:, None])
    ours = of_ours(patient, xray, start, 12)
    torch.testing.assert_close(ours[0], start)
    travelled = apart_mm(patient, xray, ours[-1], start)
    assert travelled > 5
    assert apart_mm(patient, xray, theirs.poses, ours).max() < 0.1
    # The settings matter: about the isocentre, and with the default epsilon, other poses are passed through.
    for changes in ({"parameters": "perturbation"}, {"ncc_epsilon": 1e-3}):
        assert apart_mm(patient, xray, theirs.poses, of_ours(patient, xray, start, 12, **changes)).max() > 0.5


@pytest.mark.slow
def test_with_diffdrrs_density_and_renderer_the_end_is_the_same_place(case):
    hu, patient, xray, start = case
    module = diffdrr_module(hu, xray, "trilinear")
    theirs = register(hu, xray, start, ITERATIONS, diffdrr_render(module, xray, n_points=200))
    ours = of_ours(patient, xray, start, ITERATIONS)
    assert apart_mm(patient, xray, ours[-1], start) > 5
    # The renderers sample rays at other points; all else is the same.
    assert apart_mm(patient, xray, theirs.poses[-1], ours[-1]) < 0.3
