"""The verdict on a registration: whether it may be trusted, judged from the images alone, without the truth."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """Grade of a registration. `trusted`: use it. `check`: look at the overlay first. `failed`: do not use it."""

    TRUSTED = "trusted"
    CHECK = "check"
    FAILED = "failed"


@dataclass(frozen=True)
class Evidence:
    """The measures that the verdict on one X-ray is based on.

    Attributes:
        ncc: weighted NCC of the locally normalised X-ray and DRR.
        coverage: fraction of the image that is covered by the CT and not excluded.
        projection_sd_mm: predicted standard deviation of the position of projected bone on the detector, by residuals
            (`roireg.register.uncertainty.residual_covariance`).
        converged: whether the last step was small.
        from_expected_mm: distance of the patient's centre from its expected position.
        turned_deg: angle between the found and the expected orientation.
        mirrored_ncc: `ncc` of a registration of the mirrored image; None if it was not tried.
        between_views_mm: with several X-rays, distance on the detector by which registering this X-ray alone moves
            projected bone from the joint pose; None for a single X-ray.
        roi_dice: Dice of the ROIs segmented in the X-ray and the labels projected at the pose; None without a
            segmenter.
        bone_shown: whether a ray of positive weight meets bone of the CT.
        held: fraction of small kicks after which the registration came back; None if it was not kicked.
        rival_mm: distance on the detector to the best other pose at which kicks ended; None without one.
        rival_gain: NCC there minus the NCC here.
        ct_step_mm: shift between neighbouring planes of the CT; None if none was found.
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
    ct_step_mm: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A grade and the reasons for it, the most severe first; the reason for `trusted` gives the supporting measures."""

    grade: Grade
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the verdict; docs/own-data.md says how they were chosen.

    Attributes:
        trusted_ncc, failed_ncc: smallest NCC of a trusted registration; below `failed_ncc` it has failed.
        trusted_sd_mm, failed_sd_mm: largest `projection_sd_mm` of a trusted one; above `failed_sd_mm` it has failed.
        least_coverage: smallest coverage.
        far_mm, far_deg: largest distance and angle from the expected pose.
        mirrored_margin: a registration has failed if the mirrored image has an NCC higher by this margin.
        between_views_mm: largest `between_views_mm`.
        least_dice: smallest `roi_dice`.
        least_held: smallest fraction of kicks that came back.
        rival_deficit: NCC by which another pose must be worse.
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
    """The verdict on one X-ray."""
    failed, check = [], []
    flipped = evidence.mirrored_ncc is not None and evidence.mirrored_ncc > evidence.ncc + limits.mirrored_margin
    if flipped:
        failed.append(
            f"flipped left to right, the X-ray fits better (NCC {evidence.mirrored_ncc:.2f} instead of "
            f"{evidence.ncc:.2f}): the X-ray or the CT is mirrored; give --mirror, or correct the wrong file"
        )
    if not evidence.bone_shown:
        failed.append("from there the CT shows no bone in the picture")
    if evidence.coverage < limits.least_coverage:
        failed.append(f"the CT covers {evidence.coverage:.0%} of the image, less than {limits.least_coverage:.0%}")
    if evidence.ncc < limits.failed_ncc:
        failed.append(f"the X-ray does not agree with the CT at this pose (NCC {evidence.ncc:.2f})")
    elif evidence.ncc < limits.trusted_ncc:
        check.append(f"the X-ray agrees only roughly with the CT at this pose (NCC {evidence.ncc:.2f})")
    if evidence.projection_sd_mm > limits.failed_sd_mm:
        sd = f"sd {evidence.projection_sd_mm:.2f} mm"
        failed.append(f"the X-ray constrains the position of the bone's projection only weakly ({sd})")
    elif evidence.projection_sd_mm > limits.trusted_sd_mm:
        check.append(
            f"the position of projected bone is uncertain (sd {evidence.projection_sd_mm:.2f} mm on the detector)"
        )
    if evidence.rival_mm is not None and evidence.rival_gain > -limits.rival_deficit:
        ncc = evidence.ncc + evidence.rival_gain
        check.append(f"another pose, {evidence.rival_mm:.1f} mm away on the detector, fits as well (NCC {ncc:.2f})")
    elif evidence.held is not None and evidence.held < limits.least_held:
        check.append(f"it came back from {evidence.held:.0%} of small kicks only: is there a better pose beside it?")
    if evidence.ct_step_mm is not None:
        check.append(f"planes of the CT are shifted by {evidence.ct_step_mm:.0f} mm against their neighbours")
    if not evidence.converged:
        check.append("the optimization has not converged")
    if evidence.from_expected_mm > limits.far_mm or evidence.turned_deg > limits.far_deg:
        moved = f"{evidence.from_expected_mm:.0f} mm and {evidence.turned_deg:.0f}°"
        check.append(f"the pose is {moved} from the one stated by the device: check its distances and angles")
    if evidence.between_views_mm is not None and evidence.between_views_mm > limits.between_views_mm:
        apart = f"{evidence.between_views_mm:.1f} mm on the detector"
        cause = "the patient moved between the views, or the stated angles are wrong"
        check.append(f"registered alone, this view moves the pose by {apart}: {cause}")
    if evidence.roi_dice is not None and evidence.roi_dice < limits.least_dice:
        check.append(f"the segmented bones do not overlap with those of the CT (Dice {evidence.roi_dice:.2f})")
    if failed:
        return Verdict(Grade.FAILED, tuple(failed + check))
    if check:
        return Verdict(Grade.CHECK, tuple(check))
    good = f"NCC {evidence.ncc:.2f}, position of projected bone to {evidence.projection_sd_mm:.2f} mm (sd)"
    return Verdict(Grade.TRUSTED, (good,))


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst of several verdicts."""
    order = [Grade.FAILED, Grade.CHECK, Grade.TRUSTED]
    return min(verdicts, key=lambda verdict: order.index(verdict.grade))
