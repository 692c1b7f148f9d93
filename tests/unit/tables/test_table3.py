"""Table 3: pairs on the same X-rays, differences, counts, and the paper's figures."""

import numpy as np
import pandas as pd
import pytest

from roireg.metrics.statistics import paired_change
from roireg.tables.comparison import Pair
from roireg.tables.paper import PAPER_TABLE3
from roireg.tables.table3 import TABLE3_NOTES, table3
from roireg.workflow.comparisons import comparison_methods, comparison_starts, seed_parts, table3_pairs, with_seed

WITHOUT_MM = {("P01", "000"): 5.0, ("P01", "001"): 0.5, ("P02", "000"): 8.0, ("P02", "001"): 3.0}
WITH_MM = {("P01", "000"): 0.8, ("P01", "001"): 0.55, ("P02", "000"): 9.0, ("P02", "001"): 0.9}
PAIRS = {"ssim": Pair(("plain",), ("guided",)), "mncc": Pair(("guided",), ("plain",))}


def registrations(method: str, mpd_mm: dict[tuple[str, str], float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "specimen": specimen,
            "projection": projection,
            "method": method,
            "init": "ours",
            "init_mpd_mm": 12.0,
            "mpd_mm": error,
            "mpd_legacy": 0.2 * error,
            "tre_mm": 2 * error,
            "rotation_deg": error / 4,
            "translation_mm": error + 1,
            "seconds": 3.0,
        }
        for (specimen, projection), error in mpd_mm.items()
    )


@pytest.fixture
def rows() -> pd.DataFrame:
    # In another order, so that only a join by name pairs them.
    return pd.concat([registrations("plain", WITHOUT_MM), registrations("guided", WITH_MM).iloc[::-1]])


def test_the_change_is_of_the_same_x_rays(rows):
    change = paired_change(rows[rows["method"] == "plain"], rows[rows["method"] == "guided"], seed=0)
    differences = np.array([WITH_MM[key] - WITHOUT_MM[key] for key in WITHOUT_MM])
    assert change["difference_median"] == pytest.approx(np.median(differences))
    assert (change["better"], change["worse"]) == (2, 1)
    assert differences.min() <= change["difference_ci_low"] <= change["difference_ci_high"] <= differences.max()
    # Medians of the specimens: -2.075 and -0.55. Two of four patterns of signs are as far from zero.
    assert (change["paired_p"], change["paired_p_smallest"]) == (0.5, 0.5)


def test_a_missing_x_ray_is_no_pair(rows):
    with pytest.raises(ValueError, match="same X-rays"):
        paired_change(rows[rows["method"] == "plain"], rows[rows["method"] == "guided"].iloc[1:], seed=0)


def test_rows_are_the_similarities_with_both_methods_and_the_papers_figures(rows):
    table = table3(rows, PAIRS, seed=0)
    assert list(table.numbers["similarity"]) == ["ssim", "mncc"]
    ssim, mncc = table.numbers.to_dict("records")
    assert (ssim["srr_1mm_without"], ssim["srr_1mm_with"]) == (0.25, 0.75)
    assert (mncc["srr_1mm_without"], mncc["srr_1mm_with"]) == (0.75, 0.25)
    assert ssim["difference_median"] == -mncc["difference_median"]
    shown = table.shown.to_dict("records")[0]
    assert shown["Similarity"] == "SSIM"
    assert shown["SRR by mpd - / +"] == "25% / 75%"
    assert shown["SRR by mrpd × 0.194 - / +"] == "50% / 75%"
    assert shown["better / worse"] == "2 / 1"
    assert shown["paper: mTRE mm - / +"] == "13.62 ± 8.63 / 5.55 ± 5.14"
    assert shown["paper: SRR - / +"] == "2% / 10%"
    assert shown["paper: RE ° - / +"] == "5.6 ± 3.2 / 2.1 ± 1.7"
    assert shown["paper: TE mm - / +"] == "48.7 ± 26.2 / 14.7 ± 13.3"
    assert shown["p (smallest possible)"] == "0.5 (0.5)"
    assert shown["difference mm"].startswith("-1.02 (")
    assert "– / –" in table.text.splitlines()[3]
    assert any("negative where the term helps" in note for note in TABLE3_NOTES)


def test_the_papers_table_has_its_seven_similarities():
    assert list(PAPER_TABLE3) == ["local_ncc", "global_ncc", "gradient_ncc", "ssim", "mse", "mae", "psnr"]


def test_a_registration_without_a_result_is_worse_than_any_other():
    failed = WITH_MM | {("P01", "000"): np.nan}
    rows = pd.concat([registrations("plain", WITHOUT_MM), registrations("guided", failed)])
    (numbers,) = table3(rows, {"ssim": PAIRS["ssim"]}, seed=0).numbers.to_dict("records")
    assert (numbers["better"], numbers["worse"]) == (1, 2)
    assert (numbers["failures_without"], numbers["failures_with"]) == (0, 1)
    assert (numbers["srr_1mm_with"], numbers["srr_10mm_with"]) == (0.5, 0.75)
    shown = table3(rows, {"ssim": PAIRS["ssim"]}, seed=0).shown.iloc[0]
    assert shown["mpd mm - / +"] == "4.12 ± 3.17 / –"
    assert shown["starts"] == "4 / 4, 1 without a result"


WEIGHTS = "coverage"
TABLE3 = {
    "similarities": ["ssim", "mse"],
    "init": "ours",
    "roi": "unet",
    "optimizer": "adam",
    "weights": WEIGHTS,
    "seeds": [0, 2],
    "xrays_per_specimen": 3,
}
NO_ABLATION = {"optimizers": [], "init": "ours", "seeds": [0]}
STARTS = {"ours": {"type": "encoder", "encoder": "net"}, "perturbed": {"type": "perturbed", "rotation_sd_deg": 1.0}}


def test_methods_of_a_pair_differ_in_the_roi_term_only():
    config = {"initial_poses": STARTS, "tables": {"table3": TABLE3, "ablation": NO_ABLATION}}
    pairs, methods = table3_pairs(config), comparison_methods(config)
    assert list(pairs) == ["ssim", "mse"]
    assert set(methods) == {name for pair in pairs.values() for name in (*pair.without, *pair.changed)}
    for similarity, pair in pairs.items():
        for without, with_rois, init in zip(pair.without, pair.changed, ("ours", "ours@2"), strict=True):
            shared = {key: value for key, value in methods[without].items() if key not in ("label", "roi")}
            assert (methods[without]["roi"], methods[with_rois]["roi"]) == ("none", "unet")
            assert shared == {key: value for key, value in methods[with_rois].items() if key not in ("label", "roi")}
            assert shared == {
                "init": init,
                "similarity": similarity,
                "optimizer": "adam",
                "weights": WEIGHTS,
                "xrays": 3,
            }


def test_a_seed_is_another_training_of_the_encoder_or_other_random_numbers():
    config = {"initial_poses": STARTS, "tables": {"table3": TABLE3, "ablation": NO_ABLATION}}
    assert comparison_starts(config) == {"ours@2": {"type": "encoder", "encoder": "net@2"}}
    config["tables"]["table3"] = {**TABLE3, "init": "perturbed"}
    assert comparison_starts(config) == {"perturbed@2": STARTS["perturbed"]}
    assert seed_parts("ours@2") == ("ours", 2)
    assert seed_parts(with_seed("ours", 0)) == ("ours", 0)


def test_seeds_of_a_start_are_paired_by_the_start():
    without, with_rois = registrations("plain", WITHOUT_MM), registrations("guided", WITH_MM)
    other = [table.assign(init="ours@1", mpd_mm=table["mpd_mm"] + 1) for table in (without, with_rois)]
    one, two = (
        paired_change(without, with_rois, 0),
        paired_change(pd.concat([without, other[0]]), pd.concat([other[1], with_rois]), 0),
    )
    assert (two["better"], two["worse"]) == (2 * one["better"], 2 * one["worse"])
    assert two["difference_median"] == pytest.approx(one["difference_median"])
