"""Plan of a run: its specimens, the settings that determine each result, and the resources of each job.

All functions take the whole configuration (`config`), with all keys and with the methods that Table 3 and the ablation
add.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from roireg.demo.names import specimen_names as demo_specimen_names
from roireg.errors import InputError
from roireg.register.registry import OPTIMIZERS
from roireg.register.settings import segmenter_names
from roireg.segment.registry import SEGMENTERS, VIT_B_MB
from roireg.workflow.comparisons import seed_parts
from roireg.workflow.config import merged
from roireg.workflow.shards import numbered_shards

Config = Mapping[str, Any]
# Torch with its libraries, and a CT of 360^3 voxels in float32, as DeepFluoro's.
LIBRARIES_MB, CT_MB = 2500, 190
DEMO_ENCODER_MB = 4000
# Bytes of one iterate in a trace: a pose, the objective, its two terms, and the error, in float64.
TRACE_BYTES = (16 + 4) * 8
# Levels of resolution of an optimizer whose iterations differ in cost, and its last iterate.
LEVELS = 4
# What a registration with an exclusion holds at once, in CTs of that size: the CT and its labels, both packed for the
# renderer, the distance to a label (float64, as two) and its indices, and the masks made of it.
REGISTRATION_VOLUMES = 10


def specimens_of(config: Config) -> list[str]:
    """Names of the specimens: from the config, else from the file, else those of the demo.

    Raises:
        InputError: the file is not downloaded yet, and the config does not list its specimens.
    """
    dataset = config["dataset"]
    if dataset["specimens"]:
        return dataset["specimens"]
    if dataset["path"] is None:
        if dataset["source"] == "demo":
            return demo_specimen_names(config["demo"]["specimens"])
        remedy = 'List them, such as ["17-1882", "18-1109"] of DeepFluoro'
        what = "the specimens are not known because the file is not downloaded yet"
        raise InputError("config: dataset.specimens", what, remedy)
    from roireg.data.deepfluoro import specimen_names
    from roireg.data.readers.hdf5_file import open_dataset

    with open_dataset(dataset["path"]) as file:
        return specimen_names(file)


def xray_counts(config: Config, specimens: Sequence[str]) -> dict[str, int]:
    """Number of X-rays of each specimen: from the demo's settings, from the file, or, before its download, the config.

    Raises:
        InputError: the file is not downloaded yet, and the config lacks the number for a specimen.
    """
    dataset = config["dataset"]
    if dataset["path"] is None and dataset["source"] == "demo":
        return dict.fromkeys(specimens, config["demo"]["xrays_per_specimen"])
    if dataset["path"] is None:
        known = config["deepfluoro"]["xrays"]
        unknown = [name for name in specimens if name not in known]
        if unknown:
            what = f"the number of X-rays is missing for {', '.join(unknown)}"
            raise InputError("config: deepfluoro.xrays", what, "Add it")
        return {name: known[name] for name in specimens}
    from roireg.data.deepfluoro import projection_names
    from roireg.data.readers.hdf5_file import open_dataset

    with open_dataset(dataset["path"]) as file:
        return {name: len(projection_names(file, name)) for name in specimens}


def demo_settings(config: Config, condition: str | None) -> dict[str, Any]:
    """The demo's settings, after the changes of a condition."""
    changes = {} if condition is None else config["conditions"][condition]
    return merged(config["demo"], changes)


def condition_notes(config: Config, condition: str | None) -> list[str]:
    """Notes that describe a condition below its tables; empty without conditions."""
    if condition is None:
        return []
    below_mm = demo_settings(config, condition)["ct_below_landmarks_mm"]
    end = f"CTs end {below_mm:g} mm below the lowest landmark"
    return [f"Condition {condition}: {end}. Conditions with the same `views` have the same X-rays."]


def method_settings(config: Config, name: str) -> dict[str, Any]:
    """Settings that determine a method's results: its entry, and its start, optimizer, ROI term and weights."""
    method = config["methods"][name]
    return {
        "roi_term": config["roi_terms"].get(method["roi"]),
        "method": {key: value for key, value in method.items() if key not in ("label", "xrays")},
        "initial_pose": config["initial_poses"][method["init"]],
        "fallback": config["initial_poses"].get(method.get("fallback")),
        "optimizer": config["optimizers"][method["optimizer"]],
        "weights": config["weights"][method["weights"]],
    }


def segmenter_settings(config: Config, name: str) -> dict[str, Any]:
    """Settings that determine a trained segmenter: its entry, its recipe and the augmentation."""
    segmenter = config["segment"][name]
    return {
        "segmenter": {key: value for key, value in segmenter.items() if key != "label"},
        "recipe": config["recipes"][segmenter["recipe"]],
        "augmentation": config["augmentation"],
    }


def encoder_entry(config: Config, name: str) -> dict[str, Any]:
    """The entry of an encoder, given by `name` or `name@n` (n is added to the seed)."""
    return config["encoders"][seed_parts(name)[0]]


def encoder_settings(config: Config, name: str) -> dict[str, Any]:
    """Settings that determine a trained encoder: its entry, its recipe and the augmentation."""
    encoder = encoder_entry(config, name)
    return {
        "encoder": {key: value for key, value in encoder.items() if key not in ("label", "segmenter")},
        "recipe": config["recipes"][encoder["recipe"]],
        "augmentation": config["encoder_augmentation"],
    }


def guiding_segmenter(config: Config, encoder: str) -> str | None:
    """The segmenter for the ROI term of an encoder's loss; None without such a term."""
    entry = encoder_entry(config, encoder)
    return entry["segmenter"] if entry["loss"]["roi"] > 0 else None


def bone_settings(config: Config) -> dict[str, Any]:
    """Settings that determine the registrations of bones, whichever method they start from."""
    return {key: value for key, value in config["bones"].items() if key != "methods"}


def labels_of(config: Config, methods: Iterable[str]) -> dict[str, str]:
    """Labels of methods by name, in the given order."""
    return {name: config["methods"][name]["label"] for name in methods}


def described(config: Config, segmenters: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Entries of Table 2 by segmenter: label, type of network, and training images."""
    keys = ("label", "type", "train_on")
    return {name: {key: config["segment"][name][key] for key in keys} for name in segmenters}


def training_modules(config: Config, segmenters: Iterable[str]) -> list[str]:
    """Names of the modules that train segmenters."""
    return sorted({SEGMENTERS[config["segment"][name]["type"]].training for name in segmenters})


def segmenter_memory(config: Config, name: str) -> int:
    """Main memory of a segmenter's training, MB."""
    entry = config["segment"][name]
    return SEGMENTERS[entry["type"]].memory_mb(entry)


def segmenters_for(config: Config, methods: Iterable[str]) -> list[str]:
    """Names of the segmenters that the ROI terms of methods need."""
    terms = [config["roi_terms"].get(config["methods"][method]["roi"]) for method in methods]
    return list(dict.fromkeys(name for term in terms if term is not None for name in segmenter_names(term)))


def has_roi_term(config: Config, method: str) -> bool:
    """True if the method has a ROI term."""
    return config["methods"][method]["roi"] in config["roi_terms"]


def start_of(config: Config, method: str) -> dict[str, Any]:
    """The entry of a method's start."""
    return config["initial_poses"][config["methods"][method]["init"]]


def encoders_of(config: Config, methods: Iterable[str]) -> list[str]:
    """Names of the encoders that methods start from."""
    starts = [start_of(config, name) for name in methods]
    return sorted({start["encoder"] for start in starts if "encoder" in start})


def gpus_of(config: Config, methods: Iterable[str]) -> int:
    """Number of GPUs of a job that registers by these methods."""
    types = {config["optimizers"][config["methods"][method]["optimizer"]]["type"] for method in methods}
    return config["registration"]["gpu"] if any(OPTIMIZERS[optimizer].gpu_pays for optimizer in types) else 0


def _is_demo(config: Config) -> bool:
    """True if the CTs are those of the demo, which are small."""
    return config["dataset"]["source"] == "demo" and config["dataset"]["path"] is None


def encoder_memory(config: Config) -> int:
    """MB of a training of an encoder, from the volumes that it holds at most.

    DRRs for the learning curve and those for training each need the CT and its bone, with and without tissue beyond
    its ends, as they are and as the renderer packs them, and a mask of each ROI, packed too.
    """
    if _is_demo(config):
        return DEMO_ENCODER_MB
    return max(DEMO_ENCODER_MB, LIBRARIES_MB + 2 * _volumes_to_synthesize(config) * CT_MB)


def synthesis_memory(config: Config) -> int:
    """MB of a job that renders the pool of DRRs of a specimen."""
    if _is_demo(config):
        return DEMO_ENCODER_MB
    return max(DEMO_ENCODER_MB, LIBRARIES_MB + _volumes_to_synthesize(config) * CT_MB)


def _volumes_to_synthesize(config: Config) -> int:
    """Volumes of a CT's size from which DRRs are made: see `encoder_memory`."""
    return 2 * (4 + len(config["rois"]))


def needs_vit_b(config: Config, methods: Iterable[str]) -> bool:
    """True if one of the methods uses MedSAM's full-size network, which needs 16 GB or a whole GPU for one image."""
    return any(config["segment"][name].get("variant") == "vit_b" for name in segmenters_for(config, methods))


def registration_memory(config: Config, methods: Collection[str], attempt: int) -> int:
    """Main memory of a registration job in MB, multiplied by the number of the attempt after an out-of-memory kill."""
    least = VIT_B_MB if needs_vit_b(config, methods) else 0
    if not _is_demo(config):
        least = max(least, LIBRARIES_MB + REGISTRATION_VOLUMES * CT_MB)
    return max(config["registration"]["mem_mb"], least) * attempt


def xrays_together(config: Config, methods: Collection[str]) -> int:
    """Number of X-rays that a GPU optimizes at once."""
    return 1 if needs_vit_b(config, methods) else config["registration"]["xrays_together"]


def xrays_of(config: Config, method: str, count: int) -> int:
    """Number of X-rays that a method registers of a specimen that has `count`."""
    return min(count, config["methods"][method].get("xrays") or count)


def trace_bytes(config: Config, method: str, xrays: int) -> int:
    """Size of the trace of so many X-rays, if the optimizer does all its iterations."""
    optimizer = config["optimizers"][config["methods"][method]["optimizer"]]
    by_iteration = OPTIMIZERS[optimizer["type"]].equal_iterations
    return xrays * (optimizer["iterations"] + 1 if by_iteration else optimizer["iterations"] * LEVELS) * TRACE_BYTES


def shard_names(config: Config, method: str, count: int) -> list[str]:
    """Names of the jobs among which the `count` X-rays of a specimen are divided.

    A method that registers several X-rays jointly has one job, so that the grouping does not depend on the jobs.
    """
    xrays = xrays_of(config, method, count)
    alone = config["methods"][method].get("views", 1) == 1
    return numbered_shards(xrays, (config["registration"]["xrays_per_job"] if alone else None) or xrays)


def costs_of(
    config: Config, registered: Mapping[str, Sequence[str]], curves: Sequence[str], xrays: Mapping[str, int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Trainings and registrations of a run, with their settings and numbers of jobs and X-rays.

    Args:
        config: the configuration.
        registered: for each method that tables or figures show, the specimens that it registers.
        curves: encoders whose learning curves are shown.
        xrays: number of X-rays of each specimen.
    """
    encoders = list(dict.fromkeys([*encoders_of(config, registered), *curves]))
    guides = [guiding_segmenter(config, name) for name in encoders]
    wanted = [*config["tables"]["table2"]["segmenters"], *segmenters_for(config, registered), *guides]
    plan: dict[str, dict[str, dict[str, Any]]] = {"segmenters": {}, "encoders": {}, "methods": {}}
    for name in dict.fromkeys(segmenter for segmenter in wanted if segmenter is not None):
        plan["segmenters"][name] = {"settings": segmenter_settings(config, name), "jobs": len(xrays)}
    for name in encoders:
        plan["encoders"][name] = {
            "settings": encoder_settings(config, name),
            "segmenter": encoder_entry(config, name)["segmenter"],
            "jobs": len(xrays),
        }
    for name, specimens in registered.items():
        count = sum(xrays_of(config, name, xrays[specimen]) for specimen in specimens)
        plan["methods"][name] = {
            "settings": method_settings(config, name),
            "jobs": sum(len(shard_names(config, name, xrays[specimen])) for specimen in specimens),
            "xrays": count,
            "bytes": trace_bytes(config, name, count),
        }
    return plan
