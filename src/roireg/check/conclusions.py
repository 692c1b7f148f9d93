"""Turns the evidence of a check into sentences: what is wrong with a dataset, and which config keys to set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from roireg.check.dataset import SHIFTS_VOXELS, CheckSettings, SpecimenCheck
from roireg.check.hypotheses import LANDMARK_FRACTION, mean_agreement
from roireg.data.deepfluoro_records import ProjectionParameters
from roireg.data.label_names import normalized

# A shift is accepted if at least `LEAST_XRAYS` were compared, it is best in `WINNING_FRACTION` of them, and its mean
# lead over every other shift exceeds `STANDARD_ERRORS` standard errors.
LEAST_XRAYS = 3
WINNING_FRACTION = 2 / 3
STANDARD_ERRORS = 2.0
POOR_DICE, POOR_NCC = 0.5, 0.2
NOTEWORTHY_FRACTION = 0.02
FOCAL_RATIO = 0.01
SOURCE_TO_DETECTOR_MM = (400.0, 2500.0)
NAMED = 5


class Level(StrEnum):
    """Severity of a finding, from the worst to the best."""

    WRONG = "wrong"
    SET = "set"
    NOTE = "note"
    FINE = "fine"


@dataclass(frozen=True)
class Finding:
    """A sentence about the dataset; its level is `wrong` if the file contradicts itself or the conventions."""

    level: Level
    text: str


def conclusions(
    checks: Sequence[SpecimenCheck],
    parameters: ProjectionParameters,
    settings: CheckSettings,
    expected_xrays: Mapping[str, int],
) -> list[Finding]:
    """Findings from the evidence of all specimens, the worst first.

    Args:
        checks: evidence of all specimens.
        parameters: stored parameters of the C-arm.
        settings: settings of the check.
        expected_xrays: known number of X-rays, by specimen.
    """
    found = [
        *_camera(parameters),
        *_mistakes(checks, parameters),
        *_rois(checks, settings),
        *_poses(checks),
        *_counts(checks, expected_xrays),
        *_shift(checks, settings),
        *_coverage(checks),
        *_flags(checks),
    ]
    return sorted(found, key=lambda finding: [*Level].index(finding.level))


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _camera(parameters: ProjectionParameters) -> list[Finding]:
    """Check that the focal length in mm is the same by columns and by rows, and plausible."""
    fx, fy = abs(parameters.intrinsic[0, 0]), abs(parameters.intrinsic[1, 1])
    column, row = parameters.column_spacing_mm, parameters.row_spacing_mm
    ratio = fx * column / (fy * row) - 1
    exchanged = fx * row / (fy * column) - 1
    length = (fx * column + fy * row) / 2
    out = []
    if abs(ratio) > FOCAL_RATIO:
        cause = "the intrinsic matrix or the pixel spacings are wrong"
        if abs(exchanged) < abs(ratio) / 3:
            cause = "pixel-col-spacing and pixel-row-spacing are exchanged: swap them"
        lengths = f"{fx * column:.0f} mm by columns, {fy * row:.0f} mm by rows"
        out.append(Finding(Level.WRONG, f"Source to detector is {lengths}: {cause}."))
    low, high = SOURCE_TO_DETECTOR_MM
    if not low < length < high:
        text = f"Source to detector would be {length:.0f} mm: the pixel spacing or the focal entries are wrong."
        out.append(Finding(Level.WRONG, text))
    return out


def _mistakes(checks: Sequence[SpecimenCheck], parameters: ProjectionParameters) -> list[Finding]:
    out = [
        Finding(Level.WRONG, fault if fault.endswith(".") else f"{fault}.") for one in checks for fault in one.faults
    ]
    by_sentence: dict[str, list[SpecimenCheck]] = {}
    for one in checks:
        if one.explanation is not None:
            by_sentence.setdefault(one.explanation.sentence, []).append(one)
    for sentence, those in by_sentence.items():
        before, after = (
            mean_agreement([getattr(one.explanation, key) for one in those]) for key in ("stored", "undone")
        )
        changes = [
            f"{what} {old:.{digits}f} -> {new:.{digits}f}{unit}"
            for what, old, new, digits, unit in (
                ("landmarks", before.landmarks_px, after.landmarks_px, 1, " px"),
                ("Dice of gt-seg", before.dice, after.dice, 2, ""),
                ("NCC of X-ray and DRR", before.ncc, after.ncc, 2, ""),
            )
            if not (np.isnan(old) and np.isnan(new))
        ]
        names = ", ".join(one.name for one in those)
        text = f"{names}: {sentence}. If this is corrected, agreement changes: {'; '.join(changes)}."
        out.append(Finding(Level.WRONG, text))
    for one in checks:
        if one.explanation is None and one.stored:
            mean = mean_agreement(one.stored)
            bad = mean.landmarks_px > LANDMARK_FRACTION * parameters.columns
            if bad or mean.dice < POOR_DICE or mean.ncc < POOR_NCC or np.isnan(mean.ncc):
                values = f"landmarks {mean.landmarks_px:.1f} px, Dice {mean.dice:.2f}, NCC {mean.ncc:.2f}"
                text = f"{one.name}: CT and X-rays do not agree at the stored poses ({values})"
                out.append(Finding(Level.WRONG, f"{text}, and no known mistake explains it."))
    if not out:
        text = "Landmarks, projected labels and DRRs agree with the X-rays at the stored poses"
        out.append(Finding(Level.FINE, f"{text}; no known mistake fits better."))
    return out


def _rois(checks: Sequence[SpecimenCheck], settings: CheckSettings) -> list[Finding]:
    out = []
    for one in checks:
        known = {normalized(row.name) for row in one.labels if row.voxels}
        missing = [roi for roi in settings.rois if normalized(roi) not in known]
        if missing:
            labels = ", ".join(row.name for row in one.labels) or "none"
            text = f"{one.name}: it has no voxel of {', '.join(missing)}, which `rois` asks for. Its labels: {labels}."
            out.append(Finding(Level.WRONG, text))
    if not out:
        out.append(Finding(Level.FINE, f"Every specimen has the {len(settings.rois)} ROIs of the config."))
    return out


def _poses(checks: Sequence[SpecimenCheck]) -> list[Finding]:
    out = []
    for one in checks:
        odd = {
            "have a pose that is not rigid": [row.name for row in one.views if not row.rigid],
            "do not have the CT's centre between source and detector": [
                row.name for row in one.views if row.rigid and not np.isnan(row.depth) and not 0 < row.depth < 1
            ],
            "do not show the CT's centre": [
                row.name for row in one.views if row.rigid and not np.isnan(row.depth) and not row.in_picture
            ],
            "show the patient's head down after applying rot-180-for-up": [
                row.name for row in one.views if row.rigid and not np.isnan(row.depth) and not row.upright
            ],
        }
        for what, names in odd.items():
            if names:
                # Unusual views are possible; a pose that is not rigid or misses the patient is not.
                level = Level.WRONG if "rigid" in what or "between" in what else Level.NOTE
                out.append(
                    Finding(level, f"{one.name}: {len(names)} of {len(one.views)} X-rays {what}: {_named(names)}.")
                )
    return out


def _counts(checks: Sequence[SpecimenCheck], expected: Mapping[str, int]) -> list[Finding]:
    counts = ", ".join(f"{one.name} {len(one.views)}" for one in checks)
    out = [Finding(Level.FINE, f"X-rays: {counts}; {sum(len(one.views) for one in checks)} in all.")]
    for one in checks:
        if one.name in expected and expected[one.name] != len(one.views):
            text = f"{one.name}: it has {len(one.views)} X-rays; the published DeepFluoro has {expected[one.name]}."
            out.append(Finding(Level.NOTE, text))
    return out


def _shift(checks: Sequence[SpecimenCheck], settings: CheckSettings) -> list[Finding]:
    """Decide on the shift of the CT by the X-rays' intensities: only they depend on where the patient really was.

    `gt-seg` was projected from the CT's labels by software, so it only shows that software's voxel convention.
    """
    rows = [row for one in checks for row in one.shifts.values()]
    if not rows:
        return [Finding(Level.NOTE, "Shifts of the CT were not compared; correct the other mistakes first.")]
    ncc = np.array([[shift.ncc for shift in row] for row in rows])
    dice = np.array([[shift.dice for shift in row] for row in rows])
    ncc = ncc[~np.isnan(ncc).any(axis=1)]
    best = _decided(ncc)
    if best is None:
        text = "The X-rays do not show whether the CT is shifted by half a voxel: no shift is clearly better."
        return [Finding(Level.NOTE, text)]
    values = ", ".join(f"{shift:+g}: {value:.4f}" for shift, value in zip(SHIFTS_VOXELS, ncc.mean(axis=0), strict=True))
    wins = int((ncc.argmax(axis=1) == best).sum())
    shift = SHIFTS_VOXELS[best]
    reason = f"X-rays and DRRs agree best with the CT moved by {shift:+g} voxels"
    reason += f" (NCC at {values}; best in {wins} of {len(ncc)} X-rays)"
    if np.isclose(shift, settings.ct_shift_voxels):
        out = [Finding(Level.FINE, f"prepare.ct_shift_voxels is correctly {settings.ct_shift_voxels:g}: {reason}.")]
    else:
        now = f"It is {settings.ct_shift_voxels:g}"
        out = [Finding(Level.SET, f"Set prepare.ct_shift_voxels to {shift:g}: {reason}. {now}.")]
    by_labels = _decided(dice[~np.isnan(dice).any(axis=1)])
    if by_labels is not None and by_labels != best:
        text = f"gt-seg agrees best with {SHIFTS_VOXELS[by_labels]:+g} voxels instead of {shift:+g}"
        why = "software projected it from the CT's labels, so it shows that software's voxel convention only"
        out.append(Finding(Level.NOTE, f"{text}: {why}."))
    return out


def _decided(scores: np.ndarray) -> int | None:
    """Index of the column of `(X-rays, shifts)` that is clearly the best; None if none is."""
    if len(scores) < LEAST_XRAYS:
        return None
    best = int(scores.mean(axis=0).argmax())
    if (scores.argmax(axis=1) == best).mean() < WINNING_FRACTION:
        return None
    for other in set(range(scores.shape[1])) - {best}:
        ahead = scores[:, best] - scores[:, other]
        if ahead.mean() <= STANDARD_ERRORS * ahead.std(ddof=1) / np.sqrt(len(ahead)):
            return None
    return best


def _coverage(checks: Sequence[SpecimenCheck]) -> list[Finding]:
    fractions = [fraction for one in checks for fraction in one.uncovered.values()]
    if not fractions:
        return []
    mean, most = float(np.mean(fractions)), float(np.max(fractions))
    text = f"{100 * mean:.1f}% of the rays leave through the CT's ends (at most {100 * most:.1f}% in an X-ray)"
    if mean > NOTEWORTHY_FRACTION:
        text += ": the CT does not cover the view, and methods without `weights.coverage` will fail more often"
        return [Finding(Level.NOTE, f"{text}.")]
    return [Finding(Level.FINE, f"{text}: the CT covers the view.")]


def _flags(checks: Sequence[SpecimenCheck]) -> list[Finding]:
    views = [row for one in checks for row in one.views]
    turned = sum(bool(row.turned) for row in views)
    out = [Finding(Level.FINE, f"rot-180-for-up is set for {turned} of {len(views)} X-rays.")]
    if any(row.good_fov is not None for row in views):
        poor = sum(row.good_fov is False for row in views)
        text = f"good-fov is 0 for {poor} of {len(views)} X-rays; they are used like all others, as in the paper."
        out.append(Finding(Level.NOTE if poor else Level.FINE, text))
    return out
