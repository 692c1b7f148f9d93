"""Registration jobs that share a specimen's X-rays, and the size of a plan for many X-rays."""

import math
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

# DeepFluoro's specimens and how many X-rays each has, as DiffPose's notebook counts them.
XRAYS = {"17-1882": 111, "18-1109": 104, "18-0725": 24, "18-2799": 48, "18-2800": 55, "17-1905": 24}
PAPER = "config/deepfluoro.yaml"


def stand_in(path, counts: dict[str, int]) -> None:
    """A file in which DeepFluoro's X-rays can be counted, and no more."""
    with h5py.File(path, "w") as file:
        file.create_group("proj-params")
        for specimen, count in counts.items():
            for number in range(count):
                file.create_group(f"{specimen}/projections/{number:03d}")


def parts(counts: dict[str, int], per_job: int) -> int:
    return sum(math.ceil(count / per_job) for count in counts.values())


def test_jobs_that_share_xrays_end_with_the_results_of_one_job(smoke, tmp_path):
    workflow = type(smoke)(tmp_path / "copy")
    shutil.copytree(smoke.folder, workflow.folder)
    methods = ("ours", "multi_start+gn", "table3.ssim", "table3.ssim+unet")
    files = [f"results/smoke/registrations/{method}/demo-01.csv" for method in methods]
    overlay = {"registration": {"xrays_per_job": 1}}
    result = workflow.run(*files, overlays=(overlay,))
    assert result.status == 0, result.output
    assert result.jobs == {"register": 4, "register_pair": 1, "gather": 4}
    for file in files:
        before, after = (pd.read_csv(copy.folder / file, dtype={"projection": str}) for copy in (smoke, workflow))
        pd.testing.assert_frame_equal(after.drop(columns="seconds"), before.drop(columns="seconds"))
        traces = file.replace("registrations", "traces").replace(".csv", ".h5")
        with h5py.File(smoke.folder / traces) as one, h5py.File(workflow.folder / traces) as other:
            assert list(one) == list(other) == after["projection"].tolist()
            for projection in one:
                assert np.array_equal(one[projection]["poses"][()], other[projection]["poses"][()])
                assert dict(one[projection].attrs) == dict(other[projection].attrs)


@pytest.mark.parametrize("here", [True, False], ids=["from the file", "before the file is here"])
def test_the_papers_366_xrays_are_shared_among_jobs(fresh, here):
    stand_in(fresh.folder / "stand-in.h5", XRAYS)
    source = {"dataset": {"path": "stand-in.h5"}} if here else {"deepfluoro": {"accept_license": True}}
    result = fresh.plan("--quiet", "rules", base=PAPER, overlays=(source, {"registration": {"xrays_per_job": 8}}))
    assert result.status == 0, result.output
    assert sum(XRAYS.values()) == 366
    # Eight methods; seven similarities; MedSAM on the specimen of Figure 5.
    assert result.jobs["register"] == 8 * parts(XRAYS, 8) + parts({"18-2799": 48}, 8)
    assert result.jobs["register_pair"] == 7 * parts(XRAYS, 8)
    assert result.jobs["gather"] == (8 + 2 * 7) * 6 + 1


def test_jobs_grow_with_the_xrays_only_where_they_share_them(fresh):
    many = {specimen: count * 3 for specimen, count in XRAYS.items()}
    stand_in(fresh.folder / "stand-in.h5", many)
    source = {"dataset": {"path": "stand-in.h5"}}
    whole = fresh.plan("--quiet", "rules", base=PAPER, overlays=(source,)).jobs
    assert (whole["register"], whole["register_pair"]) == (8 * 6 + 1, 7 * 6)
    assert "gather" not in whole
    shared = fresh.plan("--quiet", "rules", base=PAPER, overlays=(source, {"registration": {"xrays_per_job": 50}}))
    assert shared.jobs["register_pair"] == 7 * parts(many, 50)
    same = {rule: count for rule, count in whole.items() if not rule.startswith("register")}
    assert {rule: shared.jobs[rule] for rule in same} == same


def test_an_unknown_number_of_xrays_ends_with_one_line(fresh):
    overlay = {
        "dataset": {"specimens": ["17-1882", "another"]},
        "deepfluoro": {"accept_license": True},
        "registration": {"xrays_per_job": 8},
    }
    result = fresh.plan(base=PAPER, overlays=(overlay,))
    assert result.status != 0
    assert "error: config: deepfluoro.xrays" in result.output
    assert "another" in result.output


def test_the_estimate_has_every_training_and_registration_of_the_plan(fresh):
    overlay = {
        "demo": {"xrays_per_specimen": 3},
        "registration": {"xrays_per_job": 2},
        "tables": {
            "table1": {"methods": ["diffdrr", "ours"]},
            "table3": {"similarities": ["ssim"]},
            "ablation": {"optimizers": []},
        },
        "figures": {"methods": ["ours"], "capture_range": {"methods": []}, "learning_curves": {"encoders": ["ours"]}},
    }
    planned = fresh.plan(overlays=(overlay,)).jobs
    result = fresh.run("estimate", overlays=(overlay,))
    assert result.status == 0, result.output
    text = (fresh.folder / "results/smoke/estimate.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    jobs: dict[str, int] = {}
    for line in lines[1:-1]:
        jobs[line[0]] = jobs.get(line[0], 0) + int(line[2])
        assert float(line[4]) > 0
    for rule in ("train_segmenter", "train_encoder"):
        assert jobs[rule] == planned[rule]
    # A job of a pair registers by two methods.
    assert jobs["register"] == planned["register"] + 2 * planned["register_pair"]
    steps = {line[1]: int(line[3].split()[0]) for line in lines[1:-1]}
    # Two specimens of three X-rays, the start and twelve iterations.
    assert steps["ours"] == 2 * 3 * 13
    assert steps["table3.ssim"] == 2 * 1 * 13
