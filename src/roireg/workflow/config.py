"""Checks of the workflow's configuration that end in one clear line."""

import math
import sys
from pathlib import Path
from typing import Any

import yaml

from roireg.errors import InputError
from roireg.workflow.comparisons import NO_ROI, OWN, seed_parts

# jsonschema compiles grammars for formats that no schema here names, for over a second in every job: it goes without.
sys.modules.setdefault("rfc3987_syntax", None)

from jsonschema import Draft202012Validator  # noqa: E402
from jsonschema.exceptions import best_match  # noqa: E402

# What no segmenter finds: the CT's labels, projected.
PROJECTED = "projected"


def _key(parts) -> str:
    return "config: " + (".".join(str(part) for part in parts) or "top level")


def check_schema(config: dict[str, Any], schema_path: Path) -> None:
    """Check a configuration against a JSON schema.

    Raises:
        InputError: names the key, what is wrong with it, and what is allowed.
    """
    _check_finite(config, ())
    schema = yaml.safe_load(schema_path.read_text())
    error = best_match(Draft202012Validator(schema).iter_errors(config))
    if error is None:
        return
    remedy = f"See {schema_path.name}"
    if error.validator == "additionalProperties":
        remedy = "Known keys: " + ", ".join(sorted(error.schema.get("properties", {})))
    elif "description" in error.schema:
        remedy = f"It is: {error.schema['description']}"
    raise InputError(_key(error.absolute_path), error.message, remedy)


def _check_finite(value: Any, path: tuple) -> None:
    """JSON Schema's ranges let NaN and infinity through."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(_key(path), f"{value} is not a finite number", "Give a number")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _check_finite(item, (*path, key))


def check_references(config: dict[str, Any]) -> None:
    """Check that names which the configuration uses are names which it defines.

    Raises:
        InputError: a method, start, optimizer, segmenter or recipe is named that does not exist or does not go with the
            others, or a range is upside down.
    """
    for name, optimizer in config["optimizers"].items():
        if optimizer["type"] == "gauss_newton" and len(optimizer["local_sigma_px"]) != len(optimizer["levels_px"]):
            what = f"{len(optimizer['local_sigma_px'])} values for {len(optimizer['levels_px'])} levels"
            raise InputError(f"config: optimizers.{name}.local_sigma_px", what, "Give one for each of levels_px")
    methods = config["methods"]
    for name, method in methods.items():
        for key, section in (("init", "initial_poses"), ("optimizer", "optimizers")):
            _known(f"methods.{name}.{key}", method[key], config[section])
        if method["roi"] != NO_ROI:
            _known(f"methods.{name}.roi", method["roi"], {NO_ROI: None, **config["roi_terms"]})
        _check_objective(name, method, config["optimizers"][method["optimizer"]]["type"], config["roi_terms"])
    for name, term in config["roi_terms"].items():
        _check_roi_term(name, term, config["segment"])
    for name in config["tables"]["table1"]["methods"]:
        _known("tables.table1.methods", name, methods)
    figures = config["figures"]
    shown = {
        "methods": figures["methods"],
        "case_study.methods": figures["case_study"]["methods"],
        "capture_range.methods": figures["capture_range"]["methods"],
    }
    for key, names in shown.items():
        for name in names:
            _known(f"figures.{key}", name, methods)
    for name in figures["case_study"]["segmenters"]:
        _known("figures.case_study.segmenters", name, config["segment"])
    edges_mm = figures["capture_range"]["edges_mm"]
    if edges_mm != sorted(edges_mm):
        raise InputError("config: figures.capture_range.edges_mm", "edges do not rise", "Give the smaller ones first")
    tables = config["tables"]
    used = {*tables["table1"]["methods"]}.union(*shown.values())
    terms = {methods[name]["roi"] for name in used}
    terms |= {tables["table3"]["roi"]} if tables["table3"]["similarities"] else set()
    terms |= {*tables["ablation"]["rois"]} if tables["ablation"]["optimizers"] else set()
    for term in terms - {NO_ROI}:
        for roi in config["roi_terms"][term]["rois"]:
            _known(f"roi_terms.{term}.rois", roi, dict.fromkeys(config["rois"]))
    for name, segmenter in config["segment"].items():
        _known(f"segment.{name}.recipe", segmenter["recipe"], config["recipes"])
    for name, encoder in config["encoders"].items():
        _known(f"encoders.{name}.recipe", encoder["recipe"], config["recipes"])
        _check_encoder(name, encoder, config["segment"])
    for name, start in config["initial_poses"].items():
        if start["type"] == "encoder":
            _known(f"initial_poses.{name}.encoder", seed_parts(start["encoder"])[0], config["encoders"])
    for name in config["figures"]["learning_curves"]["encoders"]:
        _known("figures.learning_curves.encoders", name, config["encoders"])
    for name in config["tables"]["table2"]["segmenters"]:
        _known("tables.table2.segmenters", name, config["segment"])
    ranges = (
        ("synthesize", "bone_contrast"),
        ("augmentation", "gamma"),
        ("encoder_augmentation", "gamma"),
        ("encoder_augmentation", "blur_sigma_px"),
    )
    for section, key in ranges:
        low, high = config[section][key]
        if low > high:
            raise InputError(f"config: {section}.{key}", f"{low} is more than {high}", "Give the smaller one first")


def check_conditions(config: dict[str, Any]) -> None:
    """Check that conditions, which change the demo, are asked for of the demo.

    Raises:
        InputError: the dataset is another one.
    """
    dataset = config["dataset"]
    if config["conditions"] and (dataset["path"] is not None or dataset["source"] != "demo"):
        what = "conditions change the demo, and the dataset is another one"
        raise InputError("config: conditions", what, "Leave them out, or set dataset.source to demo")


def check_grids(config: dict[str, Any]) -> None:
    """Check the names by which Table 3 and the ablation ask for methods.

    Raises:
        InputError: a start, ROI term or optimizer is named that does not exist.
    """
    table3, ablation = config["tables"]["table3"], config["tables"]["ablation"]
    _known("tables.table3.init", table3["init"], config["initial_poses"])
    _known("tables.table3.roi", table3["roi"], config["roi_terms"])
    _known("tables.table3.optimizer", table3["optimizer"], config["optimizers"])
    _known("tables.ablation.init", ablation["init"], config["initial_poses"])
    for key, section in (("rois", "roi_terms"), ("optimizers", "optimizers")):
        for name in ablation[key]:
            _known(f"tables.ablation.{key}", name, config[section])


def _check_encoder(name: str, encoder: dict[str, Any], segmenters: dict[str, Any]) -> None:
    """The ROI term needs a U-Net, the pool's stages a pool, the heads of an attention an even share of its width."""
    key = f"config: encoders.{name}"
    if encoder["loss"]["roi"] > 0:
        remedy = "Name a U-Net of `segment`, or set loss.roi to 0"
        if encoder["segmenter"] is None:
            raise InputError(f"{key}.segmenter", "the loss has a ROI term and there is no segmenter", remedy)
        _known(f"encoders.{name}.segmenter", encoder["segmenter"], segmenters)
        if segmenters[encoder["segmenter"]]["type"] != "unet":
            fault = f"{encoder['segmenter']!r} needs boxes, which no one draws in training"
            raise InputError(f"{key}.segmenter", fault, remedy)
    if encoder["samples"] == "online" and encoder["stages"] > 1:
        raise InputError(
            f"{key}.stages", "stages open a pool, and samples is online", "Set it to 1, or samples to pool"
        )
    network = encoder["network"]
    if network["type"] == "attention_autoencoder" and network["widths"][-1] % network["heads"]:
        fault = f"{network['heads']} does not divide the last of widths, {network['widths'][-1]}"
        raise InputError(f"{key}.network.heads", fault, "Take a divisor")


def _check_roi_term(name: str, term: dict[str, Any], segmenters: dict[str, Any]) -> None:
    """Segmenters exist, and boxes do not come from one that needs boxes itself."""
    key = f"roi_terms.{name}"
    if name == NO_ROI:
        raise InputError(f"config: {key}", "a method writes this word for no ROI term", "Take another name")
    _known(f"{key}.fixed", term["fixed"], segmenters)
    for part in ("moving", "boxes"):
        if term.get(part, PROJECTED) != PROJECTED:
            _known(f"{key}.{part}", term[part], {PROJECTED: None, **segmenters})
    if term["boxes"] != PROJECTED and segmenters[term["boxes"]]["type"] != "unet":
        fault = f"{term['boxes']!r} needs boxes itself"
        raise InputError(f"config: {key}.boxes", fault, f"Name a U-Net of `segment`, or {PROJECTED}")


def _check_objective(
    name: str, method: dict[str, Any], optimizer_type: str, roi_terms: dict[str, dict[str, Any]]
) -> None:
    """Gauss-Newton has an objective of its own, the others minimise what the method says; weights go with all."""
    own = optimizer_type == "gauss_newton"
    if own and method["roi"] != NO_ROI and roi_terms[method["roi"]]["type"] != "mask":
        what = f"{method['roi']!r} does not go with an optimizer of type gauss_newton"
        raise InputError(f"config: methods.{name}.roi", what, "Write none, a term of type mask, or another optimizer")
    if own != (method["similarity"] == OWN):
        what = f"{method['similarity']!r} does not go with an optimizer of type {optimizer_type}"
        remedy = "Write own, it brings its similarity" if own else "own is for gauss_newton; name a similarity"
        raise InputError(f"config: methods.{name}.similarity", what, remedy)


def _known(key: str, name: str, section: dict[str, Any]) -> None:
    if name not in section:
        raise InputError(f"config: {key}", f"{name!r} is not defined", f"Defined: {', '.join(section)}")
