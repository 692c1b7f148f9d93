"""Registrations of every kind, small: each way to use ROIs, with each way to weight pixels."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from volumes import phantom_specimen

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.register.method import MethodSettings
from roireg.register.roi import Regions
from roireg.register.run import Placement, ResultRow, register_specimen
from roireg.register.settings import (
    PROJECTED,
    AdamSettings,
    DiceSettings,
    MaskSettings,
    PerturbationSettings,
    RoiTermSettings,
    WeightSettings,
)
from roireg.segment.medsam import MedSamSettings, build_medsam
from roireg.segment.model import Segmenter
from roireg.segment.unet import UNet, UNetSettings

ROIS = ("upper", "lower")
SEGMENTERS = ("unet", "medsam")
ROI_TERMS: dict[str, RoiTermSettings | None] = {
    "none": None,
    "unet, projected": DiceSettings(fixed="unet", moving=PROJECTED, size_px=24),
    "unet": DiceSettings(fixed="unet", moving="unet"),
    "medsam, unet": DiceSettings(fixed="medsam", moving="unet"),
    "medsam": DiceSettings(fixed="medsam", moving="medsam"),
    "medsam, boxes by unet": DiceSettings(fixed="medsam", moving="medsam", boxes="unet"),
    "mask": MaskSettings(fixed="unet", outside=0.2),
}
WEIGHTS = {
    "none": WeightSettings(),
    "coverage": WeightSettings(coverage=True),
    "coverage and exclusion": WeightSettings(coverage=True, exclude=("upper",), exclude_margin_mm=2.0),
}


def two_bones(count: int) -> tuple[Patient, tuple[Xray, ...]]:
    """The phantom with its dense part divided in two ROIs, and so many X-rays of it."""
    patient, xrays = phantom_specimen(count)
    labels = patient.labels.clone()
    labels[20:] *= 2
    return replace(patient, labels=labels, label_names={1: "upper", 2: "lower"}), xrays


def segmenter(name: str, device: torch.device) -> Segmenter:
    """An untrained network of that kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "unet":
            network = UNet(UNetSettings(32, (4, 4, 4)), len(ROIS))
        else:
            network = build_medsam(MedSamSettings("tiny", None, None, ""))
    # Far from one half, so that ROIs are found.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return Segmenter(ROIS, network.eval().requires_grad_(False).to(device))


def method(roi: str, weights: str, device: torch.device, **search: object) -> MethodSettings:
    """Adam from a perturbed truth, with networks on `device`; `search` are `AdamSettings`."""
    term = ROI_TERMS[roi]
    regions = None
    if term is not None:
        regions = Regions(term, ROIS, {name: segmenter(name, device) for name in SEGMENTERS if name in _names(term)})
    return MethodSettings(
        name=f"{roi}, {weights}",
        init="perturbed",
        similarity="mncc",
        roi=roi,
        optimizer="adam",
        weights=weights,
        start=PerturbationSettings(rotation_sd_deg=2.0, translation_sd_mm=4.0),
        search=AdamSettings(**{"iterations": 3, **search}),
        regions=regions,
        pixels=WEIGHTS[weights],
        step_mm=4.0,
    )


def _names(term: RoiTermSettings) -> set[str]:
    return {term.fixed, term.boxes, getattr(term, "moving", PROJECTED)}


def registered(patient: Patient, xrays: tuple[Xray, ...], how: MethodSettings, device: torch.device) -> list[ResultRow]:
    """The results, X-rays together."""
    found: Iterator[ResultRow] = register_specimen(patient, xrays, how, 0, Placement(device, len(xrays)))
    return list(found)
