"""Writes a trained segmenter: weights as safetensors, with a description in JSON; the file contains no code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from roireg.training.model_file import write_model

DESCRIPTION = "roireg_segmenter"


def save_segmenter(
    path: str | Path, kind: str, architecture: dict[str, Any], rois: Sequence[str], network: nn.Module
) -> None:
    """Write a segmenter, atomically; `roireg.segment.model.load_segmenter` reads it.

    Args:
        path: a `.safetensors` file.
        kind: type of the network, unet or medsam.
        architecture: for unet, the fields of `UNetSettings`; for medsam, the `variant`.
        rois: names of the ROIs, in the order of the network's channels.
        network: the trained network.
    """
    description = {"kind": kind, "rois": list(rois), "architecture": architecture}
    write_model(path, DESCRIPTION, description, network)
