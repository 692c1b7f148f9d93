"""Figures and the report of equal results are equal bytes, whatever the day and Python's random order of sets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# A process of its own makes everything from the same numbers: figures of curves, bars, images and text, and the page.
CODE = """
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from volumes import phantom_specimen

from roireg.data.pose_results import TraceRecord
from roireg.figures.errors import capture_range, cumulative_errors
from roireg.figures.overlay import overlay_figure
from roireg.figures.style import save_figure
from roireg.geometry.poses import perturb
from roireg.metrics.pose_errors import registration_errors
from roireg.report.gallery import Gallery, add_specimen
from roireg.report.page import figure_section, page, run_times, table_section

folder = Path(sys.argv[1])
patient, xrays = phantom_specimen(1)
xray = xrays[0]
twist = torch.tensor([0.05, 0.0, 0.02, 4.0, -3.0, 6.0], dtype=torch.float64)
end = perturb(xray.true_pose, twist, patient.center_mm)
errors = registration_errors(end, xray.true_pose, xray.camera, patient.landmarks_mm, patient.center_mm)
flat = {f"pose_{r}{c}": float(end[r, c]) for r in range(3) for c in range(4)}
shared = {"init": "perturbed", "init_mpd_mm": 9.0, "objective": 0.1, "seconds": 2.0}
names = {"specimen": patient.name, "method": "one", "projection": xray.name}
rows = pd.DataFrame([{**names, **shared, **errors, **flat}])
labels = {"one": "One"}
figures = {
    "cumulative": cumulative_errors(rows, labels),
    "capture": capture_range(rows, labels, (0, 5, 10, 20), seed=0),
    "overlay": overlay_figure(patient, xray, end, "µ and $x$"),
}
for name, figure in figures.items():
    save_figure(figure, [folder / f"{name}.{kind}" for kind in ("pdf", "png", "svg")], 60)
gallery = Gallery()
trace = TraceRecord("one", torch.stack([end, end]), np.zeros(2), np.zeros(2), 1, {})
add_specimen(gallery, patient, xrays, rows, {"one": {xray.name: trace}}, labels)
sections = [figure_section(name, "", folder / f"{name}.png") for name in figures]
tables = [table_section("Table", "| A |\\n| --- |\\n| 1 |\\n")]
times = run_times(rows, {"U-Net": [100.0]}, labels)
html = page("phantom", tables, sections, gallery, "All 1.", times, "key: 1")
(folder / "report.html").write_text(html, encoding="utf-8")
"""


def made(folder: Path, day: int) -> dict[str, bytes]:
    """Contents by name of what a process makes on a day since 1970, which is also the seed of Python's hashes."""
    folder.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")]),
        "PYTHONHASHSEED": str(day),
        "SOURCE_DATE_EPOCH": str(day * 86400),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("bytes")
    return made(folder / "one", 1), made(folder / "two", 2)


def test_figures_and_report_of_equal_results_are_equal_bytes(both):
    one, two = both
    assert len(one) == 10
    assert set(one) == set(two)
    assert [name for name in one if one[name] != two[name]] == []
