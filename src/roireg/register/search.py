"""The search of `roireg register`, without a network: rounds of random starts, each wider, until the images agree."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient, expected_rig_pose
from roireg.data.reach import long_axis, reach_along_mm
from roireg.data.xray import OTHER_POLARITY, Xray
from roireg.register.judgement import THRESHOLDS, Judgement, agreement, rejudged
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
        along_mm: starts are also spread evenly so far to both sides along a long CT.
    """

    starts: int
    rotation_sd_deg: float
    translation_sd_mm: float
    upside_down: bool = False
    along_mm: float = 0.0

    def __str__(self) -> str:
        spread_of = f"{self.rotation_sd_deg:g}° and {self.translation_sd_mm:g} mm (sd)"
        along = f", up to {self.along_mm:.0f} mm along the CT" if self.along_mm else ""
        return f"{self.starts} starts within {spread_of}{along}" + (", image upside down" if self.upside_down else "")

    def settings(self) -> MultiStartSettings:
        """Settings of the multi-start of this round."""
        return MultiStartSettings(
            starts=self.starts, rotation_sd_deg=self.rotation_sd_deg, translation_sd_mm=self.translation_sd_mm
        )

    def along(self, reach_mm: float) -> "Round":
        """The same along a long CT, with as many starts for each place of it."""
        more = 1 + reach_mm / STARTS_REACH_MM
        return replace(self, starts=round(self.starts * more), along_mm=reach_mm) if reach_mm else self


# A round is run only if the rounds before it did not find a trusted pose.
ROUNDS = (
    Round(200, 10.0, 25.0),
    Round(200, 10.0, 25.0, upside_down=True),
    Round(600, 15.0, 50.0),
    Round(600, 15.0, 50.0, upside_down=True),
    Round(1500, 20.0, 90.0),
)
MIRRORED = ROUNDS[2]
# Half of what the starts of the first round cover along an axis.
STARTS_REACH_MM = 50.0


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

    def tried(number: int, current: Round | Tensor, opposite: bool) -> Registration:
        start = str(current) if isinstance(current, Round) else "the given start"
        report(f"round {number}: {start}{', with the opposite polarity' if opposite else ''}")
        turned = isinstance(current, Round) and current.upside_down
        posed = [xray.upside_down() if turned else xray for xray in xrays]
        if opposite:
            posed = [xray if xray.other_image is None else xray.with_other_polarity() for xray in posed]
        if isinstance(current, Round):
            found = _searched(patient, posed, method, weights, current, generator(seed, "own patient", str(current)))
        else:
            found = _from(patient, posed, method, weights, current)
        report(f"round {number}: {found.verdict.grade}, {found.verdict.reasons[0]}")
        return replace(_or_rival(patient, posed, found, method, weights), rounds=number)

    reach_mm = min(reach_along_mm(patient, xray) for xray in xrays)
    first, *others = _attempts(xrays, initial, reach_mm)
    best = tried(1, *first)
    for number, attempt in enumerate(others, start=2):
        if images_agree(best.judged):
            break
        found = tried(number, *attempt)
        if agreement(found.judged) > agreement(best.judged):
            best = found
    if not images_agree(best.judged):
        report("no trusted pose: trying the X-ray flipped left to right")
        best = _also_mirrored(patient, best, method, weights, seed)
    for result in best.xrays:
        if OTHER_POLARITY in result.xray.warnings:
            report(f"{result.xray.name}: {OTHER_POLARITY}")
    return replace(best, seconds=time.perf_counter() - began)


def _attempts(
    xrays: Sequence[Xray], initial: Float[Tensor, "4 4"] | None, reach_mm: float
) -> list[tuple[Round | Tensor, bool]]:
    """Rounds (the given start is a pose), and whether the opposite polarity is tried.

    The opposite polarity follows each round if the polarity of an X-ray is an assumption. `reach_mm`: see
    `Round.along`.
    """
    searched = [one.along(reach_mm) for one in ROUNDS]
    rounds: list[Round | Tensor] = [*searched] if initial is None else [initial, *searched]
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
    along_mm = current.along_mm * long_axis(patient.volume)
    start = multi_start(problems, expected_rig_pose(patient), patient.center_mm, current.settings(), rng, along_mm)
    return _from(patient, xrays, method, weights, start)


def _or_rival(
    patient: Patient, xrays: Sequence[Xray], found: Registration, method: MethodSettings, weights: WeightMap | None
) -> Registration:
    """What small kicks led to, where images agree better there."""
    if found.judged.rival is None or max(one.evidence.rival_gain for one in found.xrays) <= 0:
        return found
    other = _from(patient, xrays, method, weights, found.judged.rival)
    return other if agreement(other.judged) > agreement(found.judged) else found


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
