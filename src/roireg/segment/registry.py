"""The types of segmenter, by the `type` that an entry of `segment` in the configuration names.

To add one, write a class of settings and functions that train and build the network, and add an entry to the registry
here (docs/extending.md). The checks and rules of the workflow read the registry too, so each function imports what it
needs when it is called: this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from roireg.segment.settings import MedSamEntry, SegmenterEntry, UNetEntry

if TYPE_CHECKING:
    from roireg.segment.network import SegmentationNetwork
    from roireg.training.model_file import ModelFile

# Main memory of a training with small networks, and with SAM's ViT-B at 1024x1024, MB.
SMALL_MB, VIT_B_MB = 4000, 16000
# Size of a model's file.
SMALL_BYTES, FLOAT_BYTES = 50e6, 4
MEDSAM_BYTES = {"vit_b": 375e6, "tiny": 3.2e6}


def _small(entry: Mapping[str, Any]) -> int:
    return SMALL_MB


def _small_file(entry: Mapping[str, Any]) -> float:
    return SMALL_BYTES


@dataclass(frozen=True)
class SegmenterKind:
    """A type of segmenter.

    Functions take an entry of `segment` as the checked configuration has it: keys and values, without the label.

    Attributes:
        settings: class of its entries, derived from `SegmenterEntry`, with the fields `type` and `epochs`.
        training: name of the module that trains it, with a function `train` from an entry and a
            `roireg.segment.train.SegmenterTraining` to the trained network and its learning curve. Only trainings
            import it, and its edit reruns those of this type alone.
        architecture: function from an entry to what a model's file says of the network, as JSON.
        build: function from a model's file, read and checked, and the number of ROIs to a network without its weights.
        needs_boxes: True if the network needs a bounding box of each ROI as prompt.
        memory_mb: function from an entry to the main memory that its training needs at most, MB.
        model_bytes: function from an entry to the size of a model's file, to see whether a run fits on the disk.
    """

    settings: type[SegmenterEntry]
    training: str
    architecture: Callable[[Mapping[str, Any]], dict[str, Any]]
    build: Callable[[ModelFile, int], SegmentationNetwork]
    needs_boxes: bool = False
    memory_mb: Callable[[Mapping[str, Any]], int] = _small
    model_bytes: Callable[[Mapping[str, Any]], float] = _small_file


def _unet_architecture(entry: Mapping[str, Any]) -> dict[str, Any]:
    from roireg.segment.unet import UNetSettings

    return asdict(UNetSettings(entry["image_size_px"], tuple(entry["widths"])))


def _unet_bytes(entry: Mapping[str, Any]) -> float:
    """Of `roireg.segment.unet`."""
    levels = list(entry["widths"])
    numbers = 0.0
    for wide in levels[1:]:
        numbers += 18 * wide**2
    for fine, coarse in pairwise(levels):
        # Down, up, and the residual unit of the decoder with its 1x1 skip connection.
        numbers += 8 * fine * coarse + 29 * fine**2
    return FLOAT_BYTES * (numbers + 9 * levels[0] + 9 * levels[0] ** 2)


def _build_unet(model: ModelFile, rois: int) -> SegmentationNetwork:
    from roireg.segment.unet import UNet, UNetSettings
    from roireg.training.model_file import checked_sizes

    sizes = checked_sizes(model.description["architecture"], model)
    return UNet(UNetSettings(sizes["image_size_px"], tuple(sizes["widths"])), rois)


def _medsam_architecture(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"variant": entry["variant"]}


def _build_medsam(model: ModelFile, rois: int) -> SegmentationNetwork:
    from roireg.segment.medsam import MedSamSettings, build_medsam

    return build_medsam(MedSamSettings(model.description["architecture"]["variant"], None, None, ""))


def _medsam_bytes(entry: Mapping[str, Any]) -> float:
    return MEDSAM_BYTES[entry["variant"]]


def _medsam_memory(entry: Mapping[str, Any]) -> int:
    return VIT_B_MB if entry["variant"] == "vit_b" else SMALL_MB


SEGMENTERS = {
    "unet": SegmenterKind(
        UNetEntry, "roireg.segment.train_unet", _unet_architecture, _build_unet, model_bytes=_unet_bytes
    ),
    "medsam": SegmenterKind(
        MedSamEntry,
        "roireg.segment.train_medsam",
        _medsam_architecture,
        _build_medsam,
        needs_boxes=True,
        memory_mb=_medsam_memory,
        model_bytes=_medsam_bytes,
    ),
}
