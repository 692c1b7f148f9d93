"""The configuration, checked; paths; and what rules need to know of methods, which roireg.workflow.plan works out."""

import copy
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir)
SOURCE = BASE / "src"
SCRIPTS = BASE / "workflow_scripts"
sys.path.insert(0, str(SOURCE))

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
from roireg.workflow.job import share_source
from roireg.workflow.provenance import code_digest
from roireg.workflow.run_checks import (
    check_case,
    check_conditions,
    check_leave_one_out,
    check_licence,
)

share_source(SOURCE)

try:
    # As the user wrote them, with all defaults, for the report: below, tables add methods of their own.
    SETTINGS = validated(config)
    check_comparisons(SETTINGS)
    config.clear()
    config.update(copy.deepcopy(SETTINGS))
    config["methods"].update(comparison_methods(config))
    config["initial_poses"].update(comparison_starts(config))
    check_references(config)
    check_conditions(config)
    check_licence(config)
    SPECIMENS = plan.specimens_of(config)
    # Unless jobs share X-rays, nobody needs to know how many there are.
    SHARED = config["registration"]["xrays_per_job"] is not None
    XRAYS = plan.xray_counts(config, SPECIMENS) if SHARED else {}
    check_leave_one_out(config, SPECIMENS)
    check_case(config, SPECIMENS)
except InputError as error:
    raise WorkflowError(f"error: {error}") from None

DATASET = config["dataset"]["name"]
# How attenuation follows from Hounsfield units: what tells bone from the rest in a CT that was read.
ATTENUATION = {
    key: config["prepare"][key]
    for key in ("attenuation", "bone_multiplier", "mu_water_per_mm", "mu_bone_per_mm")
}
# Conditions of the demo under which everything is done; without any, results lie in results/{dataset}/ itself.
CONDITIONS = config["conditions"]
OUT = f"results/{DATASET}/{{condition}}" if CONDITIONS else f"results/{DATASET}"
LOGS = f"{OUT}/logs"
BENCHMARKS = f"{OUT}/benchmarks"
ENVIRONMENT = "../envs/roireg.yaml"
REGISTRATIONS = f"{OUT}/registrations/{{method}}/{{specimen}}.csv"
TRACES = f"{OUT}/traces/{{method}}/{{specimen}}.h5"
# Where registration jobs write: the same, or parts of it.
JOBS = f"{OUT}/parts" if SHARED else OUT
PART = ".{part}" if SHARED else ""


def code(script):
    """Fingerprint of a workflow script and of the library modules that it uses."""
    return code_digest(SCRIPTS / f"{script}.py", SOURCE)


def filled(paths, wildcards):
    """Paths of the condition that a job is of."""
    if not CONDITIONS:
        return paths
    return expand(paths, condition=wildcards.condition, allow_missing=True)


def out(wildcards):
    """The results folder of the condition that a job is of."""
    return OUT.format(condition=wildcards.condition) if CONDITIONS else OUT


def everywhere(paths):
    """Paths of all conditions, for targets."""
    return expand(paths, condition=CONDITIONS) if CONDITIONS else paths


def condition_of(wildcards):
    """Name of the condition that a job is of; None without conditions."""
    return wildcards.condition if CONDITIONS else None


def table_notes(wildcards):
    """Lines printed under a table: those of the run, and what its condition is."""
    notes = plan.condition_notes(config, condition_of(wildcards))
    return config["tables"]["notes"] + notes


def segmenter_file(wildcards, segmenter):
    """The network of a segmenter that has not seen a job's specimen."""
    folder = f"{out(wildcards)}/segmenters/{segmenter}"
    return f"{folder}/{wildcards.specimen}/model.safetensors"


def training_data(wildcards):
    """Files of the specimens that a segmenter may see: all but the one that is left out."""
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
    """The DRRs of a pool, and for a ROI term the segmenter that has not seen the specimen."""
    data = {}
    if plan.encoder_entry(config, wildcards.encoder)["samples"] == "pool":
        data["pool"] = f"{out(wildcards)}/drrs/{wildcards.specimen}.h5"
    segmenter = plan.guiding_segmenter(config, wildcards.encoder)
    if segmenter is not None:
        data["segmenter"] = segmenter_file(wildcards, segmenter)
    return data


def networks_for(methods, wildcards):
    """Files of the networks of methods of one start: an encoder's estimates, and segmenters that have not seen the specimen."""
    names = plan.segmenters_for(config, methods)
    files = {"segmenters": [segmenter_file(wildcards, name) for name in names]}
    for encoder in plan.encoders_of(config, methods[:1]):
        folder = f"{out(wildcards)}/encoders/{encoder}"
        files["estimates"] = f"{folder}/{wildcards.specimen}/poses.csv"
    return files


def parts_of(kind, suffix, wildcards):
    """Files of the jobs that share a specimen's X-rays."""
    method, specimen = wildcards.method, wildcards.specimen
    return [
        f"{out(wildcards)}/parts/{kind}/{method}/{specimen}.{part}.{suffix}"
        for part in plan.shard_names(config, method, XRAYS[specimen])
    ]


def pair_of(wildcards):
    """The two methods of a row of Table 3 from one start: without and with the ROI term."""
    roi = config["tables"]["table3"]["roi"]
    return [
        f"table3.{wildcards.similarity}{part}{wildcards.start}"
        for part in ("", f"+{roi}")
    ]


wildcard_constraints:
    condition="|".join(map(re.escape, CONDITIONS)) or "(?!)",
    specimen=r"[^/]+",
    method=r"[^/]+",
    segmenter=r"[^/]+",
    encoder=r"[^/]+",
    part=r"\d+-of-\d+",
