"""The optimizer finds the pose; weights decide whether it may; starts are what they say."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from volumes import general_pose, phantom, phantom_specimen

from roireg.data.images import scaled
from roireg.data.pose_results import pose_of_row, read_traces
from roireg.data.volume import Volume
from roireg.drr import coverage, render
from roireg.errors import InputError
from roireg.geometry.poses import perturb
from roireg.metrics.pose_errors import registration_errors
from roireg.metrics.registry import SIMILARITIES
from roireg.metrics.similarity import similarity
from roireg.register.adam import register_adam
from roireg.register.charts import perturbation_chart
from roireg.register.initial import perturbed_start
from roireg.register.levels import Problem
from roireg.register.method import MethodSettings
from roireg.register.objective import image_objective
from roireg.register.run import Placement, batches, register_specimen, write_traces
from roireg.register.settings import AdamSettings, PerturbationSettings, WeightSettings
from roireg.register.weights import weight_map
from roireg.seeds import generator

ADAM = AdamSettings(120, 7.5e-3, 3.0, 25, 0.8)
ALL_PIXELS = WeightSettings(coverage=False, exclude=(), exclude_margin_mm=0.0)
DOUBLE = {"dtype": torch.float64}


def method(measure: str = "mncc", weights: WeightSettings = ALL_PIXELS, start_deg: float = 2.0) -> MethodSettings:
    return MethodSettings(
        name=f"test-{measure}",
        init="perturbed",
        similarity=measure,
        roi="none",
        optimizer="adam",
        weights="test",
        start=PerturbationSettings(start_deg, 6.0),
        pixels=weights,
        search=ADAM,
        regions=None,
        step_mm=None,
    )


@pytest.mark.parametrize("measure", [name for name in SIMILARITIES if name != "gradient_ncc"])
def test_adam_finds_the_pose_with_every_similarity(measure):
    for result in register_specimen(*phantom_specimen(1), method(measure), seed=0):
        assert result.row["init_mpd_mm"] > 4
        assert result.row["mpd_mm"] < 0.15 * result.row["init_mpd_mm"]


@pytest.mark.parametrize("measure", list(SIMILARITIES))
def test_the_objective_is_least_at_the_truth(measure):
    patient, xrays = phantom_specimen(1)
    xray = xrays[0]
    problem = Problem(xray.image, xray.camera, patient.volume, None, None)
    terms = image_objective([problem], similarity(measure), None)

    def objective(pose: torch.Tensor) -> float:
        return float(sum(terms(pose).values()))

    best = objective(xray.true_pose[None])
    assert best == pytest.approx(0, abs=0.02)
    for twist in torch.eye(6, **DOUBLE) * torch.tensor([0.05] * 3 + [10.0, 10.0, 10.0], **DOUBLE):
        assert objective(perturb(xray.true_pose, twist, patient.center_mm)[None]) > best + 1e-6


def test_the_returned_pose_is_the_iterate_of_least_objective():
    result = next(register_specimen(*phantom_specimen(), method(), seed=0))
    trace = result.trace
    assert trace.poses.shape == (ADAM.iterations + 1, 4, 4)
    assert result.row["objective"] == float(trace.objective.min())
    assert torch.equal(pose_of_row(result.row), trace.poses[trace.best])
    assert result.mpd_mm[trace.best] == pytest.approx(result.row["mpd_mm"])


def test_a_registration_is_reproducible_and_depends_on_the_seed():
    rows = [next(register_specimen(*phantom_specimen(1), method(), seed)).row for seed in (0, 0, 1)]
    for key in ("mpd_mm", "objective", "pose_03", "init_mpd_mm"):
        assert rows[0][key] == rows[1][key]
    for key in ("pose_03", "init_mpd_mm"):
        assert rows[0][key] != rows[2][key]


def test_starts_do_not_depend_on_other_xrays():
    alone = next(register_specimen(*phantom_specimen(1), method(), seed=0)).row
    among = next(register_specimen(*phantom_specimen(2), method(), seed=0)).row
    assert alone["init_mpd_mm"] == among["init_mpd_mm"]


def test_perturbed_starts_have_the_spread_asked_for():
    patient, xrays = phantom_specimen(1)
    settings = PerturbationSettings(3.0, 10.0)
    xray = xrays[0]
    errors = [
        registration_errors(
            perturbed_start(patient, xray, settings, generator(0, str(k))),
            xray.true_pose,
            xray.camera,
            patient.landmarks_mm,
            patient.center_mm,
        )
        for k in range(300)
    ]
    for key, sd in (("rotation_deg", 3.0), ("translation_mm", 10.0)):
        assert np.sqrt(np.mean([e[key] ** 2 for e in errors])) == pytest.approx(sd * np.sqrt(3), rel=0.08)


def test_a_truncated_ct_misleads_plain_mncc_and_not_the_weighted_one():
    whole = phantom(torch.float32)
    ends = whole.values.clone()
    cut = 14
    frame = whole.volume_from_voxel.clone()
    frame[:3, 3] += frame[:3, 2] * cut
    patient, xrays = phantom_specimen()
    short = Volume(ends[cut:-cut].contiguous() + 0.005, frame)
    longer_values = ends.clone() + 0.005
    longer = Volume(torch.nn.functional.pad(longer_values, (0, 0, 0, 0, 12, 12), value=0.02), _shifted(whole, 12))
    assert short.truncated_faces == ((2, 0), (2, 1))
    errors = {}
    for name, covered in (("plain", False), ("weighted", True)):
        longer_xrays = [replace(x, image=scaled(render(longer, x.camera, x.true_pose[None]))[0]) for x in xrays]
        cut_patient = replace(patient, volume=short, labels=patient.labels[cut:-cut])
        weights = WeightSettings(coverage=covered, exclude=(), exclude_margin_mm=0.0)
        results = register_specimen(cut_patient, longer_xrays, method(weights=weights, start_deg=1.0), seed=0)
        errors[name] = [result.row["mpd_mm"] for result in results]
    assert max(errors["weighted"]) < 1.0
    assert min(errors["plain"]) > 2 * max(errors["weighted"])


def _shifted(volume: Volume, slices: int) -> torch.Tensor:
    frame = volume.volume_from_voxel.clone()
    frame[:3, 3] -= frame[:3, 2] * slices
    return frame


def test_weights_multiply_and_unknown_labels_are_named():
    patient, xrays = phantom_specimen(1)
    xray = xrays[0]
    both = weight_map(patient, WeightSettings(True, ("dense",), 2.0))(xray.camera, xray.true_pose[None])
    covered = coverage(patient.volume, xray.camera, xray.true_pose[None])
    excluded = weight_map(patient, WeightSettings(False, ("DENSE",), 2.0))(xray.camera, xray.true_pose[None])
    assert torch.equal(both, covered * excluded)
    assert 0.05 < float(excluded.mean()) < 0.95
    assert weight_map(patient, ALL_PIXELS) is None
    with pytest.raises(InputError, match="femur"):
        weight_map(patient, WeightSettings(False, ("femur",), 2.0))


def test_a_wider_margin_leaves_out_more():
    patient, xrays = phantom_specimen(1)
    xray = xrays[0]
    kept = [
        float(weight_map(patient, WeightSettings(False, ("dense",), margin))(xray.camera, xray.true_pose[None]).mean())
        for margin in (0.0, 6.0, 12.0)
    ]
    assert kept[0] > kept[1] > kept[2]


def test_scaling_looks_at_counted_pixels_only():
    image = torch.tensor([[[1.0, 2.0, 3.0], [50.0, -70.0, 5.0]]], requires_grad=True)
    weight = torch.tensor([[[1.0, 1.0, 0.5], [0.0, 0.0, 1.0]]])
    out = scaled(image, weight)
    assert out[weight > 0].tolist() == [0.0, 0.25, 0.5, 1.0]
    out[weight > 0].sum().backward()
    assert torch.isfinite(image.grad).all()
    assert bool((image.grad[weight == 0] == 0).all())
    assert torch.isfinite(scaled(torch.ones(1, 2, 2), torch.zeros(1, 2, 2))).all()


def test_adam_minimises_a_plain_function_of_the_pose():
    target = general_pose(phantom(), 4)[0]
    center = target[:3, 3]

    def distance(pose: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "turn": ((pose[:, :3, :3] - target[:3, :3]) ** 2).sum((1, 2)) * 100,
            "shift": ((pose[:, :3, 3] - target[:3, 3]) ** 2).sum(1) / 100,
        }

    start = perturb(target, torch.tensor([0.05, -0.02, 0.04, 4.0, -3.0, 5.0], **DOUBLE), center)
    (trace,) = register_adam(distance, perturbation_chart(start[None], center), AdamSettings(300, 5e-3, 0.5, 25, 0.8))
    assert torch.equal(trace.poses[0], start)
    assert torch.allclose(trace.poses[trace.best], target, atol=0.05)
    torch.testing.assert_close(trace.terms["turn"] + trace.terms["shift"], trace.objective)


def test_adam_takes_the_steps_of_torchs():
    target = general_pose(phantom(), 4)[0]
    center = target[:3, 3]

    def distance(pose: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"all": ((pose - target) ** 2).sum((1, 2))}

    start = perturb(target, torch.tensor([0.3, -0.2, 0.1, 14.0, -9.0, 5.0], **DOUBLE), center)
    (trace,) = register_adam(distance, perturbation_chart(start[None], center), AdamSettings(60, 5e-3, 0.5, 7, 0.6))
    rotation, translation = (torch.zeros(1, 3, **DOUBLE, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.Adam([{"params": [rotation], "lr": 5e-3}, {"params": [translation], "lr": 0.5}])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.6)
    for pose in trace.poses:
        expected = perturb(start, torch.cat([rotation, translation], dim=-1), center)
        torch.testing.assert_close(pose, expected.detach()[0], rtol=0, atol=1e-9)
        optimizer.zero_grad()
        distance(expected)["all"].backward()
        optimizer.step()
        schedule.step()


def test_adam_stops_after_iterations_without_an_improvement():
    start = torch.eye(4, **DOUBLE)
    values = iter([3.0, 2.0, 1.5, 1.45, 1.41, 1.43, 1.42, float("nan"), 0.0])

    def objective(pose: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"all": pose.sum((1, 2)) * 0 + next(values)}

    settings = AdamSettings(100, 1e-3, 1e-3, 25, 0.8, patience=5, min_improvement=0.2)
    (trace,) = register_adam(objective, perturbation_chart(start[None], start[:3, 3]), settings)
    assert trace.objective.tolist()[:-1] == [3.0, 2.0, 1.5, 1.45, 1.41, 1.43, 1.42]
    assert len(trace.poses) == 8
    # Smaller improvements do not postpone the end, but the best is still the result.
    assert trace.best == 4


def test_adam_counts_slow_progress_as_progress():
    start = torch.eye(4, **DOUBLE)
    values = iter(np.linspace(3.0, 2.0, 51))

    def objective(pose: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"all": pose.sum((1, 2)) * 0 + next(values)}

    settings = AdamSettings(50, 1e-3, 1e-3, 25, 0.8, patience=10, min_improvement=0.05)
    (trace,) = register_adam(objective, perturbation_chart(start[None], start[:3, 3]), settings)
    assert len(trace.poses) == 51


def test_traces_are_read_back(tmp_path):
    results = list(register_specimen(*phantom_specimen(), method(), seed=0))
    write_traces(tmp_path / "traces.h5", results)
    records = read_traces(tmp_path / "traces.h5")
    assert list(records) == ["000", "001"]
    for result, record in zip(results, records.values(), strict=True):
        assert record.method == "test-mncc"
        assert torch.equal(record.poses, result.trace.poses)
        assert record.best == result.trace.best
        assert np.array_equal(record.mpd_mm, result.mpd_mm)


def test_adam_runs_xrays_of_a_batch_as_if_each_were_alone_and_ends_each_in_its_time():
    targets = general_pose(phantom(), 4).repeat(2, 1, 1)
    center = targets[0, :3, 3]
    steepness = torch.tensor([1.0, 0.02], **DOUBLE)

    def distances(of: slice):
        return lambda pose: {"all": steepness[of] * ((pose - targets[of]) ** 2).sum((1, 2))}

    twists = torch.tensor([[0.1, -0.2, 0.1, 4.0, -9.0, 5.0], [0.05, 0.1, 0.0, -3.0, 2.0, 1.0]], **DOUBLE)
    starts = perturb(targets, twists, center)
    settings = AdamSettings(200, 5e-3, 0.5, 25, 0.8, patience=8, min_improvement=0.05)
    together = register_adam(distances(slice(None)), perturbation_chart(starts, center), settings)
    assert len(together[0].poses) != len(together[1].poses)
    for xray, trace in enumerate(together):
        (alone,) = register_adam(
            distances(slice(xray, xray + 1)), perturbation_chart(starts[xray : xray + 1], center), settings
        )
        torch.testing.assert_close(trace.poses, alone.poses)
        torch.testing.assert_close(trace.objective, alone.objective)
        torch.testing.assert_close(trace.terms["all"], alone.terms["all"])
        assert trace.best == alone.best


def test_xrays_go_together_by_camera():
    _, xrays = phantom_specimen(3)
    other = xrays[1].camera.cropped(0)
    other.intrinsics_px[0, 2] += 5
    xrays = (xrays[0], replace(xrays[1], camera=other), xrays[2])
    assert [[xray.name for xray in group] for group in batches(xrays, 2)] == [["000", "002"], ["001"]]
    assert [len(group) for group in batches(xrays, 1)] == [1, 1, 1]


@pytest.mark.parametrize("weights", [ALL_PIXELS, WeightSettings(True, ("dense",), 2.0)], ids=["all", "weighted"])
def test_xrays_together_have_the_objective_and_the_gradient_of_each_alone(weights):
    patient, xrays = phantom_specimen(3)
    counts = weight_map(patient, weights)
    problems = [Problem(xray.image, xray.camera, patient.volume, counts, None) for xray in xrays]
    twists = torch.tensor([[0.03, -0.02, 0.04, 4.0, -5.0, 6.0]], **DOUBLE) * torch.tensor(
        [[1.0], [-1.0], [0.5]], **DOUBLE
    )

    def value_and_gradient(chosen: slice) -> tuple[torch.Tensor, torch.Tensor]:
        twist = twists[chosen].clone().requires_grad_()
        poses = torch.stack([xray.true_pose for xray in xrays])[chosen]
        terms = image_objective(problems[chosen], similarity("mncc"), None)
        value = sum(terms(perturb(poses, twist, patient.center_mm)).values())
        return value.detach(), torch.autograd.grad(value.sum(), twist)[0]

    values, gradients = value_and_gradient(slice(None))
    for xray in range(3):
        value, gradient = value_and_gradient(slice(xray, xray + 1))
        torch.testing.assert_close(values[xray : xray + 1], value, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            gradients[xray : xray + 1], gradient, rtol=1e-3, atol=1e-4 * float(gradient[0, 3:].abs().max())
        )


@pytest.mark.parametrize("weights", [ALL_PIXELS, WeightSettings(True, ("dense",), 2.0)], ids=["all", "weighted"])
def test_xrays_registered_together_end_where_each_ends_alone(weights):
    patient, xrays = phantom_specimen(3)
    alone = register_specimen(patient, xrays, method(weights=weights), seed=0)
    together = register_specimen(patient, xrays, method(weights=weights), 0, Placement(torch.device("cpu"), 2))
    for one, other in zip(alone, together, strict=True):
        for column in ("projection", "init_mpd_mm", "iterations"):
            assert other.row[column] == one.row[column]
        torch.testing.assert_close(other.trace.objective, one.trace.objective, rtol=0, atol=1e-5)
        assert torch.equal(pose_of_row(other.row), other.trace.poses[other.trace.best])
        # Adam steps as far for a gradient near nought: rounding, which differs between machines, moves iterates so far.
        for part, most in ((slice(3), 5e-4), (slice(3, 4), 0.05)):
            torch.testing.assert_close(other.trace.poses[..., part], one.trace.poses[..., part], rtol=0, atol=most)


def test_the_renderer_of_the_gpu_registers_a_batch_as_well(monkeypatch):
    # Its own PyTorch code, which is what runs where there is no CUDA.
    monkeypatch.setattr(importlib.import_module("roireg.drr.render"), "default_backend", lambda device: "nanodrr")
    together = list(register_specimen(*phantom_specimen(2), method(), 0, Placement(torch.device("cpu"), 2)))
    for result in together:
        assert result.row["init_mpd_mm"] > 4
        assert result.row["mpd_mm"] < 0.15 * result.row["init_mpd_mm"]
