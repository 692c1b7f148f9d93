"""The search of `roireg register`, without a network: rounds of random starts, each wider, until the images agree."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient, expected_rig_pose
from roireg.data.xray import OTHER_POLARITY, Xray
from roireg.register.judgement import THRESHOLDS, Judgement, rejudged
from roireg.register.method import MethodSettings
from roireg.register.multi_start import multi_start
from roireg.register.registration import Registration, once, optimized, problem_of, registration_of
from roireg.register.settings import MultiStartSettings
from roireg.register.weights import WeightMap
from roireg.seeds import generator


@dataclass(frozen=True)
class Round:
    """A round of the search.

    Attributes:
        starts: number of random starts.
        rotation_sd_deg, translation_sd_mm: standard deviations of their distance from the expected pose.
        upside_down: whether the image is assumed to be rotated by 180 degrees.
    """

    starts: int
    rotation_sd_deg: float
    translation_sd_mm: float
    upside_down: bool = False

    def __str__(self) -> str:
        spread_of = f"{self.rotation_sd_deg:g}° and {self.translation_sd_mm:g} mm (sd)"
        return f"{self.starts} starts within {spread_of}" + (", image upside down" if self.upside_down else "")

    def settings(self) -> MultiStartSettings:
        """Settings of the multi-start of this round."""
        return MultiStartSettings(
            starts=self.starts, rotation_sd_deg=self.rotation_sd_deg, translation_sd_mm=self.translation_sd_mm
        )


# A round is run only if the rounds before it did not find a trusted pose.
ROUNDS = (
    Round(200, 10.0, 25.0),
    Round(200, 10.0, 25.0, upside_down=True),
    Round(600, 15.0, 50.0),
    Round(600, 15.0, 50.0, upside_down=True),
    Round(1500, 20.0, 90.0),
)
MIRRORED = ROUNDS[2]


def search(
    patient: Patient,
    xrays: Sequence[Xray],
    method: MethodSettings,
    weights: WeightMap | None,
    seed: int,
    initial: Float[Tensor, "4 4"] | None,
    report: Callable[[str], None],
) -> Registration:
    """Register by rounds of a multi-start at low resolution, each refined by the method's optimizer; return the best.

    Args:
        patient: the CT.
        xrays: X-rays, registered jointly.
        method: the method, whose optimizer refines.
        weights: pixel weights.
        seed: random seed.
        initial: pose `volume_from_rig` (mm) to try before the first round, or None.
        report: called with messages about the progress.
    """
    problems = [problem_of(xray, patient, weights, method.step_mm) for xray in xrays]
    optimized(patient, xrays, problems, expected_rig_pose(patient), once(method))
    began = time.perf_counter()
    best: Registration | None = None
    for number, (current, opposite) in enumerate(_attempts(xrays, initial), start=1):
        posed = [xray.upside_down() if current is not None and current.upside_down else xray for xray in xrays]
        if opposite:
            posed = [xray if xray.other_image is None else xray.with_other_polarity() for xray in posed]
        start = "the given start" if current is None else str(current)
        report(f"round {number}: {start}{', with the opposite polarity' if opposite else ''}")
        if current is None:
            found = _from(patient, posed, method, weights, initial)
        else:
            found = _searched(patient, posed, method, weights, current, generator(seed, "own patient", str(current)))
        report(f"round {number}: {found.verdict.grade}, {found.verdict.reasons[0]}")
        if best is None or _rank(found.judged) > _rank(best.judged):
            best = replace(found, rounds=number)
        if images_agree(best.judged):
            break
    if not images_agree(best.judged):
        report("no trusted pose: trying the X-ray flipped left to right")
        best = _also_mirrored(patient, best, method, weights, seed)
    for result in best.xrays:
        if OTHER_POLARITY in result.xray.warnings:
            report(f"{result.xray.name}: {OTHER_POLARITY}")
    return replace(best, seconds=time.perf_counter() - began)


def _attempts(xrays: Sequence[Xray], initial: Float[Tensor, "4 4"] | None) -> list[tuple[Round | None, bool]]:
    """Rounds (None for the given start), and whether the opposite polarity is tried.

    The opposite polarity follows each round if the polarity of an X-ray is an assumption.
    """
    rounds: list[Round | None] = [*ROUNDS] if initial is None else [None, *ROUNDS]
    polarities = (False, True) if any(xray.other_image is not None for xray in xrays) else (False,)
    return [(current, opposite) for current in rounds for opposite in polarities]


def _searched(
    patient: Patient,
    xrays: Sequence[Xray],
    method: MethodSettings,
    weights: WeightMap | None,
    current: Round,
    rng: np.random.Generator,
) -> Registration:
    problems = [problem_of(xray, patient, weights, method.step_mm) for xray in xrays]
    start = multi_start(problems, expected_rig_pose(patient), patient.center_mm, current.settings(), rng)
    return _from(patient, xrays, method, weights, start)


def _from(
    patient: Patient,
    xrays: Sequence[Xray],
    method: MethodSettings,
    weights: WeightMap | None,
    start: Float[Tensor, "4 4"],
) -> Registration:
    problems = [problem_of(xray, patient, weights, method.step_mm) for xray in xrays]
    return registration_of(patient, xrays, problems, optimized(patient, xrays, problems, start, method), method, 0.0)


def images_agree(judged: Judgement) -> bool:
    """True if every X-ray meets the thresholds of `trusted` that concern the images (other evidence is ignored)."""
    return all(
        one.evidence.ncc >= THRESHOLDS.trusted_ncc
        and one.evidence.projection_sd_mm <= THRESHOLDS.trusted_sd_mm
        and one.evidence.coverage >= THRESHOLDS.least_coverage
        for one in judged.xrays
    )


def _rank(judged: Judgement) -> float:
    """Quality of a result, larger is better: the lowest NCC of the X-rays, -1 if one is covered too little."""
    evidence = [result.evidence for result in judged.xrays]
    return min(found.ncc if found.coverage >= THRESHOLDS.least_coverage else -1.0 for found in evidence)


def _also_mirrored(
    patient: Patient, best: Registration, method: MethodSettings, weights: WeightMap | None, seed: int
) -> Registration:
    """The result, judged again with the NCC that the mirrored X-rays reach; mirrored images are a common mistake."""
    mirrored = [one.xray.mirrored() for one in best.xrays]
    other = _searched(patient, mirrored, method, weights, MIRRORED, generator(seed, "own patient", "mirrored"))
    evidence = [
        replace(one.evidence, mirrored_ncc=flipped.evidence.ncc)
        for one, flipped in zip(best.xrays, other.xrays, strict=True)
    ]
    return replace(best, judged=rejudged(best.judged, evidence))
