"""The configuration of a run: merged over the default one, completed with defaults, and checked."""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from roireg.data.label_names import check_distinct, normalized
from roireg.data.readers.text import read_yaml
from roireg.errors import InputError
from roireg.plugins import load_plugins
from roireg.register.registry import BUILTIN, NO_ROI, OPTIMIZERS, ROI_TERMS
from roireg.register.settings import PROJECTED
from roireg.segment.registry import SEGMENTERS
from roireg.workflow.comparisons import seed_parts

# The models of the configuration, which are built from the registries when they are first imported.
SCHEMA = "roireg.workflow.schema.registration"


def validated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a configuration and complete it with defaults; the result has plain values, lists and mappings only.

    The plugins that the configuration names are imported first. The result is normalised: configurations that differ
    only in how numbers are written give equal results.

    Raises:
        InputError: names the key, what is wrong with it, and what is allowed.
    """
    _load_plugins(config.get("plugins"))
    # Imported here: the models list the entries of the registries, which plugins extend.
    from roireg.workflow.schema.config import Config

    try:
        # In JSON, pydantic's strict mode accepts lists for tuples; YAML dates become text.
        model = Config.model_validate_json(json.dumps(config, default=str), strict=True)
    except ValidationError as error:
        from roireg.workflow.schema.faults import first_fault

        raise first_fault(error, config) from None
    return model.model_dump(mode="json")


def _load_plugins(names: Any) -> None:
    """Import the plugins; values that are not a list of names are left to the models, which refuse them."""
    if not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
        return
    late = SCHEMA in sys.modules
    added = load_plugins(names)
    if late and added:
        what = f"{added[0]} is loaded after another configuration was checked without it"
        raise InputError("config: plugins", what, "Start a new Python process and load this configuration first")


def merged(below: Any, above: Any) -> Any:
    """The configuration `below` overridden by `above`: mappings are merged key by key, other values are replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def default_config(overlay: str | Path | None = None) -> dict[str, Any]:
    """The workflow's default configuration, and a YAML file laid over it.

    Raises:
        InputError: the file cannot be read, or the result is no valid configuration.
    """
    above: dict[str, Any] = {}
    if overlay is not None:
        above = read_yaml(overlay, "Give a YAML file") or {}
    plugins = {"plugins": above["plugins"]} if isinstance(above, dict) and "plugins" in above else {}
    config = validated(merged(validated(plugins), above))
    check_references(config)
    return config


def check_references(config: Mapping[str, Any]) -> None:
    """Check that every name used in a configuration is defined, and that the named entries can be combined.

    Args:
        config: configuration with all keys, and with the methods that Table 3 and the ablation add.

    Raises:
        InputError: a named method, start, optimizer, segmenter or recipe does not exist, or cannot be combined with the
            others.
    """
    check_distinct(config["rois"], "config: rois", "Name each label once")
    for name, term in config["roi_terms"].items():
        _check_roi_term(name, term, config["segment"])
    for name, method in config["methods"].items():
        _check_method(name, method, config)
    for name, segmenter in config["segment"].items():
        _known(f"segment.{name}.recipe", segmenter["recipe"], config["recipes"])
    for name, encoder in config["encoders"].items():
        _known(f"encoders.{name}.recipe", encoder["recipe"], config["recipes"])
        _check_encoder(name, encoder, config["segment"])
    for name, start in config["initial_poses"].items():
        if "encoder" in start:
            _known(f"initial_poses.{name}.encoder", seed_parts(start["encoder"])[0], config["encoders"])
    _check_results(config)


def _check_results(config: Mapping[str, Any]) -> None:
    """Check that tables and figures show defined entries, and that their ROI terms use ROIs of the data set."""
    methods, figures, tables = config["methods"], config["figures"], config["tables"]
    shown = {
        "tables.table1.methods": tables["table1"]["methods"],
        "figures.methods": figures["methods"],
        "figures.case_study.methods": figures["case_study"]["methods"],
        "figures.capture_range.methods": figures["capture_range"]["methods"],
        "bones.methods": config["bones"]["methods"],
    }
    _all_known(shown, methods)
    segmenters = {
        "figures.case_study.segmenters": figures["case_study"]["segmenters"],
        "tables.table2.segmenters": tables["table2"]["segmenters"],
    }
    _all_known(segmenters, config["segment"])
    _all_known({"figures.learning_curves.encoders": figures["learning_curves"]["encoders"]}, config["encoders"])
    terms = {methods[name]["roi"] for names in shown.values() for name in names}
    terms |= {tables["table3"]["roi"]} if tables["table3"]["similarities"] else set()
    terms |= {*tables["ablation"]["rois"]} if tables["ablation"]["optimizers"] else set()
    for term in sorted(terms - {NO_ROI}):
        wanted = [normalized(roi) for roi in config["roi_terms"][term]["rois"]]
        _all_known({f"roi_terms.{term}.rois": wanted}, [normalized(roi) for roi in config["rois"]])


def check_comparisons(config: Mapping[str, Any]) -> None:
    """Check the names of starts, ROI terms, optimizers and weights that Table 3 and the ablation use.

    Raises:
        InputError: a name is not defined.
    """
    table3, ablation = config["tables"]["table3"], config["tables"]["ablation"]
    asked = (
        ("initial_poses", "table3.init", [table3["init"]]),
        ("roi_terms", "table3.roi", [table3["roi"]]),
        ("optimizers", "table3.optimizer", [table3["optimizer"]]),
        ("weights", "table3.weights", [table3["weights"]]),
        ("initial_poses", "ablation.init", [ablation["init"]]),
        ("roi_terms", "ablation.rois", ablation["rois"]),
        ("optimizers", "ablation.optimizers", ablation["optimizers"]),
        ("weights", "ablation.weights", ablation["weights"]),
    )
    for section, key, names in asked:
        _all_known({f"tables.{key}": names}, config[section])


def _check_encoder(name: str, encoder: Mapping[str, Any], segmenters: Mapping[str, Any]) -> None:
    """Check that an encoder whose loss has a ROI term names a segmenter that needs no boxes."""
    if encoder["loss"]["roi"] == 0:
        return
    key, remedy = (
        f"encoders.{name}.segmenter",
        "Name a segmenter of `segment` without boxes, such as a U-Net, or set loss.roi to 0",
    )
    segmenter = encoder["segmenter"]
    if segmenter is None:
        raise InputError(f"config: {key}", "the loss has a ROI term and there is no segmenter", remedy)
    _known(key, segmenter, segmenters)
    if SEGMENTERS[segmenters[segmenter]["type"]].needs_boxes:
        raise InputError(f"config: {key}", f"{segmenter!r} needs boxes, which training does not have", remedy)


def _check_roi_term(name: str, term: Mapping[str, Any], segmenters: Mapping[str, Any]) -> None:
    """Check that a ROI term's segmenters exist, and that the one that makes boxes does not need boxes itself."""
    key = f"roi_terms.{name}"
    if name == NO_ROI:
        raise InputError(
            f"config: {key}", "this name is reserved for methods without a ROI term", "Choose another name"
        )
    if "fixed" in term:
        _known(f"{key}.fixed", term["fixed"], segmenters)
    for part in ("moving", "boxes"):
        _known(f"{key}.{part}", term.get(part, PROJECTED), [PROJECTED, *segmenters])
    if term.get("boxes", PROJECTED) != PROJECTED and SEGMENTERS[segmenters[term["boxes"]]["type"]].needs_boxes:
        fault = f"{term['boxes']!r} needs boxes itself"
        raise InputError(
            f"config: {key}.boxes",
            fault,
            f"Name a segmenter of `segment` without boxes, such as a U-Net, or {PROJECTED}",
        )


def _check_method(name: str, method: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check that a method's names are defined, and that its optimizer supports its similarity, ROI term and views."""
    sections = {"init": "initial_poses", "optimizer": "optimizers", "weights": "weights"}
    for key, section in sections.items():
        _known(f"methods.{name}.{key}", method[key], config[section])
    if method.get("fallback") is not None:
        key = f"methods.{name}.fallback"
        _known(key, method["fallback"], config["initial_poses"])
        if "encoder" in config["initial_poses"][method["fallback"]]:
            raise InputError(f"config: {key}", "it starts from an encoder", "Name a search, such as multi_start")
    terms, roi, similarity = config["roi_terms"], method["roi"], method["similarity"]
    _known(f"methods.{name}.roi", roi, [NO_ROI, *terms])
    kind = config["optimizers"][method["optimizer"]]["type"]
    optimizer = OPTIMIZERS[kind]
    if roi != NO_ROI and not optimizer.supports(terms[roi]["type"]):
        what = f"{roi!r} cannot be combined with an optimizer of type {kind}"
        supported = " or ".join(term for term in sorted(ROI_TERMS) if optimizer.supports(term))
        remedy = f"Write none, a term of type {supported}, or another optimizer"
        raise InputError(f"config: methods.{name}.roi", what, remedy)
    if optimizer.builtin_similarity != (similarity == BUILTIN):
        what = f"{similarity!r} cannot be combined with an optimizer of type {kind}"
        others = ", ".join(other for other, one in OPTIMIZERS.items() if one.builtin_similarity)
        remedy = f"{BUILTIN} is for the types {others}; name a similarity"
        if optimizer.builtin_similarity:
            remedy = f"Write {BUILTIN}: this optimizer has its own objective"
        raise InputError(f"config: methods.{name}.similarity", what, remedy)
    if method.get("views", 1) > 1 and optimizer.register_jointly is None:
        what = f"an optimizer of type {kind} registers each X-ray alone"
        joint = ", ".join(other for other, one in OPTIMIZERS.items() if one.register_jointly)
        raise InputError(f"config: methods.{name}.views", what, f"Write 1, or an optimizer of type {joint}")


def _all_known(used: Mapping[str, Collection[str]], defined: Collection[str]) -> None:
    for key, names in used.items():
        for name in names:
            _known(key, name, defined)


def _known(key: str, name: str, defined: Collection[str]) -> None:
    if name not in defined:
        raise InputError(f"config: {key}", f"{name!r} is not defined", f"Defined: {', '.join(defined)}")
