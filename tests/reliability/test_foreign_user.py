"""As in a container with a read-only root: uid 65534, no home, nothing to write to but a work folder and `/tmp`."""

import json

import pytest
from own_patient import carm_camera, write_carm_dicom, write_volume

from reliability.foreign_user import REPORT, USER, run_as_foreign_user, smoke, why_not
from reliability.fuzzed_xrays import xray_pixels
from reliability.registered import write_whole
from reliability.subjects import FRAME, phantom_hu

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_only_the_work_folder_and_tmp_can_be_written(work):
    tried = (
        "id -u; for f in work /tmp / /usr /root /srv/roireg; do touch $f/t 2>/dev/null && echo $f; done; echo h:$HOME"
    )
    (work / "work").mkdir()
    (work / "work").chmod(0o777)
    done = run_as_foreign_user(work, ["sh", "-c", tried])
    assert done.stdout.split() == [str(USER), "work", "/tmp", "h:"], done.stderr


def test_a_ct_and_an_x_ray_are_rendered_onto_each_other(work):
    write_volume(work / "ct.nrrd", phantom_hu(), FRAME)
    write_carm_dicom(work / "x.dcm", xray_pixels(), carm_camera(64), (0.0, 0.0))
    done = run_as_foreign_user(work, ["roireg", "inspect", "ct.nrrd", "x.dcm", "--out", "overlay.png"])
    assert done.returncode == 0, done.stderr
    assert (work / "overlay.png").stat().st_uid == USER


def test_the_workflow_is_planned_with_results_in_the_work_folder(work):
    done = smoke(work, "--dry-run", "--quiet", "rules")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report_html" in done.stdout
    assert not (work / "results").exists()


@pytest.mark.slow
def test_a_patient_is_registered(work):
    write_whole(work)
    command = "roireg register --ct ct.nrrd --xray x.dcm --size 64 --out found"
    done = run_as_foreign_user(work, command.split())
    assert done.returncode == 0, done.stderr
    assert json.loads((work / "found" / "pose.json").read_text())["verdict"] == "trusted"
    assert (work / "found" / "overlay.png").stat().st_uid == USER


@pytest.mark.slow
def test_the_smoke_run_ends_with_its_report(work):
    done = smoke(work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / REPORT).stat().st_uid == USER
