"""Exactly what reruns after a change of one key, or of one module."""

import pytest

TABLE1 = {"table1": 1, "errors": 1}
REPORT = {"report_html": 1}
SHOWN = {**TABLE1, "figure4": 1, "convergence": 1}
TABLE3 = {"table3": 1}
ABLATION = {"ablation": 1}
GRIDS = {**TABLE3, **ABLATION}
FIGURE5 = {"figure5": 1}
CAPTURE = {"capture_range": 1}
# From multi-start's poses, on two specimens.
BONES = {"register_bones": 2, "bones": 1}
# Two pairs of Table 3 on two specimens each.
PAIRS = {"register_pair": 4}
# Seven methods of Table 1 and four of the ablation, on two specimens each, one of Figure 5 on one.
REGISTER_ALL = {"register": 23, **PAIRS, **SHOWN, **GRIDS, **FIGURE5, **CAPTURE}
ONE_METHOD = {"register": 2, **SHOWN}
ONE_SEGMENTER = {"segment_dice": 2, "segmentations": 1, "table2": 1, **FIGURE5}
# Only the encoder with a ROI term learns from the U-Net; three methods of Table 1 and all others start from it.
FROM_OURS = {"estimate_poses": 2, **REGISTER_ALL, "register": 15, "learning_curves": 1}
OURS = {"train_encoder": 2, **FROM_OURS}
ONE_BASELINE = {"train_encoder": 2, "estimate_poses": 2, **ONE_METHOD, "learning_curves": 1}
FROM_ENCODERS = {"estimate_poses": 6, **REGISTER_ALL, "register": 19}
ENCODERS = {"train_encoder": 6, **FROM_ENCODERS, "learning_curves": 1}
UNET = {"train_segmenter": 2, **ONE_SEGMENTER, **OURS}
MEDSAM = {"train_segmenter": 2, "register": 1, **ONE_SEGMENTER}
DICE_ALL = {"segment_dice": 4, "segmentations": 2, "table2": 1, **FIGURE5}
SEGMENT_ALL = {"train_segmenter": 4, **DICE_ALL, **OURS}
LEARN_ALL = {**SEGMENT_ALL, **ENCODERS}
FROM_DRRS = {"synthesize_drrs": 2, **LEARN_ALL}
FROM_SPECIMENS = {"prepare_specimen": 2, **FROM_DRRS, "figure1": 1, **REGISTER_ALL, **BONES}
FROM_DATASET = {"make_demo_dataset": 1, **FROM_SPECIMENS}
ERRORS = {"errors": 1, **CAPTURE}
FIGURES = {
    "figure1": 1,
    "segmentations": 2,
    "learning_curves": 1,
    "figure4": 1,
    **FIGURE5,
    **ERRORS,
    "convergence": 1,
}
ADAM_METHODS = {**REGISTER_ALL, "register": 11}
del ADAM_METHODS["ablation"]
# wsreg, ours, of which figures show the latter, and Table 3.
DICE_METHODS = {"register": 4, **PAIRS, **SHOWN, **TABLE3, **FIGURE5, **CAPTURE}
TABLE3_ALL = {**PAIRS, **TABLE3}
ABLATION_ALL = {"register": 8, **ABLATION}
# Ours, by both optimizers, and multi-start; two methods of the ablation.
WEIGHTED_METHODS = {"register": 10, **SHOWN, **ABLATION, **CAPTURE, **BONES}
GAUSS_NEWTON_METHODS = {"register": 12, **TABLE1, **ABLATION, **CAPTURE, **BONES}

OTHER_ORDER = [
    "upper sacrum",
    "vertebrae",
    "left hemipelvis",
    "right hemipelvis",
    "left femur",
    "right femur",
]

KEYS = {
    "seed": ({"seed": 1}, {**FROM_DRRS, **REGISTER_ALL, **BONES}),
    "deepfluoro.sha256": ({"deepfluoro": {"sha256": "0" * 64}}, {}),
    "demo.seed": ({"demo": {"seed": 1}}, FROM_DATASET),
    "demo.xrays_per_specimen": ({"demo": {"xrays_per_specimen": 3}}, FROM_DATASET),
    "prepare.crop_px": ({"prepare": {"crop_px": 30}}, FROM_SPECIMENS),
    "prepare.ct_shift_voxels": ({"prepare": {"ct_shift_voxels": 0.5}}, FROM_SPECIMENS),
    "prepare.attenuation": ({"prepare": {"attenuation": "diffdrr"}}, FROM_SPECIMENS),
    "render.step_mm": ({"render": {"step_mm": 3.0}}, {**FROM_DRRS, **REGISTER_ALL, **BONES}),
    "rois": ({"rois": OTHER_ORDER}, {**FROM_DRRS, "figure1": 1}),
    "synthesize.bone_contrast": ({"synthesize": {"bone_contrast": [1.0, 2.0]}}, FROM_DRRS),
    "synthesize.contrast_scales": ({"synthesize": {"contrast_scales": "hu"}}, FROM_DRRS),
    "synthesize.rotation_center": ({"synthesize": {"rotation_center": "ct_corner"}}, FROM_DRRS),
    "registration.gpu": ({"registration": {"gpu": 1}}, {}),
    "registration.xrays_together": ({"registration": {"xrays_together": 2}}, {}),
    # Two X-rays of each specimen: two jobs, but for Table 3 and the ablation, which take one.
    "registration.xrays_per_job": (
        {"registration": {"xrays_per_job": 1}},
        {**REGISTER_ALL, "register": 38, "gather": 31, **BONES},
    ),
    "training.gpu": ({"training": {"gpu": 1}}, {}),
    "augmentation.noise_sd": ({"augmentation": {"noise_sd": 0.04}}, SEGMENT_ALL),
    "recipes.sgd.learning_rate": ({"recipes": {"sgd": {"learning_rate": 0.05}}}, UNET),
    "recipes.adamw_from_scratch": ({"recipes": {"adamw_from_scratch": {"weight_decay": 0.02}}}, MEDSAM),
    "recipes.adam.learning_rate": ({"recipes": {"adam": {"learning_rate": 0.05}}}, {}),
    "segment.unet.widths": ({"segment": {"unet": {"widths": [4, 4, 4, 4, 4, 8]}}}, UNET),
    "segment.unet.loss": ({"segment": {"unet": {"loss": {"squared_dice": True}}}}, UNET),
    "segment.unet.recipe": ({"segment": {"unet": {"recipe": "adam"}}}, UNET),
    "segment.unet.train_on": ({"segment": {"unet": {"train_on": ["drrs"]}}}, UNET),
    "segment.unet.label": ({"segment": {"unet": {"label": "Net"}}}, {"segmentations": 1, "table2": 1, **FIGURE5}),
    "segment.medsam.box_jitter_px": ({"segment": {"medsam": {"box_jitter_px": 20}}}, MEDSAM),
    "segment.medsam.epochs": ({"segment": {"medsam": {"epochs": 2}}}, MEDSAM),
    "optimizers.adam.patience": ({"optimizers": {"adam": {"patience": 3}}}, ADAM_METHODS),
    "optimizers.adam.iterations": ({"optimizers": {"adam": {"iterations": 13}}}, ADAM_METHODS),
    "optimizers.adam.parameters": ({"optimizers": {"adam": {"parameters": "pose_logarithm"}}}, ADAM_METHODS),
    "optimizers.adam.ncc_epsilon": ({"optimizers": {"adam": {"ncc_epsilon": 2.0e-7}}}, ADAM_METHODS),
    "optimizers.gauss_newton.robust": ({"optimizers": {"gauss_newton": {"robust": "none"}}}, GAUSS_NEWTON_METHODS),
    "initial_poses.perturbed": ({"initial_poses": {"perturbed": {"rotation_sd_deg": 4.0}}}, {}),
    "initial_poses.multi_start": (
        {"initial_poses": {"multi_start": {"starts": 50}}},
        {"register": 2, **TABLE1, **BONES},
    ),
    "encoder_augmentation.rods": ({"encoder_augmentation": {"rods": 1}}, ENCODERS),
    "recipes.encoder.learning_rate": ({"recipes": {"encoder": {"learning_rate": 0.001}}}, ENCODERS),
    "encoders.ours.loss.roi": ({"encoders": {"ours": {"loss": {"roi": 0.2}}}}, OURS),
    "encoders.ours.loss.bone_contrast": ({"encoders": {"ours": {"loss": {"bone_contrast": "drawn"}}}}, OURS),
    "encoders.diffpose.network.pooling": (
        {"encoders": {"diffpose": {"network": {"pooling": "average"}}}},
        ONE_BASELINE,
    ),
    "encoders.psss.output_unit": ({"encoders": {"psss": {"output_unit": "rad_and_mm"}}}, ONE_BASELINE),
    "encoders.ours.epochs": ({"encoders": {"ours": {"epochs": 3}}}, OURS),
    "encoders.diffpose.loss.similarity": ({"encoders": {"diffpose": {"loss": {"similarity": "mncc"}}}}, ONE_BASELINE),
    "encoders.psss.stages": ({"encoders": {"psss": {"stages": 1}}}, ONE_BASELINE),
    "encoders.psss.label": ({"encoders": {"psss": {"label": "Autoencoder"}}}, {"learning_curves": 1}),
    "initial_poses.diffpose.encoder": ({"initial_poses": {"diffpose": {"encoder": "ours"}}}, ONE_METHOD),
    "figures.learning_curves.seeds": (
        {"figures": {"learning_curves": {"seeds": [0, 1]}}},
        {"train_encoder": 6, "learning_curves": 1},
    ),
    "methods.diffpose.similarity": ({"methods": {"diffpose": {"similarity": "ssim"}}}, ONE_METHOD),
    "roi_terms.unet.weight": ({"roi_terms": {"unet": {"weight": 0.2}}}, DICE_METHODS),
    "roi_terms.medsam.weight": ({"roi_terms": {"medsam": {"weight": 0.2}}}, {}),
    "methods.ours.roi": ({"methods": {"ours": {"roi": "projected"}}}, {**ONE_METHOD, **CAPTURE}),
    "methods.ours.weights": ({"methods": {"ours": {"weights": "coverage"}}}, {**ONE_METHOD, **CAPTURE}),
    "weights.coverage+femurs.exclude": ({"weights": {"coverage+femurs": {"exclude": []}}}, WEIGHTED_METHODS),
    "methods.diffdrr.label": ({"methods": {"diffdrr": {"label": "Plain"}}}, SHOWN),
    "roi_terms.mask.outside": ({"roi_terms": {"mask": {"outside": 0.1}}}, {"register": 4, **ABLATION}),
    "report.xrays_per_specimen": ({"report": {"xrays_per_specimen": 1}}, {}),
    "tables.notes": ({"tables": {"notes": ["Another note."]}}, {"table1": 1, "table2": 1, **GRIDS, "bones": 1}),
    "bones.names": ({"bones": {"names": ["right femur"]}}, BONES),
    "bones.methods": ({"bones": {"methods": ["ours+gn"]}}, BONES),
    "bones.methods, none": ({"bones": {"methods": []}}, {}),
    "tables.ablation.rois": ({"tables": {"ablation": {"rois": []}}}, ABLATION),
    "tables.ablation.xrays_per_specimen": (
        {"tables": {"ablation": {"xrays_per_specimen": None}}},
        ABLATION_ALL,
    ),
    "tables.ablation.seeds": (
        {"tables": {"ablation": {"seeds": [0, 1]}}},
        {"train_encoder": 2, "estimate_poses": 2, **ABLATION_ALL},
    ),
    "tables.table3.similarities": ({"tables": {"table3": {"similarities": ["ssim"]}}}, TABLE3),
    "tables.table3.xrays_per_specimen": ({"tables": {"table3": {"xrays_per_specimen": None}}}, TABLE3_ALL),
    "tables.table3.weights": ({"tables": {"table3": {"weights": "coverage"}}}, TABLE3_ALL),
    "tables.table2.segmenters": ({"tables": {"table2": {"segmenters": ["unet"]}}}, {"table2": 1}),
    "tables.table1.methods": ({"tables": {"table1": {"methods": ["diffdrr", "ours"]}}}, TABLE1),
    "figures.case_study.specimen": (
        {"figures": {"case_study": {"specimen": "demo-02"}}},
        {"register": 1, **FIGURE5},
    ),
    "figures.capture_range.edges_mm": ({"figures": {"capture_range": {"edges_mm": [0, 9]}}}, CAPTURE),
    "figures.dpi": ({"figures": {"dpi": 61}}, FIGURES),
}

# Of those, some that `snakemake -n` itself plans, in a process of its own: nothing, a leaf, a network, a new rule, all.
COMMANDS = (
    "registration.gpu",
    "figures.dpi",
    "segment.unet.widths",
    "registration.xrays_per_job",
    "demo.seed",
)

# One module of each layer, as proof that a rule's parameter `code` is the hash of what it uses; the whole table is in
# tests/unit/workflow/test_provenance.py.
MODULES = {
    "data/prepare.py": FROM_SPECIMENS,
    "register/gauss_newton.py": {**REGISTER_ALL, **BONES},
    "register/bone_descent.py": BONES,
    "tables/table3.py": TABLE3,
    "segment/train_unet.py": UNET,
    "workflow/provenance.py": {},
}


def test_the_unchanged_config_reruns_nothing(smoke):
    assert smoke.run("-n").jobs == {}


def test_the_same_values_written_otherwise_rerun_nothing(smoke):
    overlay = {
        "prepare": {"ct_shift_voxels": 0},
        "encoders": {"ours": {"loss": {"geodesic": 1.0e-2}}},
        "figures": {"capture_range": {"edges_mm": [0.0, 10, 20, 40, 80, 160]}},
    }
    assert smoke.run("-n", overlays=(overlay,)).jobs == {}


@pytest.mark.parametrize(("overlay", "expected"), KEYS.values(), ids=KEYS)
def test_a_change_of_one_key_reruns_what_depends_on_it(smoke, overlay, expected):
    result = smoke.plan(overlays=(overlay,))
    assert result.status == 0, result.output
    # The report shows all settings.
    assert result.jobs == {**expected, **REPORT}


@pytest.mark.parametrize("key", COMMANDS)
def test_the_command_plans_the_same(smoke, key):
    overlay, expected = KEYS[key]
    assert smoke.run("-n", overlays=(overlay,)).jobs == {**expected, **REPORT}


def test_a_new_method_runs_alone(smoke):
    method = {
        "label": "SSIM",
        "init": "ours",
        "similarity": "ssim",
        "roi": "none",
        "optimizer": "adam",
        "weights": "coverage",
    }
    overlay = {"methods": {"ssim": method}, "tables": {"table1": {"methods": ["ours", "ssim"]}}}
    assert smoke.plan(overlays=(overlay,)).jobs == {"register": 2, **TABLE1, **REPORT}


@pytest.mark.parametrize(("module", "expected"), MODULES.items(), ids=MODULES)
def test_an_edit_of_one_module_reruns_the_rules_that_use_it(smoke, module, expected):
    path = smoke.folder / "src/roireg" / module
    before = path.read_text()
    try:
        path.write_text(before + "\n# a comment changes nothing\n")
        unchanged = smoke.plan()
        path.write_text(before + "\nEDITED = True\n")
        changed = smoke.plan()
    finally:
        path.write_text(before)
    assert unchanged.status == changed.status == 0, changed.output
    assert unchanged.jobs == {}
    assert changed.jobs == ({**expected, **REPORT} if expected else {})
