"""The wheel in an empty environment, outside the checkout: the command, the library, the workflow."""

import filecmp
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import attenuation, middle_mm, phantom_ct
from own_patient import carm_camera, counted, write_carm_dicom, write_volume
from wheel_environment import Environment
from workflows import REPOSITORY

from roireg.data.writers.poses import read_pose
from roireg.drr import render
from roireg.geometry.poses import carm_pose, perturb
from roireg.metrics.pose_errors import registration_errors
from roireg.workflow.folder import PARTS


def told(done: subprocess.CompletedProcess) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_the_environment_has_the_wheel_and_none_of_what_the_extras_bring(base):
    code = "import sys, roireg; print(roireg.__file__, sys.prefix)"
    file, prefix = base.run("python", "-c", code).stdout.split()
    assert Path(file).is_relative_to(base.folder)
    assert Path(prefix) == base.folder
    for package in ("monai", "pandas", "snakemake", "h5py", "diffdrr", "nanodrr"):
        assert base.run("python", "-c", f"import {package}").returncode == 1


def test_the_command_explains_itself(base):
    done = base.run("roireg", "--help")
    assert done.returncode == 0, done.stderr
    assert "register" in done.stdout


def write_patient(folder: Path) -> torch.Tensor:
    """ct.nii.gz and xray.dcm, a DRR of it; the true pose."""
    ct = phantom_ct()
    center = middle_mm(ct)
    pose = perturb(carm_pose(center, 734.4, 0.0, 0.0), torch.tensor([0.03, -0.02, 0.04, 4, -5, 3]).double(), center)
    seen = carm_camera(64, 300.0, 1020.0)
    write_volume(folder / "ct.nii.gz", ct.hu.astype(np.int16), ct.volume_from_voxel())
    stored = counted(torch.exp(-render(attenuation(ct), seen, pose[None])[0]))
    write_carm_dicom(folder / "xray.dcm", stored, seen, (0.0, 0.0))
    return pose


# Calls of the command in one process, which need not load torch again for each.
CALLS = """
import sys
from roireg.cli.app import app
for line in sys.argv[1:]:
    app(line.split(), standalone_mode=False)
"""


def examples(page: str, language: str) -> list[str]:
    """The blocks of code of a page of the documentation."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_page_on_a_patient_of_ones_own_works_as_it_is_typed_with_the_base_alone(base):
    truth = write_patient(base.work)
    commands, code = examples("own-data.md", "sh")[0], examples("own-data.md", "python")[0]
    for line in commands.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        done = base.run(program, *arguments)
        assert done.returncode == 0, told(done)
    assert (base.work / "overlay.png").stat().st_size > 10_000
    assert (base.work / "result" / "overlay.png").stat().st_size > 10_000
    found, landmarks = read_pose(base.work / "result" / "pose.json"), phantom_ct().landmarks_mm.values()
    points = torch.from_numpy(np.stack([*landmarks]))
    assert registration_errors(found.pose, truth, found.camera, points, points.mean(0))["mpd_mm"] < 1
    (base.work / "result").rename(base.work / "of-the-command")
    done = base.run("python", "-c", code)
    assert done.returncode == 0, told(done)
    again = read_pose(base.work / "result" / "pose.json")
    assert registration_errors(again.pose, found.pose, found.camera, points, points.mean(0))["mpd_mm"] < 0.1
    calls = (
        "render --ct ct.nii.gz --pose result/pose.json",
        "evaluate result/pose.json of-the-command/pose.json",
        "convert result/pose.json --to rtk",
        "report-bug result/pose.json -o bug.yaml",
    )
    done = base.run("python", "-c", CALLS, *calls)
    assert done.returncode == 0, told(done)


def test_a_missing_extra_is_one_line_that_names_it(base):
    for extra, call in {
        "train": ("check-dataset", "x.h5"),
        "workflow": ("workflow", "init", "study"),
    }.items():
        done = base.run("roireg", *call)
        assert f'pip install "roireg[{extra}]"' in told(done)
        assert done.returncode == (extra == "train")
        assert done.stderr.count("\n") == (extra == "train"), done.stderr


@pytest.fixture(scope="module")
def study(with_workflow) -> Path:
    """The folder that `roireg workflow init` has written."""
    done = with_workflow.run("roireg", "workflow", "init", "study")
    assert done.returncode == 0, told(done)
    assert "pip install" not in done.stdout
    return with_workflow.work / "study"


def planned(environment: Environment, *arguments: object) -> dict[str, str]:
    """Rules and numbers of their jobs in a dry-run."""
    done = environment.run("snakemake", "-n", *arguments)
    assert done.returncode == 0, told(done)
    return dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))


def test_the_workflow_is_written_once_with_all_its_files(with_workflow, study):
    assert_same_files(study)
    again = with_workflow.run("roireg", "workflow", "init", "study")
    assert again.returncode == 1
    assert "it exists already" in told(again)


def test_the_workflow_is_planned_without_a_checkout_also_as_a_module_of_another(with_workflow, study):
    smoke = study / "config" / "smoke.yaml"
    alone = planned(with_workflow, "-d", study, "-s", study / "Snakefile", "--configfile", smoke)
    assert int(alone["total"]) > 50
    other = with_workflow.work / "other"
    other.mkdir()
    (example,) = (block for block in examples("workflow.md", "python") if block.startswith("# Snakefile"))
    (other / "Snakefile").write_text(example.replace("path/to/study", str(study)))
    (other / "mine.yaml").write_text(smoke.read_text())
    taken_in = planned(with_workflow, "-d", other, "-s", other / "Snakefile")
    assert taken_in.pop("summary") == "1"
    assert int(taken_in.pop("total")) == int(alone.pop("total")) + 1 - int(alone.pop("all"))
    assert taken_in == alone


def assert_same_files(folder: Path) -> None:
    """Those of the workflow in the checkout, byte by byte, and nothing else."""
    assert {path.name for path in folder.iterdir()} == set(PARTS)
    for part in PARTS:
        ours = [REPOSITORY / part] if (REPOSITORY / part).is_file() else sorted((REPOSITORY / part).rglob("*"))
        files = [path for path in ours if path.is_file() and "__pycache__" not in path.parts]
        assert files
        for path in files:
            assert filecmp.cmp(path, folder / path.relative_to(REPOSITORY), shallow=False), path
