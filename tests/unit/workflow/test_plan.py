"""What a run is made of: what decides each result, and what each job needs."""

import copy
from pathlib import Path

import pytest
import yaml
from builders import write_small_dataset

from roireg.errors import InputError
from roireg.register.method import MethodSettings, method_from_config
from roireg.workflow import plan
from roireg.workflow.comparisons import comparison_methods, comparison_starts
from roireg.workflow.config import merged, validated
from roireg.workflow.run_checks import check_case, check_conditions, check_leave_one_out, check_licence

ROOT = Path(__file__).parents[3]
DEFAULT = validated({})


def expanded(overlay: dict | None = None) -> dict:
    """The default configuration with others laid over it, and the methods that tables add."""
    config = validated(merged(DEFAULT, overlay or {}))
    config["methods"] |= comparison_methods(config)
    config["initial_poses"] |= comparison_starts(config)
    return config


def test_a_methods_results_depend_on_what_it_names():
    config = expanded()
    settings = plan.method_settings(config, "ours")
    assert settings["weights"] == {
        "coverage": True,
        "exclude": ["left femur", "right femur"],
        "exclude_margin_mm": 9.0,
    }
    assert settings["roi_term"] == config["roi_terms"]["unet"]
    assert settings["initial_pose"] == {"type": "encoder", "encoder": "ours"}
    assert settings["optimizer"] == config["optimizers"]["adam"]
    assert plan.method_settings(config, "diffdrr")["roi_term"] is None


def test_views_of_a_method_reach_its_settings():
    config = expanded({"methods": {"ours+gn": {"views": 3}}})

    def of(name: str) -> MethodSettings:
        return method_from_config(name, **plan.method_settings(config, name), rois=config["rois"], step_mm=None)

    assert [of(name).views for name in ("ours", "ours+gn", "multi_start+gn", "multi_start+gn+2views")] == [1, 3, 1, 2]
    assert of("table3.ssim").views == 1
    assert plan.labels_of(config, ["multi_start+gn+2views"]) == {
        "multi_start+gn+2views": "Multi-start, Gauss-Newton, two views"
    }
    one, two = (plan.method_settings(config, name) for name in ("multi_start+gn", "multi_start+gn+2views"))
    assert two == {**one, "method": {**one["method"], "views": 2}}


def test_the_study_shows_two_views_and_the_default_run_does_not():
    study = validated(merged(DEFAULT, yaml.safe_load((ROOT / "config/study.yaml").read_text())))
    assert study["tables"]["table1"]["methods"][-2:] == ["multi_start+gn", "multi_start+gn+2views"]
    assert "multi_start+gn+2views" not in DEFAULT["tables"]["table1"]["methods"]


def test_one_line_takes_the_femurs_out_of_all_methods():
    config = expanded({"weights": {"coverage+femurs": {"exclude": []}}})
    assert {tuple(plan.method_settings(config, name)["weights"]["exclude"]) for name in config["methods"]} == {()}


def test_conditions_change_the_keys_of_the_demo_that_they_name():
    overlay = {"conditions": {"near": {"ct_below_landmarks_mm": 4, "views": {"min_visible_landmarks": 14}}, "same": {}}}
    config = expanded(overlay)
    assert config["conditions"] == {
        "near": {"ct_below_landmarks_mm": 4.0, "views": {"min_visible_landmarks": 14}},
        "same": {},
    }
    assert plan.demo_settings(config, None) == plan.demo_settings(config, "same") == config["demo"]
    near = plan.demo_settings(config, "near")
    assert near["ct_below_landmarks_mm"] == 4.0
    assert near["views"] == {**config["demo"]["views"], "min_visible_landmarks": 14}
    assert config["demo"] == DEFAULT["demo"]
    assert plan.condition_notes(config, None) == []
    (note,) = plan.condition_notes(config, "near")
    assert note.startswith("Condition near: CTs end 4 mm below")


def test_conditions_are_the_demos():
    config = expanded({"conditions": {"near": {"ct_below_landmarks_mm": 4}}})
    check_conditions(config)
    with pytest.raises(InputError, match="the run uses another dataset"):
        check_conditions(merged(config, {"dataset": {"path": "own.h5"}}))
    check_conditions(merged(DEFAULT, {"dataset": {"path": "own.h5"}}))


@pytest.mark.parametrize(
    "overlay",
    [
        {"methods": {"ours": {"label": "Mine"}}},
        {"methods": {"wide": {"roi": "mask"}}},
        {"optimizers": {"gauss_newton": {"iterations": 3}}},
        {"weights": {"coverage": {"coverage": False}}},
    ],
    ids=["label", "another method", "another optimizer", "other weights"],
)
def test_what_a_method_does_not_use_decides_nothing(overlay):
    assert plan.method_settings(expanded(overlay), "ours") == plan.method_settings(expanded(), "ours")


def test_only_optimizers_that_can_use_a_gpu_ask_for_one():
    config = expanded({"registration": {"gpu": 1}})
    assert plan.gpus_of(config, ["ours"]) == 1
    assert plan.gpus_of(config, ["ours+gn"]) == 0
    assert plan.gpus_of(config, ["ours+gn", "ours"]) == 1
    assert plan.gpus_of(expanded(), ["ours"]) == 0


def test_medsams_own_network_takes_memory_and_one_x_ray_at_a_time():
    small, large = expanded(), expanded({"segment": {"medsam": {"variant": "vit_b"}}})
    for methods, needs in ((["wsreg-medsam"], True), (["wsreg", "wsreg+medsam"], True), (["wsreg", "diffdrr"], False)):
        assert plan.needs_vit_b(large, methods) == needs
        assert not plan.needs_vit_b(small, methods)
        assert plan.xrays_together(large, methods) == (1 if needs else 8)
        assert plan.registration_memory(large, methods, 1) == (16000 if needs else 3000)
        assert plan.registration_memory(small, methods, 2) == 6000


def test_a_methods_networks_are_its_encoder_and_its_roi_terms_segmenters():
    config = expanded()
    assert plan.segmenters_for(config, ["diffdrr", "ours+gn"]) == []
    assert plan.segmenters_for(config, ["wsreg"]) == ["unet"]
    # MedSAM's boxes and the DRR's maps are the U-Net's.
    assert plan.segmenters_for(config, ["wsreg+medsam", "wsreg"]) == ["medsam", "unet"]
    assert plan.encoders_of(config, ["diffdrr", "wsreg", "ours", "psss", "multi_start+gn"]) == ["ours", "psss"]


def test_a_seed_of_table3_is_another_encoder_of_the_same_entry():
    config = expanded({"tables": {"table3": {"seeds": [0, 2]}}})
    assert plan.encoders_of(config, ["table3.ssim", "table3.ssim@2"]) == ["ours", "ours@2"]
    assert plan.encoder_settings(config, "ours@2") == plan.encoder_settings(config, "ours")
    assert plan.guiding_segmenter(config, "ours@2") == "unet"
    assert plan.guiding_segmenter(config, "psss") is None


def test_labels_decide_no_training():
    config = expanded({"segment": {"unet": {"label": "Net"}}, "encoders": {"ours": {"label": "Mine"}}})
    assert plan.segmenter_settings(config, "unet") == plan.segmenter_settings(expanded(), "unet")
    assert plan.encoder_settings(config, "ours") == plan.encoder_settings(expanded(), "ours")
    assert plan.described(config, ["unet"]) == {"unet": {"label": "Net", "type": "unet", "train_on": ["xrays", "drrs"]}}
    assert plan.labels_of(config, ["wide", "ours"]) == {"wide": "No ROI term", "ours": "Ours"}


def test_a_training_is_by_its_types_module_and_has_the_memory_of_its_network():
    vit_b = {"label": "x", "type": "medsam", "variant": "vit_b"}
    config = expanded({"segment": {"sam": vit_b}})
    assert plan.training_modules(config, ["sam"]) == ["roireg.segment.train_medsam"]
    assert plan.training_modules(config, ["unet"]) == ["roireg.segment.train_unet"]
    assert plan.segmenter_memory(config, "sam") > plan.segmenter_memory(config, "medsam")


@pytest.mark.parametrize(
    ("per_job", "method", "count", "names"),
    [
        (None, "ours", 6, ["1-of-1"]),
        (4, "ours", 6, ["1-of-2", "2-of-2"]),
        # Table 3 takes the first X-ray alone.
        (4, "table3.ssim", 6, ["1-of-1"]),
        (1, "ours", 2, ["1-of-2", "2-of-2"]),
        # Which X-rays are registered jointly does not depend on the jobs.
        (1, "multi_start+gn+2views", 6, ["1-of-1"]),
    ],
)
def test_jobs_share_the_x_rays_of_a_specimen(per_job, method, count, names):
    config = expanded({"registration": {"xrays_per_job": per_job}})
    assert plan.shard_names(config, method, count) == names


def test_specimens_are_the_configs_the_files_or_the_demos(tmp_path):
    assert plan.specimens_of(DEFAULT) == ["demo-01", "demo-02", "demo-03"]
    assert plan.xray_counts(DEFAULT, ["demo-02"]) == {"demo-02": 6}
    path = tmp_path / "own.h5"
    write_small_dataset(path, specimens=("Anna", "Bert"))
    own = merged(DEFAULT, {"dataset": {"path": str(path)}})
    assert plan.specimens_of(own) == ["Anna", "Bert"]
    assert set(plan.xray_counts(own, ["Anna"])) == {"Anna"}
    assert plan.specimens_of(merged(own, {"dataset": {"specimens": ["Bert"]}})) == ["Bert"]


def test_a_file_that_is_not_here_must_be_described():
    config = merged(DEFAULT, {"dataset": {"source": "deepfluoro"}})
    with pytest.raises(InputError, match=r"dataset\.specimens"):
        plan.specimens_of(config)
    assert plan.xray_counts(config, ["17-1882"]) == {"17-1882": 111}
    with pytest.raises(InputError, match="number of X-rays is missing for Anna"):
        plan.xray_counts(config, ["17-1882", "Anna"])
    with pytest.raises(InputError, match="accept_license"):
        check_licence(config)
    check_licence(merged(config, {"deepfluoro": {"accept_license": True}}))
    check_licence(DEFAULT)


def test_costs_are_of_all_that_is_trained_and_registered():
    config = expanded()
    registered = {"ours": ["demo-01", "demo-02"], "wsreg+medsam": ["demo-01"], "table3.ssim": ["demo-01", "demo-02"]}
    costs = plan.costs_of(config, registered, ["psss", "ours"], {"demo-01": 6, "demo-02": 4})
    assert set(costs["segmenters"]) == {"unet", "medsam"}
    assert list(costs["encoders"]) == ["ours", "psss"]
    assert {name: (one["jobs"], one["xrays"]) for name, one in costs["methods"].items()} == {
        "ours": (2, 10),
        "wsreg+medsam": (1, 6),
        "table3.ssim": (2, 2),
    }
    alone = expanded({"tables": {"table2": {"segmenters": []}}})
    assert set(plan.costs_of(alone, {"diffdrr": ["a"]}, ["psss"], {"a": 1})["segmenters"]) == set()
    # The U-Net teaches the encoder.
    assert set(plan.costs_of(alone, {"diffdrr": ["a"]}, ["ours"], {"a": 1})["segmenters"]) == {"unet"}


def test_figure5_needs_its_specimen():
    config = merged(DEFAULT, {"figures": {"case_study": {"specimen": "demo-09"}}})
    with pytest.raises(InputError, match="demo-09") as caught:
        check_case(config, ["demo-01", "demo-02"])
    assert "demo-01, demo-02" in caught.value.remedy
    check_case(DEFAULT, ["demo-01"])


def test_one_specimen_leaves_nothing_out_to_learn_from():
    config = expanded()
    check_leave_one_out(config, ["Anna", "Bert"])
    with pytest.raises(InputError, match=r"tables\.table2\.segmenters"):
        check_leave_one_out(config, ["Anna"])
    without = {
        "tables": {
            "table1": {"methods": ["multi_start+gn"]},
            "table2": {"segmenters": []},
            "table3": {"similarities": []},
        },
        "figures": {"methods": ["multi_start+gn"], "case_study": {"methods": []}, "learning_curves": {"encoders": []}},
    }
    check_leave_one_out(expanded(without), ["Anna"])
    curves = copy.deepcopy(without)
    curves["figures"]["learning_curves"]["encoders"] = ["psss", "ours"]
    with pytest.raises(InputError, match=r"encoders\.ours\.loss\.roi"):
        check_leave_one_out(expanded(curves), ["Anna"])


@pytest.mark.parametrize("name", ["study", "deepfluoro", "smoke"])
def test_every_run_of_ours_can_be_planned(name):
    overlay = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    config = expanded(overlay)
    specimens = plan.specimens_of(config)
    check_leave_one_out(config, specimens)
    registered = dict.fromkeys(config["methods"], specimens)
    costs = plan.costs_of(config, registered, [], plan.xray_counts(config, specimens))
    assert all(one["jobs"] >= len(specimens) for one in costs["methods"].values())


def test_the_memory_of_an_encoders_training_follows_from_the_size_of_the_ct():
    # With the paper's settings 7.2 GB were measured.
    paper = merged(DEFAULT, yaml.safe_load((ROOT / "config/deepfluoro.yaml").read_text()))
    assert plan.encoder_memory(paper) > 7200
    assert plan.encoder_memory(DEFAULT) == 4000


def test_requests_at_the_papers_size_exceed_what_was_measured():
    """Peaks of docs/performance.md, MB."""
    paper = merged(DEFAULT, {"dataset": {"source": "deepfluoro"}})
    assert plan.registration_memory(paper, ["ours"], 1) > 3768
    assert plan.synthesis_memory(paper) > 4903
    assert plan.encoder_memory(paper) > 6719
    assert plan.registration_memory(DEFAULT, ["ours"], 1) == 3000
    assert plan.synthesis_memory(DEFAULT) == 4000
