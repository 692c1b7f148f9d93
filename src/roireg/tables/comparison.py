"""What a row of Table 3 or of the ablation compares, by the names of methods."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A row that compares: methods, one a seed, without and with what is asked about."""

    without: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A row of the ablation: one method a seed, and those that it is compared with (None for the first row of all)."""

    optimizer: str
    weights: str
    roi: str
    methods: tuple[str, ...]
    reference: tuple[str, ...] | None
