"""Names of the methods that a row of Table 3 or of the ablation compares."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A row of Table 3: methods without and with the ROI term, one method for each seed of the initial pose."""

    without: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A row of the ablation.

    Attributes:
        optimizer, weights, roi: what the row's methods have in common.
        methods: one method for each seed of the initial pose.
        reference: methods that the row is compared with; None for the first row, which has no comparison.
    """

    optimizer: str
    weights: str
    roi: str
    methods: tuple[str, ...]
    reference: tuple[str, ...] | None
