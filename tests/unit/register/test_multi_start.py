"""Multi-start: it finds a start without knowing the truth, the same one for the same seed, and its time counts."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from test_gauss_newton import SETTINGS, mpd_mm, problem
from volumes import phantom_specimen

from roireg.data.patient import Patient
from roireg.data.xray import Xray, expected_pose
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import translation
from roireg.register import registration, run
from roireg.register.levels import level
from roireg.register.method import MethodSettings
from roireg.register.multi_start import multi_start
from roireg.register.quadratic import objective
from roireg.register.registry import OPTIMIZERS, STARTS, settings_of
from roireg.register.run import register_specimen
from roireg.register.settings import MultiStartSettings, PaSettings, PerturbationSettings, WeightSettings
from roireg.seeds import generator

DOUBLE = {"dtype": torch.float64}
MANY = MultiStartSettings(
    starts=100,
    keep=6,
    iterations=6,
    rotation_sd_deg=8.0,
    translation_sd_mm=20.0,
    size_px=20,
    local_sigma_px=5.0,
)
FAR = torch.tensor([0.12, -0.15, 0.1, 25.0, -20.0, 30.0], **DOUBLE)


def far() -> tuple[Patient, list[Xray]]:
    """One X-ray, and a reference view far from it."""
    patient, (xray,) = phantom_specimen(1)
    far_off = perturb(xray.true_pose, FAR, patient.center_mm)
    return patient, [replace(xray, rig_from_camera=translation(-patient.center_mm) @ far_off)]


def started(patient: Patient, xrays: Sequence[Xray], settings: MultiStartSettings, seed: int = 0) -> torch.Tensor:
    problems = [problem(patient, xrays, step_mm=None)]
    start = expected_pose(patient, xrays[0])
    return multi_start(problems, start, patient.center_mm, settings, generator(seed, "test"))


def method(start) -> MethodSettings:
    return MethodSettings(
        name="multi",
        init="multi_start",
        similarity="builtin",
        roi="none",
        optimizer="gauss_newton",
        weights="none",
        start=start,
        pixels=WeightSettings(coverage=False, exclude=(), exclude_margin_mm=0.0),
        search=SETTINGS,
        regions=None,
        step_mm=None,
    )


def test_it_starts_near_the_truth_although_the_reference_view_is_far():
    patient, xrays = far()
    assert mpd_mm(patient, xrays, expected_pose(patient, xrays[0])) > 25
    assert mpd_mm(patient, xrays, started(patient, xrays, MANY)) < 3


def test_gauss_newton_from_there_finds_the_pose():
    (result,) = register_specimen(*far(), method(MANY), seed=0)
    assert result.row["init_mpd_mm"] < 3
    assert result.row["mpd_mm"] < 0.1
    assert result.row["similarity"] == "builtin"


def test_the_same_seed_gives_the_same_start_and_another_one_another():
    patient, xrays = far()
    first, again, other = (started(patient, xrays, MANY, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_refinement_and_more_starts_pay():
    patient, xrays = far()
    coarse = level(problem(patient, xrays, step_mm=None), MANY.size_px, MANY.local_sigma_px)
    few, many, refined = (
        float(objective(coarse, started(patient, xrays, settings)[None]))
        for settings in (
            replace(MANY, starts=3, keep=1, iterations=1),
            replace(MANY, keep=1, iterations=1),
            MANY,
        )
    )
    assert refined < many < few


def test_without_spread_it_is_the_refined_reference_view():
    patient, xrays = far()
    narrow = replace(MANY, rotation_sd_deg=0.0, translation_sd_mm=0.0, starts=2, keep=5)
    end = started(patient, xrays, narrow)
    assert not torch.equal(end, expected_pose(patient, xrays[0]))
    assert torch.equal(end, started(patient, xrays, narrow, seed=1))


def test_its_time_counts(monkeypatch):
    clock = iter(range(100))
    ticks = []

    def slow_start(settings, search):
        ticks.append(next(clock))
        return STARTS["multi_start"].pose(settings, search)

    monkeypatch.setattr(registration, "STARTS", {"multi_start": replace(STARTS["multi_start"], pose=slow_start)})
    monkeypatch.setattr(run.time, "perf_counter", lambda: float(len(ticks)))
    (result,) = register_specimen(*far(), method(MANY), seed=0)
    # One call warms up, the second lies between the two readings of the clock.
    assert len(ticks) == 2
    assert result.row["seconds"] == 1.0


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "pa"}, PaSettings()),
        ({"type": "perturbed", "rotation_sd_deg": 3.0, "translation_sd_mm": 10.0}, PerturbationSettings(3.0, 10.0)),
        ({"type": "multi_start", **vars(MANY)}, MANY),
    ],
)
def test_an_entry_of_the_config_becomes_settings(entry, expected):
    assert settings_of(entry, STARTS) == expected


def test_lists_of_the_config_become_tuples():
    entry = {"type": "gauss_newton", **vars(SETTINGS), "levels_px": list(SETTINGS.levels_px)}
    assert settings_of(entry, OPTIMIZERS) == SETTINGS


def test_settings_with_a_key_too_many_are_refused():
    with pytest.raises(ValidationError, match="decay"):
        settings_of({"type": "gauss_newton", **vars(SETTINGS), "decay": 1}, OPTIMIZERS)
