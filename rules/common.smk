"""Configuration checks, paths and helpers shared by all rules."""

import copy
import re
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

BASE = Path(workflow.basedir)
SOURCE = BASE / "src"
SCRIPTS = BASE / "workflow_scripts"
sys.path.insert(0, str(SOURCE))

from roireg.workflow.config import (
    check_conditions,
    check_grids,
    check_references,
    check_schema,
)
from roireg.demo.names import specimen_names as demo_specimen_names
from roireg.errors import InputError
from roireg.workflow.comparisons import (
    ablation_cells,
    grid_methods,
    grid_starts,
    seed_parts,
    seeded,
    table3_pairs,
)
from roireg.workflow.job import share_source
from roireg.workflow.shards import part_names
from roireg.workflow.provenance import code_digest

share_source(SOURCE)


def specimens_of(dataset, demo):
    """Names of the specimens: from the config, from the file, or of the demo."""
    if dataset["specimens"]:
        return dataset["specimens"]
    if dataset["path"] is None:
        if dataset["source"] == "demo":
            return demo_specimen_names(demo["specimens"])
        remedy = 'List them, such as ["17-1882", "18-1109"] of DeepFluoro'
        what = "the file is not here yet, so nobody knows its specimens"
        raise InputError("config: dataset.specimens", what, remedy)
    from roireg.data.deepfluoro import open_dataset, specimen_names

    with open_dataset(dataset["path"]) as file:
        return specimen_names(file)


def xray_counts(config, specimens):
    """How many X-rays each specimen has: of the demo, from the file, or from the config before the file is here."""
    dataset = config["dataset"]
    if dataset["path"] is None and dataset["source"] == "demo":
        return dict.fromkeys(specimens, config["demo"]["xrays_per_specimen"])
    if dataset["path"] is None:
        known = config["deepfluoro"]["xrays"]
        unknown = [name for name in specimens if name not in known]
        if unknown:
            what = f"does not say how many X-rays there are of {', '.join(unknown)}"
            raise InputError("config: deepfluoro.xrays", what, "Add them")
        return {name: known[name] for name in specimens}
    from roireg.data.deepfluoro import open_dataset, projection_names

    with open_dataset(dataset["path"]) as file:
        return {name: len(projection_names(file, name)) for name in specimens}


def check_licence(config):
    """Nothing is fetched whose licence was not accepted."""
    dataset = config["dataset"]
    fetched = dataset["path"] is None and dataset["source"] == "deepfluoro"
    if fetched and not config["deepfluoro"]["accept_license"]:
        what = "DeepFluoro is not fetched before you accept its licence (CC BY-NC 4.0: no commercial use)"
        remedy = "Read it at https://doi.org/10.7281/T1/IFSXNV and set this to true, or set dataset.path to the file"
        raise InputError("config: deepfluoro.accept_license", what, remedy)


def code(script):
    """Fingerprint of a workflow script and of the library modules that it uses."""
    return code_digest(SCRIPTS / f"{script}.py", SOURCE)


def method_settings(name):
    """What decides a method's results: its entry, and those of the start, optimizer and ROI term that it names."""
    method = config["methods"][name]
    return {
        "roi_term": config["roi_terms"].get(method["roi"]),
        "method": {
            key: value for key, value in method.items() if key not in ("label", "xrays")
        },
        "initial_pose": config["initial_poses"][method["init"]],
        "optimizer": config["optimizers"][method["optimizer"]],
    }


def labels_of(methods):
    """Label by name of methods, in their order."""
    return {name: config["methods"][name]["label"] for name in methods}


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


def demo_settings(wildcards):
    """The demo's settings, with those that its condition changes."""
    demo = copy.deepcopy(config["demo"])
    if CONDITIONS:
        update_config(demo, CONDITIONS[wildcards.condition])
    return demo


def condition_notes(wildcards):
    """What the tables of a condition say of it."""
    if not CONDITIONS:
        return []
    settings = demo_settings(wildcards)
    below = (
        f"CTs reach {settings['ct_below_landmarks_mm']:g} mm below the lowest landmark"
    )
    return [
        f"Condition {wildcards.condition}: {below}; the same X-rays in all conditions of the same views."
    ]


def segmenters_of(kind):
    """A pattern of the names of segmenters of one kind; of nothing if there are none."""
    names = [
        re.escape(name)
        for name, entry in config["segment"].items()
        if entry["type"] == kind
    ]
    return "|".join(names) or "(?!)"


def segmenter_settings(wildcards):
    """What decides a segmenter's weights: its entry, and the recipe and augmentation that it uses."""
    segmenter = config["segment"][wildcards.segmenter]
    return {
        "segmenter": {key: value for key, value in segmenter.items() if key != "label"},
        "recipe": config["recipes"][segmenter["recipe"]],
        "augmentation": config["augmentation"],
    }


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


def encoder_settings(wildcards):
    """What decides an encoder's weights: its entry, and the recipe and augmentation that it uses."""
    encoder = config["encoders"][seed_parts(wildcards.encoder)[0]]
    return {
        "encoder": {
            key: value
            for key, value in encoder.items()
            if key not in ("label", "segmenter")
        },
        "recipe": config["recipes"][encoder["recipe"]],
        "augmentation": config["encoder_augmentation"],
    }


def encoder_data(wildcards):
    """The DRRs of a pool, and for a ROI term the segmenter that has not seen the specimen."""
    encoder = config["encoders"][seed_parts(wildcards.encoder)[0]]
    data = {}
    if encoder["samples"] == "pool":
        data["pool"] = f"{out(wildcards)}/drrs/{wildcards.specimen}.h5"
    if encoder["loss"]["roi"] > 0:
        segmenter = encoder["segmenter"]
        data["segmenter"] = (
            f"{out(wildcards)}/segmenters/{segmenter}/{wildcards.specimen}/model.safetensors"
        )
    return data


def roi_segmenters(method):
    """Names of the segmenters that a method's ROI term needs."""
    term = config["roi_terms"].get(config["methods"][method]["roi"])
    if term is None:
        return []
    parts = [term["fixed"], term["boxes"], term.get("moving", "projected")]
    return [name for name in dict.fromkeys(parts) if name != "projected"]


def segmenters_for(methods):
    """Names of the segmenters that the ROI terms of methods need."""
    return list(
        dict.fromkeys(name for method in methods for name in roi_segmenters(method))
    )


def networks_for(methods, wildcards):
    """Files of the networks of methods of one start: an encoder's estimates, and segmenters that have not seen the specimen."""
    start = config["initial_poses"][config["methods"][methods[0]]["init"]]
    files = {
        "segmenters": [
            f"{out(wildcards)}/segmenters/{name}/{wildcards.specimen}/model.safetensors"
            for name in segmenters_for(methods)
        ]
    }
    if start["type"] == "encoder":
        files["estimates"] = (
            f"{out(wildcards)}/encoders/{start['encoder']}/{wildcards.specimen}/poses.csv"
        )
    return files


def gpus_of(methods):
    """GPUs of a job that registers by these methods: Gauss-Newton works on the CPU."""
    types = {
        config["optimizers"][config["methods"][method]["optimizer"]]["type"]
        for method in methods
    }
    return config["registration"]["gpu"] if "adam" in types else 0


def needs_vit_b(methods):
    """Whether one of these methods segments with MedSAM's own network, which fills a GPU or 16 GB with one image."""
    segmenters = [config["segment"][name] for name in segmenters_for(methods)]
    return any(one.get("variant") == "vit_b" for one in segmenters)


def registration_memory(methods, attempt):
    """MB of a registration job; more where one was killed for want of it."""
    least = 16000 if needs_vit_b(methods) else 0
    return max(config["registration"]["mem_mb"], least) * attempt


def xrays_together(methods):
    """X-rays that a GPU optimizes at once."""
    return 1 if needs_vit_b(methods) else config["registration"]["xrays_together"]


def parts_of(kind, suffix, wildcards):
    """Files of the jobs that share a specimen's X-rays."""
    method, specimen = wildcards.method, wildcards.specimen
    limit = config["methods"][method].get("xrays")
    count = min(XRAYS[specimen], limit or XRAYS[specimen])
    return [
        f"{out(wildcards)}/parts/{kind}/{method}/{specimen}.{part}.{suffix}"
        for part in part_names(count, config["registration"]["xrays_per_job"])
    ]


def pair_of(wildcards):
    """The two methods of a row of Table 3 from one start: without and with the ROI term."""
    roi = config["tables"]["table3"]["roi"]
    return [
        f"table3.{wildcards.similarity}{part}{wildcards.start}"
        for part in ("", f"+{roi}")
    ]


def encoders_of(methods):
    """Names of the encoders that methods start from."""
    starts = [
        config["initial_poses"][config["methods"][name]["init"]] for name in methods
    ]
    return sorted({start["encoder"] for start in starts if start["type"] == "encoder"})


def described(segmenters):
    """What Table 2 says of segmenters, by name: label, kind of network, and what they learned from."""
    keys = ("label", "type", "train_on")
    return {
        name: {key: config["segment"][name][key] for key in keys} for name in segmenters
    }


def check_leave_one_out(config, specimens):
    """A segmenter is judged on, and teaches an encoder of, a specimen that it has not seen, so there must be two."""
    if len(specimens) > 1:
        return
    what = f"leaving one specimen out needs two or more, and there is {len(specimens)} ({', '.join(specimens)})"
    if config["tables"]["table2"]["segmenters"]:
        remedy = "Add specimens, or set it to [] to leave Table 2 out"
        raise InputError("config: tables.table2.segmenters", what, remedy)
    figures = config["figures"]
    if figures["case_study"]["methods"]:
        remedy = "Add specimens, or set it to [] to leave Figure 5 out"
        raise InputError("config: figures.case_study.methods", what, remedy)
    methods = [
        *config["tables"]["table1"]["methods"],
        *figures["methods"],
        *figures["capture_range"]["methods"],
    ]
    for name in methods:
        if roi_segmenters(name):
            remedy = "Add specimens, or set it to none to register without ROIs"
            raise InputError(f"config: methods.{name}.roi", what, remedy)
    if table3_pairs(config):
        remedy = "Add specimens, or set it to [] to leave Table 3 out"
        raise InputError("config: tables.table3.similarities", what, remedy)
    if config["tables"]["ablation"]["optimizers"]:
        remedy = "Add specimens, or set it to [] to leave the ablation out"
        raise InputError("config: tables.ablation.optimizers", what, remedy)
    wanted = encoders_of(methods) + config["figures"]["learning_curves"]["encoders"]
    for name in wanted:
        if config["encoders"][seed_parts(name)[0]]["loss"]["roi"] > 0:
            remedy = "Add specimens, or set it to 0 to train without the ROI term"
            raise InputError(f"config: encoders.{name}.loss.roi", what, remedy)


def check_case(config, specimens):
    """The specimen of Figure 5 exists."""
    name = config["figures"]["case_study"]["specimen"]
    if name is not None and name not in specimens:
        what = f"{name!r} is not a specimen of this run"
        remedy = f"Specimens: {', '.join(specimens)}"
        raise InputError("config: figures.case_study.specimen", what, remedy)


try:
    check_schema(config, BASE / "config" / "config.schema.yaml")
    # As the user wrote them, for the report: below, tables add methods of their own.
    SETTINGS = copy.deepcopy(config)
    check_grids(config)
    config["methods"].update(grid_methods(config))
    config["initial_poses"].update(grid_starts(config))
    check_references(config)
    check_conditions(config)
    check_licence(config)
    SPECIMENS = specimens_of(config["dataset"], config["demo"])
    # Unless jobs share X-rays, nobody needs to know how many there are.
    SHARED = config["registration"]["xrays_per_job"] is not None
    XRAYS = xray_counts(config, SPECIMENS) if SHARED else {}
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


wildcard_constraints:
    condition="|".join(map(re.escape, CONDITIONS)) or "(?!)",
    specimen=r"[^/]+",
    method=r"[^/]+",
    segmenter=r"[^/]+",
    encoder=r"[^/]+",
    part=r"\d+-of-\d+",
