"""Conditions of the demo: everything is done for each, in folders of their own, and one report shows all."""

import json
import re

import numpy as np
import pytest

from roireg.data.records import read_specimen

CONDITIONS = {"conditions": {"covered": {"ct_below_landmarks_mm": 90}, "truncated": {"ct_below_landmarks_mm": 4}}}
# What needs no network, of one X-ray of one specimen: a job takes longer to start than to run.
SMALL = {
    "dataset": {"name": "both"},
    "demo": {"specimens": 1, "xrays_per_specimen": 1},
    "bones": {"methods": []},
    "tables": {
        "table1": {"methods": ["diffdrr"]},
        "table2": {"segmenters": []},
        "table3": {"similarities": []},
        "ablation": {"optimizers": []},
    },
    "figures": {
        "methods": ["diffdrr"],
        "case_study": {"methods": []},
        "capture_range": {"methods": []},
        "learning_curves": {"encoders": []},
    },
}


def table(condition: str) -> str:
    return f"results/both/{condition}/tables/table1.md"


def test_each_condition_has_its_own_cts_x_rays_and_tables(fresh):
    tables = [table(condition) for condition in CONDITIONS["conditions"]]
    result = fresh.run(*tables, overlays=(SMALL, CONDITIONS))
    assert result.status == 0, result.output
    out = fresh.folder / "results/both"
    lowest = {}
    images = {}
    for condition in CONDITIONS["conditions"]:
        patient, xrays = read_specimen(out / condition / "specimens/demo-01.h5")
        lowest[condition] = float(patient.volume.volume_from_voxel[2, 3])
        images[condition] = xrays[0].image.numpy()
        below = CONDITIONS["conditions"][condition]["ct_below_landmarks_mm"]
        told = f"Condition {condition}: CTs end {below} mm below the lowest landmark"
        assert told in (fresh.folder / table(condition)).read_text()
    assert lowest["truncated"] - lowest["covered"] > 80
    np.testing.assert_array_equal(images["covered"], images["truncated"])
    assert "Nothing to be done" in fresh.run(*tables, overlays=(SMALL, CONDITIONS)).output
    one_more = {"conditions": {"half": {"ct_below_landmarks_mm": 40}}}
    jobs = fresh.plan(*tables, table("half"), overlays=(SMALL, CONDITIONS, one_more)).jobs
    assert jobs["make_demo_dataset"] == 1
    assert jobs["register"] == 1
    changed = {"conditions": {"covered": {"ct_below_landmarks_mm": 80}}}
    jobs = fresh.plan(*tables, overlays=(SMALL, CONDITIONS, changed)).jobs
    assert jobs["prepare_specimen"] == 1


@pytest.mark.slow
def test_one_report_shows_all_conditions(fresh):
    result = fresh.run(overlays=(SMALL, CONDITIONS))
    assert result.status == 0, result.output
    page = (fresh.folder / "results/both/report.html").read_text()
    for title in ("covered: Table 1: methods", "truncated: Table 1: methods", "covered: Figure 4"):
        assert title in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    shown = {(entry["specimen"], entry["method"]) for entry in data["entries"]}
    assert shown == {(f"{condition}: demo-01", "diffdrr") for condition in ("covered", "truncated")}


def test_conditions_are_the_demos(fresh):
    overlay = {"dataset": {"source": "deepfluoro", "specimens": ["a"]}, "deepfluoro": {"accept_license": True}}
    result = fresh.plan(overlays=(overlay, CONDITIONS))
    assert result.status == 1
    assert "conditions are changes of the demo data, but the run uses another dataset" in result.output
