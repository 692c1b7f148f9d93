"""A method of the configuration by its name, with the networks that a user gives for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.register.method import MethodSettings, method_from_config, with_estimates, with_segmenters
from roireg.register.settings import PaSettings, segmenter_names
from roireg.register.starts import encoder_estimates
from roireg.segment.model import load_segmenter
from roireg.workflow.config import default_config


def names_from_a_pose(config: str | Path | None = None) -> list[str]:
    """Names of the methods that need no network when they start from a given pose.

    Args:
        config: a YAML file that is laid over the default configuration, or None.
    """
    settings = default_config(config)
    terms = {name: settings["roi_terms"].get(entry["roi"]) for name, entry in settings["methods"].items()}
    return [name for name, term in terms.items() if term is None or not segmenter_names(term)]


def method_from_a_pose(name: str, config: str | Path | None = None) -> MethodSettings:
    """A method of the configuration without its start, for `register_xrays` with an initial pose.

    Args:
        name: of `names_from_a_pose`.
        config: a YAML file that is laid over the default configuration, or None.

    Raises:
        InputError: there is no such method.
    """
    settings = default_config(config)
    method = _method(name, settings, list(settings["rois"]))
    return replace(method, init="given", start=PaSettings(), fallback=None)


def check_name(name: str, config: str | Path | None = None) -> None:
    """Check a method's name and the configuration, which takes milliseconds; the CT takes seconds to read.

    Args:
        name: of `methods`.
        config: a YAML file that is laid over the default configuration, or None.

    Raises:
        InputError: the configuration is wrong, or has no such method.
    """
    _entry(name, default_config(config))


def _entry(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    if name not in settings["methods"]:
        known = ", ".join(settings["methods"])
        raise InputError(f"method {name}", "the configuration has no such method", f"Methods: {known}")
    return settings["methods"][name]


def _method(name: str, settings: dict[str, Any], rois: list[str]) -> MethodSettings:
    entry = _entry(name, settings)
    return method_from_config(
        name,
        entry,
        settings["initial_poses"][entry["init"]],
        settings["optimizers"][entry["optimizer"]],
        settings["roi_terms"].get(entry["roi"]),
        settings["weights"][entry["weights"]],
        rois,
        settings["render"]["step_mm"],
        settings["initial_poses"].get(entry["fallback"]),
    )


def method_by_name(
    name: str,
    config: str | Path | None = None,
    xrays: Sequence[Xray] = (),
    encoder: str | Path | None = None,
    segmenter: str | Path | None = None,
    rois: Sequence[str] = (),
) -> MethodSettings:
    """A method of the configuration, for `register_xrays`.

    Args:
        name: of `methods`.
        config: a YAML file that is laid over the default configuration, or None.
        xrays: those to be registered; a method that starts from an encoder applies it to the first.
        encoder: model of `roireg train encoder`, for a method that starts from one.
        segmenter: model of `roireg train segmenter`, for the method's ROI term.
        rois: names of that segmenter's ROIs, in its order; those of the configuration if none are given.

    Raises:
        InputError: there is no such method, or a network or an X-ray that it needs is not given.
    """
    settings = default_config(config)
    where = f"method {name}"
    rois = list(rois) or list(settings["rois"])
    method = _method(name, settings, rois)
    if method.start.type == "perturbed":
        what = "it starts from the true pose, which is not known here"
        raise InputError(where, what, "Take a method with another `init`")
    if method.start.type == "encoder":
        if encoder is None:
            remedy = "Give one with --encoder (roireg train encoder), or take another method"
            raise InputError(where, "it starts from an encoder, and none is given", remedy)
        if not xrays:
            raise InputError(where, "it starts from an encoder, and there is no X-ray", "Give the X-rays")
        # A start is read from the first X-ray; the others may have the same name in another folder.
        method = with_estimates(method, encoder_estimates(encoder, xrays[:1]))
    if method.regions is not None and method.regions.segmenter_names:
        if segmenter is None:
            remedy = "Give one with --segmenter (roireg train segmenter), or take another method"
            raise InputError(where, "its ROI term needs a segmenter, and none is given", remedy)
        names = method.regions.segmenter_names
        if len(names) > 1:
            what = f"its ROI term needs {len(names)} segmenters ({', '.join(names)})"
            raise InputError(where, what, "Take a method with one; the workflow can run this one")
        network = load_segmenter(segmenter, rois, torch.device("cpu"))
        method = with_segmenters(method, dict.fromkeys(names, network))
    return method
