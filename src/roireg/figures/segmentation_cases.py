"""Selects the results of a segmenter that a figure shows: the typical one and the worst."""

from collections.abc import Mapping, Sequence

from roireg.figures.anatomy import SegmentationCase, SegmentedImage
from roireg.segment.evaluate import DRR, XRAY, Segmented


def typical_and_worst(results: Mapping[str, Sequence[Segmented]], label: str) -> list[SegmentationCase]:
    """The X-rays of median and of lowest Dice. If no X-ray has a true mask, the Dice of the DRRs is ranked instead.

    Args:
        results: segmented X-rays and DRRs, by specimen.
        label: label of the segmenter.
    """
    pairs = [
        (specimen, {image.kind: image for image in images if image.projection == projection})
        for specimen, images in results.items()
        for projection in dict.fromkeys(image.projection for image in images)
    ]
    judged_by = XRAY if any(_mean_dice(pair[XRAY]) is not None for _, pair in pairs) else DRR
    ranked = sorted(
        (pair for pair in pairs if _mean_dice(pair[1][judged_by]) is not None),
        key=lambda pair: _mean_dice(pair[1][judged_by]),
    )
    chosen = {"typical": ranked[len(ranked) // 2], "worst": ranked[0]}
    return [
        SegmentationCase(
            f"{label}, {rank}", specimen, pair[XRAY].projection, _segmented(pair[XRAY]), _segmented(pair[DRR])
        )
        for rank, (specimen, pair) in chosen.items()
    ]


def _mean_dice(segmented: Segmented) -> float | None:
    """Mean Dice over the ROIs that the true mask contains; None if it contains none."""
    known = segmented.dice[~segmented.dice.isnan()]
    return float(known.mean()) if len(known) else None


def _segmented(segmented: Segmented) -> SegmentedImage:
    return SegmentedImage(segmented.image, segmented.truth, segmented.found, _mean_dice(segmented))
