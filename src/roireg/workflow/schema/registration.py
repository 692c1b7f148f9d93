"""`initial_poses`, `optimizers`, `registration` and `roi_terms`: what registers an X-ray."""

from typing import Annotated, Any, Literal

from annotated_types import Ge

from roireg.register.registry import OPTIMIZERS, ROI_TERMS, STARTS
from roireg.register.settings import (
    AdamSettings,
    DiceSettings,
    EncoderStartSettings,
    GaussNewtonSettings,
    MaskSettings,
    MultiStartSettings,
    PaSettings,
    PerturbationSettings,
)
from roireg.settings import Count
from roireg.workflow.schema.section import Entry, Section, any_of

RIGID = ("vertebrae", "upper sacrum", "left hemipelvis", "right hemipelvis")


AnyStart = any_of(kind.settings for kind in STARTS.values())
AnyOptimizer = any_of(kind.settings for kind in OPTIMIZERS.values())
AnyRoiTerm = any_of(kind.settings for kind in ROI_TERMS.values())


class Registration(Section):
    gpu: Literal[0, 1] = 0
    """GPUs of a registration job whose optimizer can use one (adam); 0 for the CPU."""
    xrays_together: Count = 8
    """How many X-rays are optimized at once on a GPU."""
    xrays_per_job: Count | None = None
    """Largest number of X-rays of a specimen that one job registers, for clusters; null for all of them."""
    mem_mb: Annotated[int, Ge(500)] = 3000
    """Main memory of a registration job; one that was killed for want of it gets more."""


def starts() -> dict[str, Entry[Any]]:
    """Starts of the default configuration."""
    return {
        "pa": Entry(PaSettings()),
        "perturbed": Entry(PerturbationSettings(3.0, 10.0), "A probe of the capture range."),
        "wide": Entry(PerturbationSettings(8.0, 25.0), "The same, wide enough to find where methods fail."),
        "multi_start": Entry(MultiStartSettings()),
        "ours": Entry(EncoderStartSettings("ours"), "As an encoder estimates it from the X-ray."),
        "diffpose": Entry(EncoderStartSettings("diffpose")),
        "psss": Entry(EncoderStartSettings("psss")),
    }


def optimizers() -> dict[str, Entry[Any]]:
    """Optimizers of the default configuration."""
    return {
        "adam": Entry(
            AdamSettings(patience=40, min_improvement=1.0e-4), "The paper's; but the paper never stops early."
        ),
        "gauss_newton": Entry(GaussNewtonSettings()),
    }


def roi_terms() -> dict[str, Entry[Any]]:
    """ROI terms of the default configuration."""
    return {
        "unet": Entry(DiceSettings("unet", "unet"), "The paper's two."),
        "medsam": Entry(DiceSettings("medsam", "medsam", "unet")),
        "medsam+unet": Entry(
            DiceSettings("medsam", "unet", "unet"),
            "The paper's case study: the better map of the X-ray, and the U-Net on the DRR.",
        ),
        "unet-rigid": Entry(
            DiceSettings("unet", "unet", rois=RIGID),
            "All but the femurs, which may have moved against the pelvis since the CT.",
        ),
        "projected": Entry(DiceSettings("unet"), "The CT's labels, projected by the renderer: no network on the DRR."),
        "mask": Entry(MaskSettings("unet", rois=RIGID), "Only the rigid bones of the X-ray count."),
    }
