"""Every rule that runs a script has what such a rule must have."""

from pathlib import Path

import pytest
from workflows import SCRIPTS, RuleFacts, copy_workflow

from roireg.workflow.provenance import Library

# What is fetched is known by its checksum, whatever the code.
WITHOUT_CODE = {"download_demo_ct", "download_deepfluoro"}
# What a script imports by the type that the configuration names.
BY_TYPE = {
    "train_segmenter": ("roireg.segment.train_unet",),
    "estimate": ("roireg.segment.train_medsam", "roireg.segment.train_unet"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def rules(folder) -> list[RuleFacts]:
    """Of all rules; without shared X-rays nothing is gathered."""
    overlay = {"registration": {"xrays_per_job": 1}}
    return [rule for rule in copy_workflow(folder).rules(overlays=(overlay,)) if rule.script]


def test_each_script_belongs_to_a_rule_of_its_name_and_pairs_are_registered_by_the_script_of_one(rules):
    assert {rule.name for rule in rules} == SCRIPTS | {"register_pair"}
    assert all(rule.script == rule.name for rule in rules if rule.name != "register_pair")


def test_a_rule_has_docstring_log_benchmark_environment_and_resources(rules):
    assert len(rules) > len(WITHOUT_CODE)
    for rule in rules:
        assert rule.stated == {"docstring", "log", "benchmark", "environment"}, rule
        assert {"mem_mb", "runtime", "gpu"} <= rule.resources, rule


def test_a_rule_carries_the_fingerprint_of_its_code(rules, folder):
    assert {rule.name for rule in rules if rule.code is None} == WITHOUT_CODE
    library = Library(folder / "src")
    for rule in rules:
        if rule.name not in WITHOUT_CODE:
            script = folder / "workflow_scripts" / f"{rule.script}.py"
            assert rule.code == library.digest(script, (), BY_TYPE.get(rule.name, ())), rule
