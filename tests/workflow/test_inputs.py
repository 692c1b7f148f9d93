"""The workflow on a user's own file, and what a fault in the user's input ends with."""

import pandas as pd
import pytest
from builders import write_small_dataset
from servers import Behaviour, described, serving, zipped


def one_line(output: str, *words: str) -> bool:
    """Is there a line that starts as our errors do and holds all words?"""
    return any("error: " in line and all(word in line for word in words) for line in output.splitlines())


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ({"prepare": {"crop": 3}}, ["config: prepare", "'crop'", "crop_px"]),
        ({"prepare": {"image_size_px": 4}}, ["config: prepare.image_size_px", "4", "16"]),
        ({"optimizers": {"adam": {"iterations": "many"}}}, ["config: optimizers.adam.iterations", "many"]),
        ({"methods": {"perturbed": {"init": "nowhere"}}}, ["methods.perturbed.init", "nowhere", "pa, perturbed"]),
        ({"dataset": {"path": "missing.h5"}}, ["missing.h5", "no such file", "dataset.path"]),
        ({"segment": {"unet": {"recipe": "sgdd"}}}, ["config: segment.unet.recipe", "sgdd", "adamw"]),
        ({"segment": {"medsam": {"variant": "vit_h"}}}, ["config: segment.medsam.variant", "vit_h", "vit_b"]),
        (
            {"dataset": {"source": "deepfluoro", "specimens": ["17-1882", "18-1109"]}},
            ["config: deepfluoro.accept_license", "CC BY-NC", "10.7281/T1/IFSXNV", "dataset.path"],
        ),
        (
            {"dataset": {"source": "deepfluoro"}, "deepfluoro": {"accept_license": True}},
            ["config: dataset.specimens", "18-1109"],
        ),
        ({"dataset": {"specimens": ["demo-01"]}}, ["config: tables.table2.segmenters", "demo-01", "two are needed"]),
    ],
)
def test_a_wrong_config_ends_with_one_line(fresh, overlay, words):
    result = fresh.plan(overlays=(overlay,))
    assert result.status != 0
    assert one_line(result.output, *words), result.output
    assert "Traceback" not in result.output


def test_a_wrong_download_is_refused_and_leaves_nothing(fresh):
    (fresh.folder / "archive.tar.gz").write_bytes(b"not the archive")
    result = fresh.run("results/downloads/demo-ct/ct.nii.gz", overlays=({"demo": {"sdist": "archive.tar.gz"}},))
    assert result.status != 0
    assert one_line(result.output, "archive.tar.gz", "sha256")
    assert not [path for path in (fresh.folder / "results/downloads/demo-ct").glob("*") if path.is_file()]


def test_deepfluoro_is_fetched_by_its_rule_which_goes_on_where_it_failed(fresh):
    write_small_dataset(fresh.folder / "full.h5", specimens=("17-1882", "18-1109"))
    content = zipped(fresh.folder / "full.zip", {"full.h5": (fresh.folder / "full.h5").read_bytes()})
    overlay = {
        "dataset": {"name": "fetched", "source": "deepfluoro", "specimens": ["17-1882", "18-1109"]},
        "deepfluoro": {"accept_license": True},
        "prepare": {"crop_px": 0, "isocenter": []},
        "rois": ["talus", "tibia"],
    }
    target = "results/downloads/deepfluoro/full_resolution.h5"
    # Pieces of 64 KiB are what a connection that breaks loses at most.
    sent = len(content) // 2**17 * 2**16
    gone = Behaviour([content], cuts=[sent], statuses=[None, 404], metadata=described(content))
    with serving(gone) as overlay["deepfluoro"]["server"]:
        result = fresh.run("data", overlays=(overlay,), base="config.yaml")
    assert result.status != 0
    assert one_line(result.output, "answers 404", "browser"), result.output
    assert not (fresh.folder / target).exists()
    back = Behaviour([content], metadata=described(content))
    with serving(back) as overlay["deepfluoro"]["server"]:
        result = fresh.run("data", overlays=(overlay,), base="config.yaml")
    assert result.status == 0, result.output
    assert sent > 0
    assert back.seen == [f"bytes={sent}-"]
    assert (fresh.folder / target).read_bytes() == (fresh.folder / "full.h5").read_bytes()
    assert [path.name for path in (fresh.folder / target).parent.iterdir()] == ["full_resolution.h5"]
    assert sorted(path.stem for path in (fresh.folder / "results/fetched/specimens").glob("*.h5")) == [
        "17-1882",
        "18-1109",
    ]


def test_the_papers_run_is_planned(fresh):
    accepted = {"deepfluoro": {"accept_license": True}}
    jobs = fresh.plan(base="config/deepfluoro.yaml", overlays=(accepted,)).jobs
    # Trained on X-rays and on DRRs that are rendered on the fly: nothing needs stored ones.
    assert "synthesize_drrs" not in jobs
    assert "make_demo_dataset" not in jobs
    wanted = {"download_deepfluoro": 1, "prepare_specimen": 6, "train_segmenter": 12, "train_encoder": 18}
    assert {rule: jobs[rule] for rule in wanted} == wanted
    # Eight methods, and MedSAM on the specimen of Figure 5; seven similarities.
    assert (jobs["register"], jobs["register_pair"]) == (8 * 6 + 1, 7 * 6)


def test_a_truncated_dataset_ends_with_one_line_and_no_output(fresh):
    path = fresh.folder / "own.h5"
    write_small_dataset(path, specimens=("patient", "another"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    overlay = {"dataset": {"path": "own.h5", "specimens": ["patient", "another"]}}
    result = fresh.run("data", overlays=(overlay,))
    assert result.status != 0
    assert one_line(result.output, "own.h5", "Download it again")
    assert "Traceback" not in result.output
    assert not list((fresh.folder / "results").glob("**/*.h5"))


def test_a_label_that_the_file_lacks_ends_with_one_line(fresh):
    write_small_dataset(fresh.folder / "own.h5", specimens=("patient", "another"))
    overlay = {"dataset": {"path": "own.h5"}, "prepare": {"crop_px": 0}}
    result = fresh.run("data", overlays=(overlay,))
    assert result.status != 0
    assert one_line(result.output, "left hemipelvis", "Its labels")


# In `make test` a file in DeepFluoro's layout does (test_deepfluoro_layout.py).
@pytest.mark.slow
def test_a_users_own_file_runs_through_the_whole_workflow(fresh):
    write_small_dataset(fresh.folder / "own.h5", specimens=("Anna", "patient-7"))
    overlay = {
        "dataset": {"name": "own", "path": "own.h5"},
        "prepare": {"crop_px": 0, "isocenter": []},
        "rois": ["talus", "tibia"],
        "roi_terms": {"mask": {"rois": []}},
        "optimizers": {"adam": {"iterations": 60}},
        "initial_poses": {"perturbed": {"rotation_sd_deg": 2.0, "translation_sd_mm": 5.0}},
        "weights": {"coverage+femurs": {"exclude": []}},
        "bones": {"methods": []},
        "tables": {
            "table1": {"methods": ["perturbed+weights"]},
            "table2": {"segmenters": ["unet"]},
            "table3": {"similarities": []},
            "ablation": {"optimizers": []},
        },
        "figures": {
            "methods": ["perturbed+weights"],
            "case_study": {"methods": []},
            "capture_range": {"methods": []},
            "learning_curves": {"encoders": []},
        },
    }
    result = fresh.run(overlays=(overlay,))
    assert result.status == 0, result.output
    rows = pd.concat(pd.read_csv(path) for path in fresh.folder.glob("results/own/registrations/*/*.csv"))
    assert set(rows["specimen"]) == {"Anna", "patient-7"}
    assert (rows["mpd_mm"] < 0.5 * rows["init_mpd_mm"]).all()
    assert (fresh.folder / "results/own/figures/figure4.pdf").stat().st_size > 1000
    dice = pd.read_csv(fresh.folder / "results/own/segmentations/unet/Anna.csv")
    assert dice["roi"].unique().tolist() == ["talus", "tibia"]
    assert "talus / tibia" in (fresh.folder / "results/own/tables/table2.md").read_text()


def test_a_file_of_one_specimen_runs_without_table2_and_without_the_roi_term(fresh):
    write_small_dataset(fresh.folder / "own.h5", specimens=("Anna",))
    alone = {
        "dataset": {"name": "own", "path": "own.h5"},
        "prepare": {"crop_px": 0, "isocenter": []},
        "rois": ["talus", "tibia"],
        "roi_terms": {"mask": {"rois": []}},
    }
    result = fresh.plan(overlays=(alone,))
    assert one_line(result.output, "tables.table2.segmenters", "Anna", "[]")
    alone["tables"] = {"table2": {"segmenters": []}}
    result = fresh.plan(overlays=(alone,))
    assert one_line(result.output, "figures.case_study.methods", "Anna", "[]")
    alone["figures"] = {"case_study": {"methods": []}}
    result = fresh.plan(overlays=(alone,))
    assert one_line(result.output, "methods.wsreg.roi", "Anna", "set it to none")
    alone["methods"] = {name: {"roi": "none"} for name in ("wsreg", "ours")}
    result = fresh.plan(overlays=(alone,))
    assert one_line(result.output, "tables.table3.similarities", "Anna", "[]")
    alone["tables"]["table3"] = {"similarities": []}
    result = fresh.plan(overlays=(alone,))
    assert one_line(result.output, "tables.ablation.optimizers", "Anna", "[]")
    alone["tables"]["ablation"] = {"optimizers": []}
    result = fresh.plan(overlays=(alone,))
    assert one_line(result.output, "encoders.ours.loss.roi", "Anna", "set it to 0")
    alone["encoders"] = {"ours": {"loss": {"roi": 0.0}}}
    result = fresh.plan(overlays=(alone,))
    assert result.status == 0, result.output
    assert {"table1", "train_encoder", "synthesize_drrs"} <= set(result.jobs)
    assert not {"table2", "train_segmenter", "segmentations"} & set(result.jobs)


def test_xrays_without_masks_end_training_on_them_with_one_line(fresh):
    write_small_dataset(fresh.folder / "own.h5", specimens=("Anna", "Bert"), optional=False)
    overlay = {
        "dataset": {"name": "own", "path": "own.h5"},
        "prepare": {"crop_px": 0, "isocenter": []},
        "rois": ["talus", "tibia"],
        "roi_terms": {"mask": {"rois": []}},
    }
    result = fresh.run("results/own/segmenters/unet/Anna/model.safetensors", overlays=(overlay,))
    assert result.status != 0
    assert one_line(result.output, "segment.*.train_on", "gt-seg", "[drrs]")


def test_a_missing_pretrained_network_ends_with_one_line_that_says_where_to_get_it(fresh):
    write_small_dataset(fresh.folder / "own.h5", specimens=("Anna", "Bert"))
    overlay = {
        "dataset": {"name": "own", "path": "own.h5"},
        "prepare": {"crop_px": 0, "isocenter": []},
        "rois": ["talus", "tibia"],
        "roi_terms": {"mask": {"rois": []}},
        "segment": {"medsam": {"checkpoint": {"path": "medsam_vit_b.pth", "sha256": "0" * 64}}},
    }
    result = fresh.run("results/own/segmenters/medsam/Anna/model.safetensors", overlays=(overlay,))
    assert result.status != 0
    assert one_line(result.output, "config: segment.medsam.checkpoint.path", "medsam_vit_b.pth", "MedSAM")
