"""The paper's run, with all its networks at their size, on the demo's data and the CPU: a few steps of everything."""

import json

import pandas as pd
import pytest

# Numbers of steps, nothing else of config/deepfluoro.yaml; and the demo's data in place of DeepFluoro's.
FEW = {"epochs": 1, "batches_per_epoch": 1}
OVERLAY = {
    "dataset": {"name": "paper-on-demo", "source": "demo", "specimens": None},
    "demo": {"specimens": 2, "xrays_per_specimen": 1},
    "synthesize": {"drrs_per_specimen": 2},
    "training": {"gpu": 0},
    "registration": {"gpu": 0},
    "segment": {"unet": FEW, "medsam": FEW},
    "encoders": {"ours": FEW, "diffpose": FEW, "psss": FEW},
    "optimizers": {"adam": {"iterations": 1}, "gauss_newton": {"iterations": 1}},
    "figures": {"case_study": {"specimen": None}},
}


@pytest.mark.slow
def test_the_papers_run_goes_from_end_to_end_on_a_cpu(fresh):
    result = fresh.run("--resources", "mem_mb=20000", base="config/deepfluoro.yaml", overlays=(OVERLAY,))
    assert result.status == 0, result.output
    out = fresh.folder / "results/paper-on-demo"
    table1 = pd.read_csv(out / "tables/table1.csv")
    assert table1["method"].tolist() == [
        *("diffdrr", "psss", "diffpose", "wsreg", "wsreg-medsam", "ours", "ours+gn", "multi_start+gn")
    ]
    assert (table1["xrays"] == 2).all()
    assert len(pd.read_csv(out / "tables/table3.csv")) == 7
    assert (out / "report.html").stat().st_size > 100_000
    medsam = out / "segmenters/medsam/demo-01/model.safetensors"
    # ViT-B has 91 million weights, ResNet-18 11.
    assert medsam.stat().st_size > 300e6
    assert (out / "encoders/ours/demo-01/model.safetensors").stat().st_size > 40e6
    metrics = json.loads((out / "segmenters/medsam/demo-01/metrics.json").read_text())
    assert len(metrics["learning_curve"]) == 1
