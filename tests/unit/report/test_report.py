"""The report: what its gallery holds, and that the page stands alone whatever names it shows."""

import base64
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from volumes import phantom_specimen

from roireg.data.pose_results import TraceRecord
from roireg.geometry.poses import perturb
from roireg.metrics.pose_errors import registration_errors
from roireg.report.gallery import MEASURES, Gallery, add_specimen, data_uri, from_best_to_worst, measures
from roireg.report.page import figure_section, page, run_times, table_section, versions

LABELS = {"one": "One </script><b>", "two": "Two"}
TWIST = torch.tensor([0.05, 0.0, 0.02, 4.0, -3.0, 6.0], dtype=torch.float64)


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@pytest.fixture(scope="module")
def phantom():
    return phantom_specimen(2)


@pytest.fixture(scope="module")
def patient(phantom):
    return phantom[0]


@pytest.fixture(scope="module")
def xrays(phantom):
    return phantom[1]


@pytest.fixture(scope="module")
def gallery(patient, xrays) -> Gallery:
    rows, traces = [], {method: {} for method in LABELS}
    for xray in xrays:
        start = perturb(xray.true_pose, TWIST, patient.center_mm)
        for method, share in (("one", 0.5), ("two", 0.0)):
            end = perturb(xray.true_pose, share * TWIST, patient.center_mm)
            errors = registration_errors(end, xray.true_pose, xray.camera, patient.landmarks_mm, patient.center_mm)
            flat = {f"pose_{r}{c}": float(end[r, c]) for r in range(3) for c in range(4)}
            shared = {"init": "perturbed", "init_mpd_mm": 9.0, "objective": 0.1, "seconds": 2.0}
            rows.append({"method": method, "projection": xray.name, **shared, **errors, **flat})
            poses = torch.stack([start, end])
            traces[method][xray.name] = TraceRecord(method, poses, np.zeros(2), np.zeros(2), 1, {})
    made = Gallery()
    add_specimen(made, patient, xrays, pd.DataFrame(rows), traces, LABELS)
    return made


def test_an_entry_is_an_x_ray_under_a_method(gallery, patient, xrays):
    assert [(entry.label, entry.projection) for entry in gallery.entries] == [
        (label, xray.name) for label in LABELS.values() for xray in xrays
    ]
    for entry in gallery.entries:
        assert set(entry.measures) == set(MEASURES)
        assert (entry.measures["mpd_mm"] > 1e-6) == (entry.method == "one")


def test_images_that_entries_share_are_held_once(gallery, patient, xrays):
    # Of each X-ray: itself, the DRRs at the truth and at the common start, and one at each method's end.
    assert len(gallery.images) == len(xrays) * (3 + len(LABELS))
    one, two = (next(entry for entry in gallery.entries if entry.method == method) for method in LABELS)
    assert (one.xray, one.start, one.truth) == (two.xray, two.start, two.truth)
    assert one.end != two.end


def test_images_are_what_their_names_say(gallery):
    one, two = (next(entry for entry in gallery.entries if entry.method == method) for method in LABELS)
    # The second method ends at the truth.
    assert gallery.images[two.end] == gallery.images[two.truth]
    truth, halfway, start = (decoded(gallery.images[key]).astype(float) for key in (one.truth, one.end, one.start))
    assert np.abs(halfway - truth).mean() < np.abs(start - truth).mean()


def test_a_picture_has_the_images_grey_values():
    image = torch.linspace(0, 1, 64)[None].expand(64, 64)
    grey = decoded(data_uri(image)).astype(float)
    assert grey.shape == (64, 64)
    np.testing.assert_allclose(grey[0], np.clip((np.linspace(0, 1, 64) - 0.01) / 0.98, 0, 1) * 255, atol=4)


def errors_of_xrays(mpd_mm: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame([{"projection": name, "mpd_mm": one} for name, both in mpd_mm.items() for one in both])


def test_pictures_reach_from_the_best_to_the_worst():
    rows = errors_of_xrays({f"{n:03d}": [float(n * 7 % 10), float(n * 7 % 10) + 0.5] for n in range(10)})
    assert from_best_to_worst(rows, None) == from_best_to_worst(rows, 10) == [f"{n:03d}" for n in range(10)]
    # Of ten ranks the first, the middle one (the 5th: halves round to even) and the last, in the order of the rows.
    ranks = {f"{n:03d}": n * 7 % 10 for n in range(10)}
    assert [ranks[name] for name in from_best_to_worst(rows, 3)] == [0, 4, 9]
    assert [ranks[name] for name in from_best_to_worst(rows, 1)] == [9]


def test_a_failure_without_a_number_is_the_worst():
    rows = errors_of_xrays({"000": [50.0, 60.0], "001": [math.nan, math.nan], "002": [1.0, 2.0]})
    assert from_best_to_worst(rows, 1) == ["001"]
    assert from_best_to_worst(rows, 2) == ["001", "002"]


@pytest.fixture(scope="module")
def html(gallery, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("figure") / "figure.png"
    Image.new("RGB", (4, 4)).save(path)
    tables = [table_section("Table", "| A | B |\n| --- | --- |\n| <i>x</i> | 2 |\n\n- A note.\n")]
    times = run_times(pd.DataFrame({"method": ["one", "one", "two"], "seconds": [1.0, 3.0, 9.0]}), {}, LABELS)
    return page(
        "own <data>", tables, [figure_section("F <1>", "cap", path)], gallery, "All <2>.", times, "key: <value>"
    )


def test_the_page_asks_nothing_of_others(html):
    assert not re.search(r'(src|href)\s*=\s*["\'](?!data:|#)', html)
    assert "@import" not in html
    assert not re.search(r"url\(", html)


def test_names_cannot_become_markup(html, gallery):
    for name in ("<data>", "<1>", "<2>", "<i>x</i>", "<value>", "</script><b>"):
        assert name not in html
    assert html.count("</script>") == 2
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1]
    held = json.loads(data)
    assert held == gallery.as_json()
    assert held["entries"][0]["label"] == LABELS["one"]


def test_tables_are_tables_with_their_notes(html):
    assert re.search(r"<td>&lt;i&gt;x&lt;/i&gt;</td>\s*<td>2</td>", html)
    assert "<li>A note.</li>" in html


def test_run_times_are_of_trainings_and_x_rays():
    rows = pd.DataFrame({"method": ["one", "one", "one", "two"], "seconds": [1.0, 3.0, 8.0, 9.0]})
    times = run_times(rows, {"U-Net": [100.0, 120.0]}, LABELS)
    assert times["runs"].tolist() == [2, 3, 1]
    assert times["median s"].tolist() == ["110.0", "3.0", "9.0"]
    assert times["longest s"].tolist() == ["120.0", "8.0", "9.0"]


def test_versions_name_what_computed():
    known = versions()
    assert known["torch"] == torch.__version__.split("+")[0]
    assert "CPU cores" in known["system"]


def test_a_failure_without_a_number_is_in_the_page(gallery):
    failed = replace(gallery.entries[0], measures=measures({key: math.nan for key in MEASURES}))
    made = Gallery([failed], gallery.images)
    html = page("x", [], [], made, "", run_times(pd.DataFrame({"method": [], "seconds": []}), {}, {}), "")
    data = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1]
    assert set(json.loads(data)["entries"][0]["measures"].values()) == {None}
