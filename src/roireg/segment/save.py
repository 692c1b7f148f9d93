"""Writes a trained segmenter: weights as safetensors, with a description in JSON; the file contains no code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from roireg.segment.registry import SEGMENTERS
from roireg.training.model_file import write_model

DESCRIPTION = "roireg_segmenter"


def save_segmenter(path: str | Path, entry: Mapping[str, Any], rois: Sequence[str], network: nn.Module) -> None:
    """Write a segmenter, atomically; `roireg.segment.model.load_segmenter` reads it.

    Args:
        path: a `.safetensors` file.
        entry: the entry of `segment` that it was trained by; the file says its `type` and what builds the network.
        rois: names of the ROIs, in the order of the network's channels.
        network: the trained network.
    """
    architecture = SEGMENTERS[entry["type"]].architecture(entry)
    description = {"kind": entry["type"], "rois": list(rois), "architecture": architecture}
    write_model(path, DESCRIPTION, description, network)
