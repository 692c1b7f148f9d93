"""Results of the workflow in the workbench: read, ordered, stepped through, and refused in one line."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner
from workbench import running

from roireg.cli.app import app
from roireg.data.readers.ct import read_patient
from roireg.data.readers.xray import read_xray
from roireg.data.records import write_specimen
from roireg.errors import InputError
from roireg.geometry.poses import perturb
from roireg.geometry.se3 import invert
from roireg.register.run import ResultRow, write_traces
from roireg.register.trace import Trace
from roireg.view.serve import Opened
from roireg.view.study import read_study

OFF = (0.02, 0.01, -0.03, 3.0, -2.0, 5.0)


def row(xray: str, pose: torch.Tensor | None, mpd_mm: float, grade: str) -> dict:
    numbers = dict.fromkeys([f"pose_{r}{c}" for r in range(3) for c in range(4)], math.nan)
    if pose is not None:
        numbers = {f"pose_{r}{c}": float(pose[r, c]) for r in range(3) for c in range(4)}
    known = {"specimen": "demo-01", "projection": xray, "method": "ours", "mpd_mm": mpd_mm, "verdict": grade}
    return {**known, "ncc": 0.9, "seconds": 1.5, **numbers}


@pytest.fixture(scope="module")
def results(files, tmp_path_factory) -> Path:
    """Results of a run with three X-rays: found, found badly, and without a result."""
    folder = tmp_path_factory.mktemp("run")
    patient = read_patient(files.ct, files.labels)
    # Names as in DeepFluoro, which are no numbers to be read as such.
    names = ("007", "008", "009")
    xrays = [
        replace(read_xray(files.xrays[0]), name=name, true_pose=files.poses[0], labels=None, mask=None)
        for name in names
    ]
    write_specimen(folder / "specimens" / "demo-01.h5", patient, xrays)
    off = perturb(files.poses[0], torch.tensor(OFF, dtype=torch.float64), patient.center_mm)
    rows = [row("007", files.poses[0], 0.1, "trusted"), row("008", off, 7.5, "check"), row("009", None, math.nan, "")]
    table = folder / "registrations" / "ours" / "demo-01.csv"
    table.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(table, index=False)
    trace = Trace(torch.stack([off, files.poses[0]]), torch.tensor([0.8, 0.1], dtype=torch.float64), 1)
    write_traces(folder / "traces" / "ours" / "demo-01.h5", [ResultRow(rows[0], trace, np.array([7.5, 0.1]))])
    return table


def test_rows_are_ordered_from_the_worst_and_have_their_start(results, files):
    study = read_study(results)
    assert [one.xray for one in study.rows] == ["009", "008", "007"]
    assert study.rows[0].pose is None
    best = study.rows[2]
    torch.testing.assert_close(best.pose, files.poses[0])
    assert best.start is not None
    assert best.objective == (0.8, 0.1)
    assert study.rows[1].start is None


def test_each_x_ray_is_shown_at_the_pose_that_was_found_and_can_be_refined(results, files, tmp_path):
    with running(Opened(study=results), tmp_path) as client:
        state = client.workbench.state
        assert state.study.rows[state.place].xray == "009"
        assert [one.name for one in state.found] == ["true pose"]
        told = client.post("/api/rows/1").json()
        assert told["study"]["place"] == 1
        assert [one["mpd_mm"] for one in told["study"]["rows"]] == [None, 7.5, 0.1]
        assert [one["name"] for one in told["found"]] == ["ours", "true pose"]
        assert told["found"][0]["grade"] == "check"
        assert told["found"][0]["truth_mm"] > 3
        assert told["found"][1]["truth_mm"] == pytest.approx(0, abs=1e-9)
        client.post("/api/job", kind="refine")
        client.wait()
        assert client.workbench.job.error == ""
        state = client.workbench.state
        refined = state.found[-1].rig_pose @ state.views[0].shown.rig_from_camera
        assert float((invert(refined) @ files.poses[0])[:3, 3].norm()) < 1.0
        # The next X-ray begins with its own list.
        names = [one["name"] for one in client.post("/api/rows/2").json()["found"]]
        assert names == ["ours", "its start", "true pose"]


def test_what_files_can_do_and_results_cannot_is_told(results, tmp_path, files):
    with running(Opened(study=results), tmp_path) as client:
        assert "no results with such a row" in client.post("/api/rows/3").json()["error"]
        assert "that of the data set" in client.put("/api/xrays/0/geometry", entries={}).json()["error"]
        assert "that of the data set" in client.get("/api/session.json").json()["error"]
        client.upload("group", files.xrays[0])
        assert "a workflow's results are open" in client.post("/api/xrays", group="group").json()["error"]
    with running(files.opened(), tmp_path) as client:
        assert "no results with such a row" in client.post("/api/rows/0").json()["error"]


def changed(results: Path, folder: Path, change) -> Path:
    """A copy of the table with a change, in a run whose specimen is the same."""
    table = folder / "registrations" / "ours" / "demo-01.csv"
    table.parent.mkdir(parents=True)
    (folder / "specimens").symlink_to(results.parents[2] / "specimens")
    change(pd.read_csv(results, dtype={"projection": str})).to_csv(table, index=False)
    return table


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.drop(columns="verdict"), "it has no column verdict"),
        (lambda rows: rows.iloc[:0], "it has no rows"),
        (lambda rows: rows.assign(pose_11="x"), "column pose_11 has something else than numbers"),
        (lambda rows: rows.assign(projection="777"), "has no X-ray 777"),
    ],
)
def test_tables_that_are_none_of_the_workflow_are_refused(results, tmp_path, change, told):
    with pytest.raises(InputError, match=told):
        read_study(changed(results, tmp_path, change))


def test_missing_files_are_one_line(results, tmp_path):
    lonely = tmp_path / "registrations" / "ours" / "demo-01.csv"
    lonely.parent.mkdir(parents=True)
    lonely.write_bytes(results.read_bytes())
    (tmp_path / "specimens").mkdir()
    for path, told in ((lonely, "is not there"), (tmp_path / "none.csv", "there is no such file")):
        result = CliRunner().invoke(app, ["view", str(path), "--no-browser"])
        assert result.exit_code == 1
        assert told in result.output
        assert len(result.output.splitlines()) == 1
    (tmp_path / "specimens" / "demo-01.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"demo-01\.h5: it cannot be read"):
        read_study(lonely)
    (tmp_path / "bytes.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="it is no table"):
        read_study(tmp_path / "bytes.csv")
