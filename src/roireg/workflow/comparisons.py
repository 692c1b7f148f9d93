"""Expands Table 3 and the ablation into full entries of `methods` and `initial_poses`."""

from collections.abc import Mapping
from typing import Any

from roireg.register.registry import OPTIMIZERS
from roireg.tables.comparison import Cell, Pair
from roireg.workflow.schema.methods import BUILTIN, NO_ROI


def with_seed(name: str, added: int) -> str:
    """`name@n`, which stands for the entry `name` with n added to the seed; `name` itself for n = 0."""
    return f"{name}@{added}" if added else name


def seed_parts(name: str) -> tuple[str, int]:
    """Name and added seed; the inverse of `with_seed`."""
    plain, _, added = name.partition("@")
    return plain, int(added or 0)


def table3_pairs(config: Mapping[str, Any]) -> dict[str, Pair]:
    """Names of the methods of Table 3, without and with the ROI term, by similarity."""
    table = config["tables"]["table3"]
    return {
        name: Pair(
            tuple(with_seed(f"table3.{name}", n) for n in table["seeds"]),
            tuple(with_seed(f"table3.{name}+{table['roi']}", n) for n in table["seeds"]),
        )
        for name in table["similarities"]
    }


def ablation_cells(config: Mapping[str, Any]) -> list[Cell]:
    """Rows of the ablation: every ROI term with all weights and every optimizer that supports it.

    A row with a ROI term is compared with the row without one under the same weights. A row without a ROI term is
    compared with the row without one under the first weights. The first row of an optimizer is compared with the first
    row of the first optimizer.
    """
    table = config["tables"]["ablation"]
    cells: list[Cell] = []
    for optimizer in table["optimizers"]:
        for weights in table["weights"]:
            for roi in _rois_of(config, optimizer):
                names = _cell_names(config, optimizer, weights, roi)
                cells.append(Cell(optimizer, weights, roi, names, _reference(config, optimizer, weights, roi)))
    return cells


def _rois_of(config: Mapping[str, Any], optimizer: str) -> list[str]:
    """No ROI term, then the ROI terms of the table that the optimizer supports."""
    table, terms = config["tables"]["ablation"], config["roi_terms"]
    allowed = OPTIMIZERS[config["optimizers"][optimizer]["type"]].roi_terms
    return [NO_ROI, *(roi for roi in table["rois"] if terms[roi]["type"] in allowed)]


def _cell_names(config: Mapping[str, Any], optimizer: str, weights: str, roi: str) -> tuple[str, ...]:
    name = f"ablation.{optimizer}.{weights}.{roi}"
    return tuple(with_seed(name, n) for n in config["tables"]["ablation"]["seeds"])


def _reference(config: Mapping[str, Any], optimizer: str, weights: str, roi: str) -> tuple[str, ...] | None:
    table = config["tables"]["ablation"]
    first_optimizer, first_weights = table["optimizers"][0], table["weights"][0]
    if roi != NO_ROI:
        return _cell_names(config, optimizer, weights, NO_ROI)
    if weights != first_weights:
        return _cell_names(config, optimizer, first_weights, NO_ROI)
    if optimizer != first_optimizer:
        return _cell_names(config, first_optimizer, first_weights, NO_ROI)
    return None


def comparison_methods(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries of `methods` for Table 3 and the ablation."""
    methods = {}
    table = config["tables"]["table3"]
    shared = {"optimizer": table["optimizer"], "weights": table["weights"], "xrays": table["xrays_per_specimen"]}
    for similarity, pair in table3_pairs(config).items():
        for names, roi in ((pair.without, NO_ROI), (pair.changed, table["roi"])):
            for name, seed in zip(names, table["seeds"], strict=True):
                start = with_seed(table["init"], seed)
                methods[name] = {"label": name, "init": start, "similarity": similarity, "roi": roi, **shared}
    table = config["tables"]["ablation"]
    for cell in ablation_cells(config):
        builtin = OPTIMIZERS[config["optimizers"][cell.optimizer]["type"]].builtin_similarity
        for name, seed in zip(cell.methods, table["seeds"], strict=True):
            methods[name] = {
                "label": name,
                "init": with_seed(table["init"], seed),
                "similarity": BUILTIN if builtin else table["similarity"],
                "roi": cell.roi,
                "optimizer": cell.optimizer,
                "weights": cell.weights,
                "xrays": table["xrays_per_specimen"],
            }
    return methods


def comparison_starts(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries of `initial_poses` for the seeds of Table 3 and the ablation.

    A start from an encoder gets the encoder trained with that seed; any other start gets other random numbers.
    """
    starts = {}
    for table in (config["tables"]["table3"], config["tables"]["ablation"]):
        entry = config["initial_poses"].get(table["init"])
        for seed in table["seeds"]:
            if seed and entry:
                changed = {"encoder": with_seed(entry["encoder"], seed)} if "encoder" in entry else {}
                starts[with_seed(table["init"], seed)] = {**entry, **changed}
    return starts
