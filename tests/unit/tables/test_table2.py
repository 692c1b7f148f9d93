"""Table 2: means over images of means over ROIs, intervals over specimens, and the paper's figures beside ours."""

import numpy as np
import pandas as pd
import pytest

from roireg.tables.paper import PAPER_TABLE2
from roireg.tables.table2 import TABLE2_NOTES, image_dice, table2

NAN = float("nan")
SEGMENTERS = {
    "unet": {"label": "U-Net", "type": "unet", "train_on": ["xrays", "drrs"]},
    "sam": {"label": "MedSAM (tiny)", "type": "medsam", "train_on": ["drrs"]},
}
ROIS = ("left femur", "sacrum")


def rows_of(segmenter: str, image: str, dice: dict[tuple[str, str], tuple[float, ...]]) -> list[dict]:
    """Rows from the Dice of both ROIs by specimen and projection."""
    return [
        {"specimen": specimen, "segmenter": segmenter, "projection": projection, "image": image, "roi": roi, "dice": d}
        for (specimen, projection), scores in dice.items()
        for roi, d in zip(ROIS, scores, strict=True)
    ]


# The second ROI of P01/001 is not shown; P02/001 has no truth.
XRAYS = {
    ("P01", "000"): (0.9, 0.7),
    ("P01", "001"): (0.6, NAN),
    ("P02", "000"): (0.4, 0.2),
    ("P02", "001"): (NAN, NAN),
}
DRRS = {
    ("P01", "000"): (0.95, 0.85),
    ("P01", "001"): (0.9, 0.8),
    ("P02", "000"): (0.8, 0.6),
    ("P02", "001"): (1.0, 1.0),
}
NOWHERE = dict.fromkeys(XRAYS, (NAN, NAN))


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        [
            *rows_of("sam", "xray", NOWHERE),
            *rows_of("sam", "drr", DRRS),
            *rows_of("unet", "xray", XRAYS),
            *rows_of("unet", "drr", DRRS),
        ]
    )


def line(table, segmenter: str, image: str) -> pd.Series:
    numbers = table.numbers
    (found,) = numbers[(numbers["segmenter"] == segmenter) & (numbers["image"] == image)].to_dict("records")
    return found


def shown(table, label: str, image: str) -> dict:
    lines = table.shown
    (found,) = lines[(lines["Segmenter"] == label) & (lines["image"] == image)].to_dict("records")
    return found


def test_the_dice_of_an_image_is_the_mean_over_the_rois_that_its_truth_shows():
    dice = image_dice(pd.DataFrame(rows_of("unet", "xray", XRAYS)))
    assert dice.set_index(["specimen", "projection"])["dice"].to_dict() == pytest.approx(
        {("P01", "000"): 0.8, ("P01", "001"): 0.6, ("P02", "000"): 0.3}
    )


def test_means_and_deviations_are_over_images(rows):
    found = line(table2(rows, SEGMENTERS, 0), "unet", "xray")
    images = np.array([0.8, 0.6, 0.3])
    assert found["dice_mean"] == pytest.approx(images.mean())
    assert found["dice_sd"] == pytest.approx(images.std(ddof=1))
    assert found["dice_median"] == pytest.approx(0.6)
    assert found["dice_min"] == pytest.approx(0.3)
    assert (found["images"], found["specimens"]) == (3, 2)


def test_each_roi_has_a_column_of_its_mean_over_the_images_that_show_it(rows):
    table = table2(rows, SEGMENTERS, 0)
    found = line(table, "unet", "xray")
    assert found["dice_left_femur"] == pytest.approx(np.mean([0.9, 0.6, 0.4]))
    assert found["dice_sacrum"] == pytest.approx(np.mean([0.7, 0.2]))
    assert shown(table, "U-Net", "X-ray")["left femur / sacrum"] == "0.63 / 0.45"


def test_intervals_are_of_whole_specimens(rows):
    found = line(table2(rows, SEGMENTERS, 0), "unet", "xray")
    # Two specimens: both drawn alike are the ends. Means over images of [P01, P01] and of [P02, P02].
    assert found["dice_mean_ci_low"] == pytest.approx(0.3)
    assert found["dice_mean_ci_high"] == pytest.approx(0.7)


def test_intervals_do_not_narrow_with_images_of_the_same_specimens():
    few = {(f"P{s}", f"{k:03d}"): (0.5 + 0.1 * s,) * 2 for s in range(4) for k in range(2)}
    many = {(f"P{s}", f"{k:03d}"): (0.5 + 0.1 * s,) * 2 for s in range(4) for k in range(40)}
    one = {"unet": SEGMENTERS["unet"]}
    narrow, wide = (line(table2(pd.DataFrame(rows_of("unet", "drr", x)), one, 0), "unet", "drr") for x in (few, many))
    for end in ("dice_mean_ci_low", "dice_mean_ci_high"):
        assert narrow[end] == pytest.approx(wide[end])
    assert wide["dice_mean_ci_high"] - wide["dice_mean_ci_low"] > 0.1


def test_the_seed_decides_the_intervals():
    rng = np.random.default_rng(0)
    scores = {(f"P{s}", "000"): tuple(rng.uniform(0, 1, 2)) for s in range(9)}
    rows = pd.DataFrame(rows_of("unet", "drr", scores))
    one = {"unet": SEGMENTERS["unet"]}
    lows = [line(table2(rows, one, seed), "unet", "drr")["dice_mean_ci_low"] for seed in (0, 0, 1)]
    assert lows[0] == lows[1] != lows[2]


def test_what_people_see_is_what_machines_read(rows):
    table = table2(rows, SEGMENTERS, 0)
    found, numbers = shown(table, "U-Net", "DRR"), line(table, "unet", "drr")
    assert found["Dice"] == f"{numbers['dice_mean']:.2f} ± {numbers['dice_sd']:.2f}"
    assert found["95% interval"] == f"{numbers['dice_mean_ci_low']:.2f} to {numbers['dice_mean_ci_high']:.2f}"
    assert found["median"] == f"{numbers['dice_median']:.2f}"
    assert found["worst"] == f"{numbers['dice_min']:.2f}"
    assert found["images"] == "4"


def test_images_without_any_truth_are_said_to_be_so(rows):
    table = table2(rows, SEGMENTERS, 0)
    found = line(table, "sam", "xray")
    assert (found["images"], found["specimens"]) == (0, 0)
    assert np.isnan(found["dice_mean"])
    told = shown(table, "MedSAM (tiny)", "X-ray")
    assert told["Dice"] == "no masks"
    for column in ("95% interval", "median", "worst", "left femur / sacrum"):
        assert not set(told[column]) - set("–to/ ")
    assert told["images"] == "0"
    # The paper's figure stands nevertheless, and no cell of the table is empty.
    assert told["paper: Dice"] == "0.85 ± 0.07"
    assert not table.shown.isna().any(axis=None)


def test_a_roi_that_no_truth_shows_does_not_count(rows):
    rows.loc[(rows["segmenter"] == "unet") & (rows["image"] == "xray") & (rows["roi"] == "sacrum"), "dice"] = NAN
    table = table2(rows, SEGMENTERS, 0)
    found = line(table, "unet", "xray")
    assert found["dice_mean"] == pytest.approx(np.mean([0.9, 0.6, 0.4]))
    assert np.isnan(found["dice_sacrum"])
    told = shown(table, "U-Net", "X-ray")["left femur / sacrum"]
    assert told.startswith("0.63 / ")
    assert "nan" not in told


def test_a_single_image_has_no_deviation(rows):
    one = rows[(rows["projection"] == "000") & (rows["specimen"] == "P01")]
    table = table2(one, SEGMENTERS, 0)
    told = shown(table, "U-Net", "X-ray")["Dice"]
    assert told.startswith("0.80 ")
    assert "nan" not in told


def test_the_papers_figures_stand_by_type_of_network_and_of_image(rows):
    table = table2(rows, SEGMENTERS, 0)
    by_label = {entry["label"]: entry["type"] for entry in SEGMENTERS.values()}
    kinds = {"X-ray": "xray", "DRR": "drr"}
    for _, found in table.shown.iterrows():
        assert found["paper: Dice"] == PAPER_TABLE2[by_label[found["Segmenter"]], kinds[found["image"]]]
    # Table 2 of the paper.
    assert PAPER_TABLE2 == {
        ("unet", "xray"): "0.81 ± 0.07",
        ("unet", "drr"): "0.80 ± 0.07",
        ("medsam", "xray"): "0.85 ± 0.07",
        ("medsam", "drr"): "0.85 ± 0.06",
    }


def test_rows_are_in_the_order_of_the_segmenters_and_say_what_these_learned_from(rows):
    table = table2(rows, SEGMENTERS, 0)
    assert table.shown[["Segmenter", "image"]].to_numpy().tolist() == [
        ["U-Net", "X-ray"],
        ["U-Net", "DRR"],
        ["MedSAM (tiny)", "X-ray"],
        ["MedSAM (tiny)", "DRR"],
    ]
    assert table.shown["learned from"].tolist() == ["X-rays and DRRs"] * 2 + ["DRRs"] * 2
    (only,) = table2(rows, {"sam": SEGMENTERS["sam"]}, 0).numbers["segmenter"].unique()
    assert only == "sam"


def test_the_markdown_has_a_line_for_every_segmenter_and_kind_of_image(rows):
    table = table2(rows, SEGMENTERS, 0)
    header, rule, *body = table.text.splitlines()
    assert "left femur / sacrum" in header
    assert set(rule) == set("|-")
    assert len(body) == 4
    for found, (label, image) in zip(
        body, [("U-Net", "X-ray"), ("U-Net", "DRR"), ("MedSAM (tiny)", "X-ray"), ("MedSAM (tiny)", "DRR")], strict=True
    ):
        cells = [cell.strip() for cell in found.strip("|").split("|")]
        assert cells[0] == label
        assert cells[2] == image
        assert len(cells) == len(header.strip("|").split("|"))


def test_notes_say_what_was_measured_and_how_medsam_is_prompted():
    notes = " ".join(TABLE2_NOTES)
    for said in (
        "MedSAM is prompted with the bounding box of each ROI's true mask",
        "over specimens",
        "trained without that specimen",
        "DRR",
        "comparable only with a run on DeepFluoro",
    ):
        assert said in notes
