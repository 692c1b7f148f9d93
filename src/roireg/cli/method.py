"""The method that `roireg register --method` names, with the networks that a user gives for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roireg.cli.common import default_config
from roireg.errors import InputError

if TYPE_CHECKING:
    from roireg.data.xray import Xray
    from roireg.register.method import MethodSettings


def configured_method(
    name: str,
    config: Path | None,
    xrays: Sequence["Xray"],
    encoder: Path | None,
    segmenter: Path | None,
    rois: Sequence[str],
) -> "MethodSettings":
    """A method of the configuration.

    Args:
        name: of `methods`.
        config: a configuration laid over the default one, or None.
        xrays: the first is what an encoder is applied to, if the method starts from one.
        encoder: model of `roireg train encoder`.
        segmenter: model of `roireg train segmenter`, for the method's ROI term.
        rois: names of that segmenter's ROIs, in its order; those of the configuration if none are given.

    Raises:
        InputError: there is no such method, or a network that it needs is not given.
    """
    settings = default_config(config)
    if name not in settings["methods"]:
        known = ", ".join(settings["methods"])
        raise InputError(f"--method {name}", "the configuration has no such method", f"Methods: {known}")
    import torch

    from roireg.register.method import method_from_config, with_estimates, with_segmenters
    from roireg.register.own_networks import encoder_estimates
    from roireg.segment.model import load_segmenter

    entry = settings["methods"][name]
    rois = list(rois) or list(settings["rois"])
    method = method_from_config(
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
    if method.start.type == "perturbed":
        what = "it starts from the true pose, which is not known here"
        raise InputError(f"--method {name}", what, "Take a method with another `init`")
    if method.start.type == "encoder":
        if encoder is None:
            remedy = "Give one with --encoder (roireg train encoder), or take another method"
            raise InputError(f"--method {name}", "it starts from an encoder, and none is given", remedy)
        # A start is read from the first X-ray; the others may have the same name in another folder.
        method = with_estimates(method, encoder_estimates(encoder, xrays[:1]))
    if method.regions is not None:
        if segmenter is None:
            remedy = "Give one with --segmenter (roireg train segmenter), or take another method"
            raise InputError(f"--method {name}", "its ROI term needs a segmenter, and none is given", remedy)
        names = method.regions.segmenter_names
        if len(names) > 1:
            what = f"its ROI term needs {len(names)} segmenters ({', '.join(names)})"
            raise InputError(f"--method {name}", what, "Take a method with one; the workflow can run this one")
        network = load_segmenter(segmenter, rois, torch.device("cpu"))
        method = with_segmenters(method, dict.fromkeys(names, network))
    return method
