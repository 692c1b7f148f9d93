"""Configuration checks, paths and helpers shared by all rules."""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir)
SOURCE = BASE / "src"
SCRIPTS = BASE / "workflow_scripts"
sys.path.insert(0, str(SOURCE))

from roireg.config import check_references, check_schema
from roireg.demo.names import specimen_names as demo_specimen_names
from roireg.errors import InputError
from roireg.job import share_source
from roireg.provenance import code_digest

share_source(SOURCE)


def specimens_of(dataset, demo):
    """Names of the specimens: from the config, from the file, or of the demo."""
    if dataset["specimens"]:
        return dataset["specimens"]
    if dataset["path"] is None:
        return demo_specimen_names(demo["specimens"])
    from roireg.deepfluoro import open_dataset, specimen_names

    with open_dataset(dataset["path"]) as file:
        return specimen_names(file)


def code(script):
    """Fingerprint of a workflow script and of the library modules that it uses."""
    return code_digest(SCRIPTS / f"{script}.py", SOURCE)


def method_settings(wildcards):
    """What decides a method's results: its entry, and those of the start and the optimizer that it names."""
    method = config["methods"][wildcards.method]
    return {
        "method": {key: value for key, value in method.items() if key != "label"},
        "initial_pose": config["initial_poses"][method["init"]],
        "optimizer": config["optimizers"][method["optimizer"]],
    }


def labels_of(methods):
    """Label by name of methods, in their order."""
    return {name: config["methods"][name]["label"] for name in methods}


try:
    check_schema(config, BASE / "config" / "config.schema.yaml")
    check_references(config)
    SPECIMENS = specimens_of(config["dataset"], config["demo"])
except InputError as error:
    raise WorkflowError(f"error: {error}") from None

DATASET = config["dataset"]["name"]
OUT = f"results/{DATASET}"
LOGS = f"{OUT}/logs"
BENCHMARKS = f"{OUT}/benchmarks"
ENVIRONMENT = "../envs/roireg.yaml"


wildcard_constraints:
    specimen=r"[^/]+",
    method=r"[^/]+",
