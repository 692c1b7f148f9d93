"""Exactly what reruns after a change of one key, or of one module."""

import pytest

REGISTER_ALL = {"register": 10, "table1": 1, "figure4": 1, "strips": 5, "convergence": 1}
FROM_SPECIMENS = {"prepare_specimen": 2, **REGISTER_ALL}
FROM_DATASET = {"make_demo_dataset": 1, **FROM_SPECIMENS}
FIGURES = {"figure4": 1, "strips": 5, "convergence": 1}
THREE_METHODS = {"register": 6, "table1": 1, "figure4": 1, "strips": 3, "convergence": 1}
TWO_METHODS = {"register": 4, "table1": 1, "figure4": 1, "strips": 2, "convergence": 1}
ONE_METHOD = {"register": 2, "table1": 1, "figure4": 1, "strips": 1, "convergence": 1}

KEYS = {
    "seed": ({"seed": 1}, REGISTER_ALL),
    "demo.seed": ({"demo": {"seed": 1}}, FROM_DATASET),
    "demo.xrays_per_specimen": ({"demo": {"xrays_per_specimen": 3}}, FROM_DATASET),
    "prepare.crop_px": ({"prepare": {"crop_px": 30}}, FROM_SPECIMENS),
    "prepare.ct_shift_voxels": ({"prepare": {"ct_shift_voxels": -0.5}}, FROM_SPECIMENS),
    "render.step_mm": ({"render": {"step_mm": 3.0}}, REGISTER_ALL),
    "optimizers.adam.iterations": ({"optimizers": {"adam": {"iterations": 13}}}, THREE_METHODS),
    "optimizers.gauss_newton.robust": ({"optimizers": {"gauss_newton": {"robust": "none"}}}, TWO_METHODS),
    "initial_poses.perturbed": ({"initial_poses": {"perturbed": {"rotation_sd_deg": 4.0}}}, THREE_METHODS),
    "initial_poses.multi_start": ({"initial_poses": {"multi_start": {"starts": 50}}}, ONE_METHOD),
    "methods.perturbed.similarity": ({"methods": {"perturbed": {"similarity": "ssim"}}}, ONE_METHOD),
    "methods.perturbed+weights.weights": (
        {"methods": {"perturbed+weights": {"weights": {"exclude": []}}}},
        ONE_METHOD,
    ),
    "methods.diffdrr.label": (
        {"methods": {"diffdrr": {"label": "Plain"}}},
        {"table1": 1, "figure4": 1, "strips": 1, "convergence": 1},
    ),
    "tables.notes": ({"tables": {"notes": ["Another note."]}}, {"table1": 1}),
    "tables.table1.methods": ({"tables": {"table1": {"methods": ["diffdrr", "perturbed"]}}}, {"table1": 1}),
    "figures.dpi": ({"figures": {"dpi": 61}}, FIGURES),
}

MODULES = {
    "simulate.py": FROM_DATASET,
    "prepare.py": FROM_SPECIMENS,
    "similarity.py": {**REGISTER_ALL},
    "register/adam.py": {**REGISTER_ALL},
    "register/gauss_newton.py": {**REGISTER_ALL},
    "register/multi_start.py": {**REGISTER_ALL},
    "summary.py": {"table1": 1},
    "tables.py": {"table1": 1},
    "figures.py": FIGURES,
    "provenance.py": {},
}


def test_the_unchanged_config_reruns_nothing(smoke):
    assert smoke.run("-n").jobs == {}


@pytest.mark.parametrize(("overlay", "expected"), KEYS.values(), ids=KEYS)
def test_a_change_of_one_key_reruns_what_depends_on_it(smoke, overlay, expected):
    result = smoke.run("-n", overlays=(overlay,))
    assert result.status == 0, result.output
    assert result.jobs == expected


def test_a_new_method_runs_alone(smoke):
    method = {
        "label": "SSIM",
        "init": "perturbed",
        "similarity": "ssim",
        "roi": "none",
        "optimizer": "adam",
        "weights": {"coverage": True, "exclude": [], "exclude_margin_mm": 0.0},
    }
    overlay = {"methods": {"ssim": method}, "tables": {"table1": {"methods": ["perturbed", "ssim"]}}}
    assert smoke.run("-n", overlays=(overlay,)).jobs == {"register": 2, "table1": 1}


@pytest.mark.parametrize(("module", "expected"), MODULES.items(), ids=MODULES)
def test_an_edit_of_one_module_reruns_the_rules_that_use_it(smoke, module, expected):
    path = smoke.folder / "src/roireg" / module
    before = path.read_text()
    try:
        path.write_text(before + "\n# a comment changes nothing\n")
        assert smoke.run("-n").jobs == {}
        path.write_text(before + "\nEDITED = True\n")
        assert smoke.run("-n").jobs == expected
    finally:
        path.write_text(before)
