"""Checks the configuration, and defines the paths and input functions that the rules use."""

import copy
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Not workflow.basedir, which in a `module` is the folder of the workflow that takes it in.
BASE = Path(str(workflow.current_basedir)).parent
SCRIPTS = BASE / "workflow_scripts"
# A checkout runs its own library; a folder of `roireg workflow init` has none, and runs the installed one.
SOURCE = BASE / "src"
CHECKOUT = (SOURCE / "roireg").is_dir()
if CHECKOUT:
    sys.path.insert(0, str(SOURCE))
elif (INSTALLED := find_spec("roireg")) is not None:
    SOURCE = Path(INSTALLED.origin).parents[1]
else:
    raise WorkflowError(
        "error: roireg is not installed: pip install 'roireg[workflow]'"
    )

from roireg.errors import InputError
from roireg.workflow import plan
from roireg.workflow.comparisons import (
    ablation_cells,
    comparison_methods,
    comparison_starts,
    seed_parts,
    table3_pairs,
    with_seed,
)
from roireg.workflow.config import check_comparisons, check_references, validated
from roireg.plugins import share_plugins
from roireg.workflow.job import share_source
from roireg.workflow.provenance import Library
from roireg.workflow.run_lock import end_with_run, hold_run
from roireg.workflow.run_checks import (
    check_case,
    check_conditions,
    check_leave_one_out,
    check_licence,
)

if CHECKOUT:
    share_source(SOURCE)
LIBRARY = Library(SOURCE)

# After a kill the plain command continues: Snakemake's lock is cleared if the run that set it is dead.
if not workflow.is_main_process:
    end_with_run()
elif not workflow.dryrun:
    hold_run()

try:
    # The configuration with all defaults, for the report; below, methods of Table 3 and the ablation are added to it.
    SETTINGS = validated(config)
    share_plugins(SETTINGS["plugins"])
    check_comparisons(SETTINGS)
    config.clear()
    config.update(copy.deepcopy(SETTINGS))
    config["methods"].update(comparison_methods(config))
    config["initial_poses"].update(comparison_starts(config))
    check_references(config)
    check_conditions(config)
    check_licence(config)
    SPECIMENS = plan.specimens_of(config)
    # Numbers of X-rays are needed only if the X-rays of a specimen are divided among several jobs.
    SHARED = config["registration"]["xrays_per_job"] is not None
    XRAYS = plan.xray_counts(config, SPECIMENS) if SHARED else {}
    check_leave_one_out(config, SPECIMENS)
    check_case(config, SPECIMENS)
except InputError as error:
    raise WorkflowError(f"error: {error}") from None

DATASET = config["dataset"]["name"]
# Conversion from Hounsfield units to attenuation, which determines the attenuation of bone in a prepared CT.
ATTENUATION = {
    key: config["prepare"][key]
    for key in ("attenuation", "bone_multiplier", "mu_water_per_mm", "mu_bone_per_mm")
}
# Conditions (variants of the demo); each has a folder of results. Without any, results go to results/{dataset}/ itself.
CONDITIONS = config["conditions"]
OUT = f"results/{DATASET}/{{condition}}" if CONDITIONS else f"results/{DATASET}"
LOGS = f"{OUT}/logs"
BENCHMARKS = f"{OUT}/benchmarks"
ENVIRONMENT = "../envs/roireg.yaml"
REGISTRATIONS = f"{OUT}/registrations/{{method}}/{{specimen}}.csv"
TRACES = f"{OUT}/traces/{{method}}/{{specimen}}.h5"
# Folder and file suffix of registration jobs; jobs that have only a part of the X-rays (a shard) write to another folder.
JOBS = f"{OUT}/shards" if SHARED else OUT
SHARD = ".{shard}" if SHARED else ""


def code(script, modules=()):
    """Hash of a workflow script, of the library modules that it imports, of `modules` that it is told, and of plugins."""
    return LIBRARY.digest(SCRIPTS / f"{script}.py", SETTINGS["plugins"], modules)


def filled(paths, wildcards):
    """The paths, in the folder of a job's condition."""
    if not CONDITIONS:
        return paths
    return expand(paths, condition=wildcards.condition, allow_missing=True)


def out(wildcards):
    """The results folder of a job's condition."""
    return OUT.format(condition=wildcards.condition) if CONDITIONS else OUT


def everywhere(paths):
    """The paths in the folders of all conditions, for targets."""
    return expand(paths, condition=CONDITIONS) if CONDITIONS else paths


def condition_of(wildcards):
    """Name of a job's condition; None without conditions."""
    return wildcards.condition if CONDITIONS else None


def table_notes(wildcards):
    """Lines printed below a table: the notes of the run and a description of the condition."""
    notes = plan.condition_notes(config, condition_of(wildcards))
    return config["tables"]["notes"] + notes


def segmenter_file(wildcards, segmenter):
    """File of the segmenter that was trained without a job's specimen."""
    folder = f"{out(wildcards)}/segmenters/{segmenter}"
    return f"{folder}/{wildcards.specimen}/model.safetensors"


def training_data(wildcards):
    """Training files of a segmenter: those of all specimens but the one left out."""
    others = [specimen for specimen in SPECIMENS if specimen != wildcards.specimen]
    files = {
        "xrays": rules.prepare_specimen.output,
        "drrs": rules.synthesize_drrs.output,
    }
    return {
        kind: expand(filled(files[kind], wildcards), specimen=others)
        for kind in config["segment"][wildcards.segmenter]["train_on"]
    }


def encoder_data(wildcards):
    """Training files of an encoder: a stored pool of DRRs, and the segmenter of its ROI term, if it uses these."""
    data = {}
    if plan.encoder_entry(config, wildcards.encoder)["samples"] == "pool":
        data["pool"] = f"{out(wildcards)}/drrs/{wildcards.specimen}.h5"
    segmenter = plan.guiding_segmenter(config, wildcards.encoder)
    if segmenter is not None:
        data["segmenter"] = segmenter_file(wildcards, segmenter)
    return data


def networks_for(methods, wildcards):
    """Files that methods with the same start need: an encoder's poses, and segmenters trained without the specimen."""
    names = plan.segmenters_for(config, methods)
    files = {"segmenters": [segmenter_file(wildcards, name) for name in names]}
    for encoder in plan.encoders_of(config, methods[:1]):
        folder = f"{out(wildcards)}/encoders/{encoder}"
        files["estimates"] = f"{folder}/{wildcards.specimen}/poses.csv"
    return files


def shards_of(kind, suffix, wildcards):
    """Files of all jobs among which a specimen's X-rays are divided."""
    method, specimen = wildcards.method, wildcards.specimen
    return [
        f"{out(wildcards)}/shards/{kind}/{method}/{specimen}.{shard}.{suffix}"
        for shard in plan.shard_names(config, method, XRAYS[specimen])
    ]


def pair_of(wildcards):
    """The two methods of a row of Table 3 with the same start: without and with the ROI term."""
    roi = config["tables"]["table3"]["roi"]
    return [
        f"table3.{wildcards.similarity}{term}{wildcards.start}"
        for term in ("", f"+{roi}")
    ]


wildcard_constraints:
    condition="|".join(map(re.escape, CONDITIONS)) or "(?!)",
    specimen=r"[^/]+",
    method=r"[^/]+",
    segmenter=r"[^/]+",
    encoder=r"[^/]+",
    shard=r"\d+-of-\d+",
