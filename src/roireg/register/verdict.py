"""May a registration be trusted? Said from the images alone, without the truth."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """`trusted`: use it. `check`: look at the overlay first. `failed`: do not use it."""

    TRUSTED = "trusted"
    CHECK = "check"
    FAILED = "failed"


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made from, of one view.

    Attributes:
        ncc: of the locally normalised X-ray and DRR, on the pixels that count.
        coverage: fraction of the image that the CT can explain.
        projection_sd_mm: predicted standard deviation of bone's shadows on the detector.
        converged: whether the last steps were within the tolerance.
        from_expected_mm: how far the patient's centre was moved from where he was expected; of a long CT, from the
            nearest place at which the C-arm may have looked.
        turned_deg: and how far he was turned.
        mirrored_ncc: `ncc` of a registration of the mirrored image, or None if it was not tried.
        between_views_mm: with several views, how far on the detector this view alone would move the joint pose; None
            for a single view.
        roi_dice: overlap of the ROIs that a network sees with the labels projected at the pose; None without a network.
        bone_shown: whether bone of the CT lies in the picture, where pixels count.
        held: share of small kicks after which the registration came back; None where nobody kicked.
        rival_mm: how far on the detector from here the best other place lies where kicks ended; None without one.
        rival_gain: NCC there less that here.
    """

    ncc: float
    coverage: float
    projection_sd_mm: float
    converged: bool
    from_expected_mm: float
    turned_deg: float
    mirrored_ncc: float | None = None
    between_views_mm: float | None = None
    roi_dice: float | None = None
    bone_shown: bool = True
    held: float | None = None
    rival_mm: float | None = None
    rival_gain: float = -1.0


@dataclass(frozen=True)
class Verdict:
    """A grade and the reasons for it, the worst first; a trusted one's reason says what spoke for it."""

    grade: Grade
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Thresholds:
    """Beyond which evidence speaks against a registration; see docs/own-data.md for how they were found.

    Attributes:
        trusted_ncc, failed_ncc: from, and below.
        trusted_sd_mm, failed_sd_mm: up to, and beyond.
        least_coverage: share of the image.
        far_mm, far_deg: from where the C-arm's tags put the patient.
        mirrored_margin: NCC by which the mirrored image fits better.
        between_views_mm: by which views may contradict each other.
        least_dice: of ROIs.
        least_held: share of kicks.
        rival_deficit: NCC by which another place must be worse.
    """

    trusted_ncc: float = 0.55
    failed_ncc: float = 0.4
    trusted_sd_mm: float = 0.5
    failed_sd_mm: float = 1.2
    least_coverage: float = 0.3
    far_mm: float = 150.0
    far_deg: float = 40.0
    mirrored_margin: float = 0.1
    between_views_mm: float = 3.0
    least_dice: float = 0.5
    least_held: float = 0.3
    rival_deficit: float = 0.03


def judge(evidence: Evidence, limits: Thresholds) -> Verdict:
    """The verdict on one view."""
    failed, check = [], []
    flipped = evidence.mirrored_ncc is not None and evidence.mirrored_ncc > evidence.ncc + limits.mirrored_margin
    if flipped:
        failed.append(
            f"flipped left to right, the X-ray fits better (NCC {evidence.mirrored_ncc:.2f} against "
            f"{evidence.ncc:.2f}): the X-ray or the CT is mirrored; give --mirror, or correct the file that is wrong"
        )
    if not evidence.bone_shown:
        failed.append("from there the CT shows no bone in the picture")
    if evidence.coverage < limits.least_coverage:
        failed.append(f"the CT explains {evidence.coverage:.0%} of the image, less than {limits.least_coverage:.0%}")
    if evidence.ncc < limits.failed_ncc:
        failed.append(f"the X-ray does not look like this CT from there (NCC {evidence.ncc:.2f})")
    elif evidence.ncc < limits.trusted_ncc:
        check.append(f"the X-ray looks only roughly like this CT from there (NCC {evidence.ncc:.2f})")
    if evidence.projection_sd_mm > limits.failed_sd_mm:
        failed.append(f"the X-ray hardly says where bone's shadows lie (sd {evidence.projection_sd_mm:.2f} mm)")
    elif evidence.projection_sd_mm > limits.trusted_sd_mm:
        check.append(f"bone's shadows are uncertain (sd {evidence.projection_sd_mm:.2f} mm on the detector)")
    if evidence.rival_mm is not None and evidence.rival_gain > -limits.rival_deficit:
        ncc = evidence.ncc + evidence.rival_gain
        check.append(f"another pose, {evidence.rival_mm:.1f} mm away on the detector, fits as well (NCC {ncc:.2f})")
    elif evidence.held is not None and evidence.held < limits.least_held:
        check.append(f"it came back from {evidence.held:.0%} of small kicks only: is there a better pose beside it?")
    if not evidence.converged:
        check.append("the search had not come to rest")
    if evidence.from_expected_mm > limits.far_mm or evidence.turned_deg > limits.far_deg:
        moved = f"{evidence.from_expected_mm:.0f} mm and {evidence.turned_deg:.0f}°"
        check.append(f"the patient lies {moved} from where the geometry puts him: are distances and angles right?")
    if evidence.between_views_mm is not None and evidence.between_views_mm > limits.between_views_mm:
        apart = f"{evidence.between_views_mm:.1f} mm on the detector"
        check.append(f"this view alone would move the pose by {apart}: he moved between views, or angles lie")
    if evidence.roi_dice is not None and evidence.roi_dice < limits.least_dice:
        check.append(f"the bones that the network sees lie elsewhere (Dice {evidence.roi_dice:.2f})")
    if failed:
        return Verdict(Grade.FAILED, tuple(failed + check))
    if check:
        return Verdict(Grade.CHECK, tuple(check))
    good = f"NCC {evidence.ncc:.2f}, bone's shadows to {evidence.projection_sd_mm:.2f} mm (sd)"
    return Verdict(Grade.TRUSTED, (good,))


def worst(verdicts: list[Verdict]) -> Verdict:
    """Of several views: as good as the worst of them."""
    order = [Grade.FAILED, Grade.CHECK, Grade.TRUSTED]
    return min(verdicts, key=lambda verdict: order.index(verdict.grade))
