"""The predicted spread of a pose against the scatter that it predicts, and what a verdict makes of evidence."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from volumes import phantom_specimen

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert, se3_log, translation
from roireg.register.gauss_newton import register_gauss_newton
from roireg.register.levels import Problem, level
from roireg.register.settings import GaussNewtonSettings
from roireg.register.uncertainty import BONE, INFLATION, bone_excess, changed_xrays, covariance, fit_at, spread
from roireg.register.verdict import Evidence, Grade, Thresholds, judge, worst

DOUBLE = {"dtype": torch.float64}
SIZE, SIGMA = 40, 5.0
SETTINGS = GaussNewtonSettings((SIZE,), (SIGMA,), 20, 1e-4, 0.02, "tukey")
NOISE = 0.06


def problem(patient: Patient, xrays: Sequence[Xray], generator: torch.Generator | None, **changes) -> Problem:
    xray = xrays[0]
    image = xray.image
    if generator is not None:
        image = image + NOISE * torch.randn(image.shape, generator=generator)
    return Problem(**{"xray": image, "camera": xray.camera, "volume": patient.volume, "weights": None} | changes)


@pytest.fixture(scope="module")
def phantom() -> tuple[Patient, tuple[Xray, ...]]:
    return phantom_specimen(1)


@pytest.fixture(scope="module")
def patient(phantom) -> Patient:
    return phantom[0]


@pytest.fixture(scope="module")
def xrays(phantom) -> tuple[Xray, ...]:
    return phantom[1]


@pytest.fixture(scope="module")
def repeated(patient, xrays) -> tuple[torch.Tensor, torch.Tensor]:
    """Of registrations that differ in noise alone: twists from their mean, `(N, 6)`, and predicted covariances."""
    generator = torch.Generator().manual_seed(3)
    center = patient.center_mm
    ends, predicted = [], []
    for _ in range(40):
        one = problem(patient, xrays, generator, step_mm=None)
        pose = register_gauss_newton([one], xrays[0].true_pose, center, SETTINGS).poses[-1]
        ends.append(translation(-center) @ pose @ invert(xrays[0].true_pose) @ translation(center))
        # Noise alone differs, and nothing that a DRR lacks.
        fit = fit_at(level(one, SIZE, SIGMA), pose, center)
        predicted.append(covariance([replace(fit, unmodelled=torch.zeros_like(fit.unmodelled))]))
    twists = se3_log(torch.stack(ends))
    return twists - twists.mean(0), torch.stack(predicted)


def test_the_predicted_spread_is_that_of_repeated_registrations(repeated, patient, xrays):
    twists, predicted = repeated
    found = twists.T @ twists / (len(twists) - 1)
    pose, camera = xrays[0].true_pose, xrays[0].camera
    args = (pose, camera, patient.center_mm, patient.landmarks_mm)
    real, told = spread(found, *args), spread(predicted.median(0).values, *args)
    # Without the factor for what blocks share; noise has none of that.
    for name in ("across_mm", "down_mm", "depth_mm", "projection_mm"):
        ratio = getattr(told, name) / INFLATION / getattr(real, name)
        assert 0.6 < ratio < 1.7, name
    # One view sees depth worst.
    assert told.depth_mm > 3 * max(told.across_mm, told.down_mm)


def test_what_a_drr_lacks_moves_the_pose_as_far_as_is_foreseen(patient, xrays):
    """Hardening, scatter and blur of the X-ray, and denser bone of the CT, one by one in what is registered."""
    xray, center = xrays[0], patient.center_mm
    truth = xray.true_pose
    level_at = level(problem(patient, xrays, None, step_mm=None), SIZE, SIGMA)
    moved = []
    denser = patient.volume.with_values(patient.volume.values + BONE * bone_excess(patient.volume).values)
    problems = [
        *(
            Problem(one[0, 0], level_at.camera, patient.volume, None, None)
            for one in changed_xrays(level_at.fixed[None, None])
        ),
        Problem(level_at.fixed, level_at.camera, denser, None, None),
    ]
    for one in problems:
        pose = register_gauss_newton([one], truth, center, SETTINGS).poses[-1]
        moved.append(se3_log((translation(-center) @ pose @ invert(truth) @ translation(center))[None])[0])
    fit = fit_at(level_at, truth, center)
    foreseen = covariance([replace(fit, scatter=torch.zeros_like(fit.scatter))]) / INFLATION**2
    args = (truth, xray.camera, center, patient.landmarks_mm)
    told = spread(foreseen, *args)
    real = spread(torch.stack(moved).T @ torch.stack(moved), *args)
    for name in ("across_mm", "down_mm", "depth_mm", "projection_mm"):
        assert 0.5 < getattr(told, name) / getattr(real, name) < 2, name


def test_two_views_are_surer_of_depth(patient, xrays):
    center, xray = patient.center_mm, xrays[0]
    turn = torch.tensor([0.0, 0.0, math.radians(75), 0, 0, 0], **DOUBLE)
    second = perturb(xray.true_pose, turn, center)
    image = scaled(render(patient.volume, xray.camera, second[None]))[0]
    generator = torch.Generator().manual_seed(1)
    image = image + NOISE * torch.randn(image.shape, generator=generator)
    rig = invert(xray.true_pose) @ second
    problems = [
        problem(patient, xrays, generator, step_mm=None),
        problem(patient, xrays, None, step_mm=None, xray=image, rig_from_camera=rig),
    ]
    fits = [fit_at(level(one, SIZE, SIGMA), xray.true_pose, center) for one in problems]
    args = (xray.true_pose, xray.camera, center, patient.landmarks_mm)
    assert spread(covariance(fits), *args).depth_mm < spread(covariance(fits[:1]), *args).depth_mm / 3


def test_where_nothing_counts_the_spread_is_infinite(patient, xrays):
    def nothing(camera, pose):
        return torch.zeros(len(pose), camera.height, camera.width)

    hidden = problem(patient, xrays, None, step_mm=None, weights=nothing)
    fit = fit_at(level(hidden, SIZE, SIGMA), xrays[0].true_pose, patient.center_mm)
    told = spread(covariance([fit]), xrays[0].true_pose, xrays[0].camera, patient.center_mm, patient.landmarks_mm)
    assert fit.coverage == 0
    evidence = replace(GOOD, coverage=fit.coverage, ncc=fit.ncc, projection_sd_mm=told.projection_mm)
    assert judge(evidence, LIMITS).grade is Grade.FAILED


GOOD = Evidence(
    ncc=0.95,
    coverage=0.8,
    projection_sd_mm=0.1,
    converged=True,
    from_expected_mm=20.0,
    turned_deg=5.0,
    mirrored_ncc=0.3,
)
LIMITS = Thresholds()


def test_good_evidence_is_trusted_and_says_why():
    verdict = judge(GOOD, LIMITS)
    assert verdict.grade is Grade.TRUSTED
    assert "0.95" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("change", "grade", "said"),
    [
        ({"ncc": 0.5}, Grade.CHECK, "roughly"),
        ({"ncc": 0.2}, Grade.FAILED, "does not agree with the CT"),
        ({"ncc": 0.2, "mirrored_ncc": 0.9}, Grade.FAILED, "--mirror"),
        ({"coverage": 0.1}, Grade.FAILED, "covers 10%"),
        ({"projection_sd_mm": 0.8}, Grade.CHECK, "uncertain"),
        ({"projection_sd_mm": math.inf}, Grade.FAILED, "only weakly"),
        ({"converged": False}, Grade.CHECK, "converged"),
        ({"from_expected_mm": 300.0}, Grade.CHECK, "300 mm"),
        ({"turned_deg": 60.0}, Grade.CHECK, "60°"),
        ({"between_views_mm": 9.0}, Grade.CHECK, "9.0 mm"),
        ({"roi_dice": 0.2}, Grade.CHECK, "Dice 0.20"),
        ({"ct_step_mm": 11.0}, Grade.CHECK, "shifted by 11 mm"),
    ],
)
def test_each_fault_is_found_and_named(change, grade, said):
    verdict = judge(replace(GOOD, **change), LIMITS)
    assert verdict.grade is grade
    assert said in verdict.reasons[0]


def test_several_views_are_as_good_as_the_worst():
    good, bad = judge(GOOD, LIMITS), judge(replace(GOOD, ncc=0.1), LIMITS)
    assert worst([good, bad, good]) is bad
    assert worst([good, judge(replace(GOOD, ncc=0.5), LIMITS)]).grade is Grade.CHECK
