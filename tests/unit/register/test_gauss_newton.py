"""Gauss-Newton: its derivatives, its descent, what weights hide from it, and that it finds poses."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from volumes import camera, general_pose, phantom, phantom_specimen, relative_error

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.drr import render, render_with_jacobian
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert
from roireg.metrics.pose_errors import registration_errors
from roireg.register.gauss_newton import REWEIGHTINGS, descend, register_gauss_newton, view_weights
from roireg.register.levels import Level, Problem, level
from roireg.register.quadratic import (
    drr_and_jacobian,
    normalised,
    objective,
    pixels_at,
    quadratic,
    without_outliers,
)
from roireg.register.settings import GaussNewtonSettings
from roireg.register.trace import Trace

DOUBLE = {"dtype": torch.float64}
SETTINGS = GaussNewtonSettings(
    levels_px=(20, 40),
    local_sigma_px=(8.0, 5.0),
    iterations=20,
    tolerance_rotation_rad=5e-4,
    tolerance_translation_mm=0.1,
    robust="tukey",
)
START = torch.tensor([0.04, -0.05, 0.03, 8.0, -6.0, 10.0], **DOUBLE)
TOLERANCE = torch.tensor([1e-4] * 3 + [0.02] * 3, **DOUBLE)
STEPS = torch.diag(torch.tensor([1e-6] * 3 + [1e-4] * 3, **DOUBLE))


def problem(patient: Patient, xrays: Sequence[Xray], **changes) -> Problem:
    """The first X-ray of a patient, all pixels alike."""
    xray = xrays[0]
    return Problem(**{"xray": xray.image, "camera": xray.camera, "volume": patient.volume, "weights": None} | changes)


def exact_level(weights=None) -> tuple[Level, torch.Tensor, torch.Tensor]:
    """A level in float64, a pose near that of its X-ray, the centre of rotation."""
    volume = phantom()
    pose = general_pose(volume)
    xray = render(volume, camera(24), pose, 1.0)[0]
    xray = xray + 0.1 * torch.rand(24, 24, generator=torch.Generator().manual_seed(0), **DOUBLE)
    twist = torch.tensor([0.02, -0.01, 0.015, 3.0, -2.0, 4.0], **DOUBLE)
    at = perturb(pose, twist, volume.center_mm)
    return level(Problem(xray, camera(24), volume, weights, 1.0), 24, 4.0), at, volume.center_mm


def half_weights(view, poses: torch.Tensor) -> torch.Tensor:
    """Weights of many values, a corner hidden."""
    weight = 0.2 + torch.rand(view.height, view.width, generator=torch.Generator().manual_seed(1), **DOUBLE)
    weight[: view.height // 2, : view.width // 3] = 0
    return weight.expand(len(poses), -1, -1)


def mpd_mm(patient: Patient, xrays: Sequence[Xray], pose: torch.Tensor) -> float:
    xray = xrays[0]
    return registration_errors(pose, xray.true_pose, xray.camera, patient.landmarks_mm, patient.center_mm)["mpd_mm"]


def registered(patient: Patient, xrays: Sequence[Xray], settings: GaussNewtonSettings = SETTINGS, **changes) -> Trace:
    """From the truth perturbed by `START`."""
    start = perturb(xrays[0].true_pose, START, patient.center_mm)
    return register_gauss_newton([problem(patient, xrays, step_mm=None, **changes)], start, patient.center_mm, settings)


@pytest.mark.parametrize("weights", [None, half_weights])
def test_the_derivative_goes_through_both_normalisations(weights):
    lev, pose, center = exact_level(weights)
    pixels = pixels_at(lev, pose)
    rendered = drr_and_jacobian(lev, pose, center)

    def normal(images: torch.Tensor) -> torch.Tensor:
        return normalised(images, pixels.weight, pixels.fraction, pixels.mass, lev)[0]

    for column, raw, step in zip(normal(rendered)[1:], rendered[0, 1:], STEPS.diagonal(), strict=True):
        difference = (normal(rendered[:, :1] + step * raw) - normal(rendered[:, :1] - step * raw))[0] / (2 * step)
        assert relative_error(column, difference) < 1e-6


def test_the_gradient_is_that_of_the_objective_and_the_curvature_close_to_it():
    lev, pose, center = exact_level(half_weights)
    lev = replace(lev, step_mm=0.25)
    pixels = pixels_at(lev, pose)

    def value(twist: torch.Tensor) -> torch.Tensor:
        return quadratic(lev, pixels, drr_and_jacobian(lev, perturb(pose, twist, center), center)).objective[0]

    model = quadratic(lev, pixels, drr_and_jacobian(lev, pose, center))
    assert float(model.objective) == pytest.approx(float(objective(lev, pose)))
    differences = torch.stack([(value(s) - value(-s)) / (2 * s.sum()) for s in STEPS])
    assert relative_error(model.gradient[0, :3], differences[:3]) < 0.02
    assert relative_error(model.gradient[0, 3:], differences[3:]) < 0.02


def test_without_the_part_along_the_ray_the_derivative_is_nearer_to_that_of_the_integral():
    lev, pose, center = exact_level()
    fine = drr_and_jacobian(replace(lev, step_mm=0.1), pose, center)
    coarse = replace(lev, step_mm=4.0)
    raw = render_with_jacobian(coarse.volume, coarse.camera, pose, center, 4.0)[1].permute(0, 3, 1, 2)
    depth = pose[0, :3, 2]

    def along(rendered: torch.Tensor) -> torch.Tensor:
        return torch.einsum("c,bchw->bhw", depth, rendered[:, -3:])

    corrected = relative_error(along(drr_and_jacobian(coarse, pose, center)), along(fine))
    assert corrected < 0.5 * relative_error(along(raw), along(fine))


def test_brightness_and_contrast_of_the_xray_change_nothing():
    lev, pose, center = exact_level(half_weights)
    other = replace(lev, fixed=7.0 * lev.fixed - 3.0)
    models = [quadratic(x, pixels_at(x, pose), drr_and_jacobian(x, pose, center)) for x in (lev, other)]
    for name in ("objective", "gradient", "hessian"):
        assert torch.allclose(getattr(models[0], name), getattr(models[1], name), rtol=1e-6, atol=1e-12)


def test_what_a_weight_of_zero_hides_has_no_influence():
    lev, pose, center = exact_level(half_weights)
    hidden = half_weights(lev.camera, pose)[0] == 0
    other = replace(lev, fixed=lev.fixed.masked_fill(hidden, torch.nan))
    models = [quadratic(x, pixels_at(x, pose), drr_and_jacobian(x, pose, center)) for x in (lev, other)]
    for name in ("objective", "gradient", "hessian"):
        assert torch.equal(getattr(models[0], name), getattr(models[1], name))
    seen = replace(lev, fixed=lev.fixed.masked_fill(~hidden & (lev.fixed > lev.fixed.mean()), 0.0))
    assert not torch.equal(pixels_at(seen, pose).fixed, pixels_at(lev, pose).fixed)


def test_losing_coverage_is_never_rewarded():
    lev, pose, _ = exact_level()
    values = []
    for rows in (24, 12, 6, 2, 0):
        mask = torch.zeros(24, 24, **DOUBLE)
        mask[:rows] = 1
        covered = replace(lev, fixed=render(lev.volume, lev.camera, pose, lev.step_mm)[0])
        covered = replace(covered, weights=lambda view, poses, mask=mask: mask.expand(len(poses), -1, -1))
        values.append(float(objective(covered, pose)))
    # The images are equal, so that only the coverage penalty is left.
    assert values[:2] == pytest.approx([0, 0], abs=1e-9)
    assert 0.1 < values[2] < values[3] < values[4]
    assert values[4] >= 1


def test_the_objective_never_rises_while_the_pixels_stay():
    patient, xrays = phantom_specimen(1)
    start = perturb(xrays[0].true_pose, START, patient.center_mm)
    path = descend(
        [level(problem(patient, xrays, step_mm=None), 40, 5.0)],
        torch.stack([start, xrays[0].true_pose]),
        patient.center_mm,
        20,
        TOLERANCE,
        REWEIGHTINGS["none"],
    )
    assert (path.objective.diff(dim=0) <= 1e-9).all()
    assert path.objective[-1, 0] < 0.01 * path.objective[0, 0]
    assert torch.allclose(path.poses[0, 0], start)


@pytest.mark.parametrize("robust", list(REWEIGHTINGS))
def test_it_finds_the_pose(robust):
    patient, xrays = phantom_specimen(1)
    trace = registered(patient, xrays, replace(SETTINGS, robust=robust))
    assert mpd_mm(patient, xrays, trace.poses[0]) > 10
    assert mpd_mm(patient, xrays, trace.poses[trace.best]) < 0.1
    assert len(trace.poses) == len(trace.objective) < 45
    assert trace.best == len(trace.poses) - 1


def test_descents_of_a_batch_do_not_see_each_other():
    patient, xrays = phantom_specimen(1)
    truth, center = xrays[0].true_pose, patient.center_mm
    lev = level(problem(patient, xrays, step_mm=None), 20, 5.0)
    starts = perturb(truth.expand(2, 4, 4), torch.stack([START, -0.5 * START]), center)
    together = descend([lev], starts, center, 4, TOLERANCE, REWEIGHTINGS["tukey"]).poses[-1]
    for start, end in zip(starts, together, strict=True):
        alone = descend([lev], start[None], center, 4, TOLERANCE, REWEIGHTINGS["tukey"]).poses[-1, 0]
        assert torch.allclose(alone, end, atol=1e-3)


def test_at_the_truth_it_stays_and_ends():
    patient, xrays = phantom_specimen(1)
    truth = xrays[0].true_pose
    trace = register_gauss_newton([problem(patient, xrays, step_mm=None)], truth, patient.center_mm, SETTINGS)
    assert mpd_mm(patient, xrays, trace.poses[trace.best]) < 0.1
    assert len(trace.poses) < 20


def test_the_path_moves_with_the_patient():
    patient, xrays = phantom_specimen(1)
    turn = perturb(
        torch.eye(4, **DOUBLE), torch.tensor([0.3, -0.5, 0.2, 90.0, -40.0, 70.0], **DOUBLE), torch.zeros(3, **DOUBLE)
    )
    moved_center = (turn @ torch.cat([patient.center_mm, torch.ones(1, **DOUBLE)]))[:3]
    moved_volume = replace(patient.volume, volume_from_voxel=turn @ patient.volume.volume_from_voxel, derived={})
    start = perturb(xrays[0].true_pose, START, patient.center_mm)
    settings = replace(SETTINGS, robust="none")
    here = register_gauss_newton([problem(patient, xrays, step_mm=None)], start, patient.center_mm, settings)
    there = register_gauss_newton(
        [problem(patient, xrays, step_mm=None, volume=moved_volume)], turn @ start, moved_center, settings
    )
    assert torch.allclose(turn @ here.poses[-1], there.poses[-1], atol=0.02)


def test_outliers_lose_their_weight_and_no_longer_mislead():
    patient, xrays = phantom_specimen(1)
    image = xrays[0].image.clone()
    for k in range(30):
        image[k + 4 : k + 7, k + 6] += 1.5
    rod = image != xrays[0].image
    errors = {}
    for robust in REWEIGHTINGS:
        trace = registered(patient, xrays, replace(SETTINGS, robust=robust), xray=image)
        errors[robust] = mpd_mm(patient, xrays, trace.poses[trace.best])
    assert errors["tukey"] < 0.5 * errors["none"]
    lev = level(problem(patient, xrays, step_mm=None, xray=image), 40, 5.0)
    pose = xrays[0].true_pose[None]
    pixels = pixels_at(lev, pose)
    weight = without_outliers(lev, pixels, drr_and_jacobian(lev, pose, patient.center_mm)).weight[0, 0]
    assert float(weight[rod].mean()) < 0.2
    assert float(weight[~rod].mean()) > 0.7


def test_levels_are_no_larger_than_the_xray():
    patient, xrays = phantom_specimen(1)
    settings = replace(SETTINGS, levels_px=(64, 128))
    whole = replace(SETTINGS, levels_px=(40, 40))
    assert torch.equal(registered(patient, xrays, settings).poses, registered(patient, xrays, whole).poses)
    wide = problem(patient, xrays, step_mm=None, xray=torch.rand(60, 80), camera=replace(camera(80), height=60))
    lev = level(wide, 40, 5.0)
    assert lev.fixed.shape == (30, 40)
    assert (lev.camera.height, lev.camera.width) == (30, 40)


def test_a_coarse_level_shows_the_same_image():
    volume = phantom()
    pose = general_pose(volume)
    fine = camera(128)
    xray = render(volume, fine, pose, 1.0)[0]
    lev = level(Problem(xray, fine, volume, None, 1.0), 16, 5.0)
    assert lev.volume.values.shape == (20, 22, 26)
    assert relative_error(render(lev.volume, lev.camera, pose, lev.step_mm)[0], lev.fixed) < 0.03


def test_a_coarsened_volume_keeps_positions_and_is_made_once():
    volume = phantom()
    z, y, x = torch.meshgrid(*(torch.arange(n, **DOUBLE) for n in volume.values.shape), indexing="ij")
    ramp = volume.with_values((torch.stack([x, y, z], dim=-1) @ torch.tensor([1.0, 0.5, -0.25], **DOUBLE)) + 100)
    coarse = ramp.coarsened(4)
    voxel = torch.tensor([3.0, 5.0, 2.0, 1.0], **DOUBLE)
    at = ramp.voxel_from_volume @ coarse.volume_from_voxel @ voxel
    assert float(coarse.values[2, 5, 3]) == pytest.approx(
        float(at[:3] @ torch.tensor([1.0, 0.5, -0.25], **DOUBLE)) + 100
    )
    assert ramp.coarsened(4) is coarse
    assert ramp.coarsened(1) is ramp


def two_views(patient: Patient, xrays: Sequence[Xray], degrees: float) -> tuple[list[Problem], torch.Tensor]:
    """The first X-ray and one from a camera turned about the patient, from one rig: the first camera; and its pose."""
    xray = xrays[0]
    turn = torch.tensor([0.0, 0.0, np.deg2rad(degrees), 0.0, 0.0, 0.0], **DOUBLE)
    second = perturb(xray.true_pose, turn, patient.center_mm)
    image = scaled(render(patient.volume, xray.camera, second[None]))[0]
    views = [problem(patient, xrays, step_mm=None)]
    views.append(problem(patient, xrays, step_mm=None, xray=image, rig_from_camera=invert(xray.true_pose) @ second))
    return views, xray.true_pose


def test_two_views_see_depth_that_one_does_not():
    patient, xrays = phantom_specimen(1)
    views, truth = two_views(patient, xrays, 75.0)
    # Quantum noise at which one view's depth is uncertain by millimetres.
    noise = torch.Generator().manual_seed(5)
    views = [replace(view, xray=view.xray + 0.1 * torch.randn(view.xray.shape, generator=noise)) for view in views]
    start = perturb(truth, START, patient.center_mm)
    camera_of = xrays[0].camera

    def tre_mm(problems: list[Problem]) -> float:
        trace = register_gauss_newton(problems, start, patient.center_mm, SETTINGS)
        found = trace.poses[trace.best]
        return registration_errors(found, truth, camera_of, patient.landmarks_mm, patient.center_mm)["tre_mm"]

    assert tre_mm(views) < tre_mm(views[:1]) / 3


def test_the_order_of_views_does_not_matter_and_one_view_twice_is_that_view():
    patient, xrays = phantom_specimen(1)
    views, truth = two_views(patient, xrays, 60.0)
    start = perturb(truth, START, patient.center_mm)

    def end(problems: list[Problem]) -> torch.Tensor:
        return register_gauss_newton(problems, start, patient.center_mm, SETTINGS).poses[-1]

    assert torch.allclose(end(views), end(views[::-1]), atol=1e-4)
    assert torch.allclose(end([views[0], views[0]]), end(views[:1]), atol=1e-4)


def test_the_pose_of_a_rig_is_that_of_its_frame():
    patient, xrays = phantom_specimen(1)
    views, truth = two_views(patient, xrays, 60.0)
    # The same two cameras, known in the frame of the second one.
    back = invert(views[1].rig_from_camera)
    others = [replace(view, rig_from_camera=back @ view.rig_from_camera) for view in views]
    start = perturb(truth, START, patient.center_mm)
    ends = [
        register_gauss_newton(problems, pose, patient.center_mm, SETTINGS).poses[-1]
        for problems, pose in ((views, start), (others, start @ views[1].rig_from_camera))
    ]
    assert torch.allclose(ends[0] @ views[1].rig_from_camera, ends[1], atol=1e-4)


def test_a_noisy_view_does_not_outvote_a_clear_one():
    weights = view_weights([torch.tensor([0.02, 0.5]), torch.tensor([0.2, 0.5])])
    assert torch.allclose(weights, torch.tensor([[10 / 11, 0.5], [1 / 11, 0.5]]))
    patient, xrays = phantom_specimen(1)
    (clear, noisy), truth = two_views(patient, xrays, 75.0)
    noise = torch.Generator().manual_seed(2)
    errors = []
    for _ in range(4):
        spoilt = replace(noisy, xray=noisy.xray + 0.3 * torch.randn(noisy.xray.shape, generator=noise))
        found = register_gauss_newton([clear, spoilt], truth, patient.center_mm, SETTINGS).poses[-1]
        errors.append(mpd_mm(patient, xrays, found))
    # As good in the clear view as that view alone is, whose error is within a tenth of a millimetre.
    assert max(errors) < 0.15
