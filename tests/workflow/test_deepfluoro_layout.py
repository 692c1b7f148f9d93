"""A file in DeepFluoro's exact layout through the whole workflow: checked, prepared, trained, registered, tabulated."""

import pandas as pd
import pytest
from deepfluoro_file import SPECIMENS, XRAYS, write_deepfluoro_file

from roireg.data.records import read_specimen

OTHER_ORDER = [*reversed(SPECIMENS)]
# The smoke run's sizes, the paper's shift, and few methods.
OVERLAY = {
    "dataset": {"name": "real", "path": "real.h5", "specimens": OTHER_ORDER},
    "prepare": {"crop_px": 6, "ct_shift_voxels": 0.5},
    "encoders": {"ours": {"epochs": 1}},
    "bones": {"methods": ["perturbed+gn"], "names": ["left femur"], "base": []},
    "tables": {
        "table1": {"methods": ["ours", "perturbed+gn"]},
        "table2": {"segmenters": ["unet"]},
        "table3": {"similarities": []},
        "ablation": {"optimizers": []},
    },
    "initial_poses": {"perturbed": {"rotation_sd_deg": 1.5, "translation_sd_mm": 3.0}},
    "figures": {
        "methods": ["ours"],
        "case_study": {"segmenters": ["unet"], "methods": []},
        "capture_range": {"methods": []},
        "learning_curves": {"encoders": ["ours"]},
    },
}


@pytest.fixture
def run(fresh):
    write_deepfluoro_file(fresh.folder / "real.h5")
    result = fresh.run(overlays=(OVERLAY,))
    assert result.status == 0, result.output
    return fresh.folder / "results/real", result


def test_the_real_layout_goes_from_end_to_end(run):
    out, result = run
    table1 = pd.read_csv(out / "tables/table1.csv")
    assert table1["method"].tolist() == ["ours", "perturbed+gn"]
    assert (table1["xrays"] == len(SPECIMENS) * XRAYS).all()
    assert pd.read_csv(out / "tables/table2.csv").shape[0] > 0
    assert (out / "report.html").stat().st_size > 100_000
    # The CT covers the view, and the shift is right: Gauss-Newton finds the truth.
    rows = pd.concat(pd.read_csv(out / f"registrations/perturbed+gn/{name}.csv") for name in SPECIMENS)
    assert rows["mpd_mm"].median() < 0.3 * rows["init_mpd_mm"].median()
    bones = pd.concat(pd.read_csv(out / f"bones/perturbed+gn/{name}.csv") for name in SPECIMENS)
    assert bones["bone"].tolist() == ["left femur"] * len(SPECIMENS)
    # The femur has turned, so that the pelvis's pose is not its own.
    assert (bones["init_mpd_mm"] > 1).all()
    assert (bones["mpd_mm"] < bones["init_mpd_mm"]).all()
    assert len(pd.read_csv(out / "tables/bones.csv")) == 1
    patient, xrays = read_specimen(out / f"specimens/{SPECIMENS[0]}.h5")
    assert patient.label_names[7] == "lower-sacrum"
    assert len(xrays) == XRAYS
    page = (out / "check/check.md").read_text()
    assert "prepare.ct_shift_voxels is correctly 0.5" in page
    assert "**wrong**" not in page
    assert page.index(OTHER_ORDER[0]) < page.index(OTHER_ORDER[1])
    for name in SPECIMENS:
        assert (out / f"check/{name}.png").stat().st_size > 10_000
    assert "says:" not in result.output
