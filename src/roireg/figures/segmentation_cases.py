"""Which of a segmenter's results a figure shows: the typical one and the worst."""

from collections.abc import Mapping, Sequence
from operator import itemgetter

from roireg.figures.anatomy import SegmentationCase, SegmentedImage
from roireg.segment.evaluate import DRR, XRAY, Segmented


def typical_and_worst(results: Mapping[str, Sequence[Segmented]], label: str) -> list[SegmentationCase]:
    """The X-rays of median and of least Dice; by the DRRs' Dice where the X-rays have no masks.

    Args:
        results: X-rays and DRRs of the segmenter, by specimen.
        label: the segmenter's.
    """
    pairs = [
        (specimen, {one.kind: one for one in found if one.projection == projection})
        for specimen, found in results.items()
        for projection in dict.fromkeys(one.projection for one in found)
    ]
    judged_by = XRAY if any(_mean_dice(pair[XRAY]) is not None for _, pair in pairs) else DRR
    judged = [(_mean_dice(pair[judged_by]), specimen, pair) for specimen, pair in pairs]
    ranked = sorted(((dice, specimen, pair) for dice, specimen, pair in judged if dice is not None), key=itemgetter(0))
    chosen = {"typical": ranked[len(ranked) // 2], "worst": ranked[0]}
    return [
        SegmentationCase(
            f"{label}, {rank}", specimen, pair[XRAY].projection, _segmented(pair[XRAY]), _segmented(pair[DRR])
        )
        for rank, (_, specimen, pair) in chosen.items()
    ]


def _mean_dice(one: Segmented) -> float | None:
    """Over the ROIs that the truth shows; None where there is none."""
    known = one.dice[~one.dice.isnan()]
    return float(known.mean()) if len(known) else None


def _segmented(one: Segmented) -> SegmentedImage:
    return SegmentedImage(one.image, one.truth, one.found, _mean_dice(one))
