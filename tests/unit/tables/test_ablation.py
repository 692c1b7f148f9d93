"""The ablation: which rows there are, with what each is compared, and the figures of a row."""

import pandas as pd
import pytest

from roireg.tables.ablation import ABLATION_NOTES, ablation
from roireg.workflow.comparisons import ablation_cells, comparison_methods

CONFIG = {
    "optimizers": {"adam": {"type": "adam"}, "gn": {"type": "gauss_newton"}},
    "roi_terms": {"unet": {"type": "dice"}, "mask": {"type": "mask"}},
    "initial_poses": {"ours": {"type": "encoder", "encoder": "ours"}},
    "tables": {
        "table3": {
            "similarities": [],
            "init": "ours",
            "seeds": [0],
            "optimizer": "adam",
            "weights": "plain",
            "xrays_per_specimen": None,
        },
        "ablation": {
            "optimizers": ["adam", "gn"],
            "init": "ours",
            "similarity": "mncc",
            "rois": ["unet", "mask"],
            "weights": ["plain", "weighted"],
            "seeds": [0, 1],
            "xrays_per_specimen": None,
        },
    },
}


def cells_by_place() -> dict:
    return {(cell.optimizer, cell.weights, cell.roi): cell for cell in ablation_cells(CONFIG)}


def test_a_dice_term_has_no_row_with_gauss_newton():
    assert list(cells_by_place()) == [
        *(("adam", weights, roi) for weights in ("plain", "weighted") for roi in ("none", "unet", "mask")),
        *(("gn", weights, roi) for weights in ("plain", "weighted") for roi in ("none", "mask")),
    ]


@pytest.mark.parametrize(
    ("place", "reference"),
    [
        (("adam", "plain", "none"), None),
        (("adam", "plain", "unet"), ("adam", "plain", "none")),
        (("adam", "weighted", "none"), ("adam", "plain", "none")),
        (("adam", "weighted", "mask"), ("adam", "weighted", "none")),
        (("gn", "plain", "none"), ("adam", "plain", "none")),
        (("gn", "weighted", "none"), ("gn", "plain", "none")),
        (("gn", "weighted", "mask"), ("gn", "weighted", "none")),
    ],
)
def test_a_row_is_compared_with_the_one_that_lacks_one_thing(place, reference):
    cells = cells_by_place()
    assert cells[place].reference == (None if reference is None else cells[reference].methods)


def test_methods_are_what_the_rows_say():
    methods = comparison_methods(CONFIG)
    for (optimizer, weights, roi), cell in cells_by_place().items():
        for name, init in zip(cell.methods, ("ours", "ours@1"), strict=True):
            assert methods[name] == {
                "label": name,
                "init": init,
                "similarity": "builtin" if optimizer == "gn" else "mncc",
                "roi": roi,
                "optimizer": optimizer,
                "weights": weights,
                "xrays": None,
            }


def registrations(method: str, init: str, errors_mm: list[float]) -> pd.DataFrame:
    error = pd.Series(errors_mm)
    return pd.DataFrame(
        {
            "specimen": ["P01", "P01", "P02"],
            "projection": ["000", "001", "000"],
            "method": method,
            "init": init,
            "init_mpd_mm": 9.0,
            "mpd_mm": error,
            "mpd_legacy": error,
            "tre_mm": error,
            "rotation_deg": error,
            "translation_mm": error,
            "seconds": 2.0,
        }
    )


def test_a_row_holds_all_seeds_and_the_change_against_its_reference():
    config = {**CONFIG, "tables": {**CONFIG["tables"]}}
    config["tables"]["ablation"] = {**CONFIG["tables"]["ablation"], "optimizers": ["adam"], "rois": ["unet"]}
    cells = ablation_cells(config)
    change_mm = {("plain", "none"): 0.0, ("plain", "unet"): -0.5, ("weighted", "none"): -1.5, ("weighted", "unet"): 0.0}
    rows = pd.concat(
        registrations(name, init, [base + change_mm[cell.weights, cell.roi] for base in (2.0, 3.0, 4.0)])
        for cell in cells
        for name, init in zip(cell.methods, ("ours", "ours@1"), strict=True)
    )
    table = ablation(rows, cells, seed=0)
    assert table.numbers["difference_median"].tolist()[1:] == pytest.approx([-0.5, -1.5, 1.5])
    assert table.numbers["better"].tolist()[1:] == [6, 6, 0]
    assert table.numbers["worse"].tolist()[1:] == [0, 0, 6]
    assert table.numbers["srr_1mm"].tolist() == pytest.approx([0, 0, 1 / 3, 0])
    assert table.shown["starts"].tolist() == ["6"] * 4
    assert table.shown["compared with"].tolist() == [
        "–",
        "adam, plain, ROI none",
        "adam, plain, ROI none",
        "adam, weighted, ROI none",
    ]
    assert any("median over X-rays" in note for note in ABLATION_NOTES)
