"""`initial_poses`, `optimizers`, `registration` and `roi_terms`: the parts of a registration."""

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
from roireg.settings import Count, Section
from roireg.workflow.schema.section import Entry, any_of

RIGID = ("vertebrae", "upper sacrum", "left hemipelvis", "right hemipelvis")


AnyStart = any_of(kind.settings for kind in STARTS.values())
AnyOptimizer = any_of(kind.settings for kind in OPTIMIZERS.values())
AnyRoiTerm = any_of(kind.settings for kind in ROI_TERMS.values())


class Registration(Section):
    gpu: Literal[0, 1] = 0
    """Number of GPUs of a registration job by an optimizer for which it pays (adam); 0 for the CPU."""
    xrays_together: Count = 8
    """Number of X-rays that are optimized at once on a GPU."""
    xrays_per_job: Count | None = None
    """Largest number of X-rays of a specimen that one job registers, for clusters; null for all."""
    mem_mb: Annotated[int, Ge(500)] = 3000
    """Main memory of a registration job; a job that was killed because it needed more is retried with more."""


def starts() -> dict[str, Entry[Any]]:
    """Starts of the default configuration."""
    return {
        "pa": Entry(PaSettings()),
        "perturbed": Entry(
            PerturbationSettings(3.0, 10.0),
            "The true pose, randomly perturbed: tests an optimizer from a known distance.",
        ),
        "wide": Entry(
            PerturbationSettings(8.0, 25.0),
            "The same with a larger perturbation, to find the distance from which methods fail.",
        ),
        "multi_start": Entry(MultiStartSettings()),
        "ours": Entry(EncoderStartSettings("ours"), "The pose that an encoder estimates from the X-ray."),
        "diffpose": Entry(EncoderStartSettings("diffpose")),
        "psss": Entry(EncoderStartSettings("psss")),
    }


def optimizers() -> dict[str, Entry[Any]]:
    """Optimizers of the default configuration."""
    return {
        "adam": Entry(
            AdamSettings(patience=40, min_improvement=1.0e-4),
            "The paper's optimizer, with early stopping, which the paper does not have.",
        ),
        "gauss_newton": Entry(GaussNewtonSettings()),
    }


def roi_terms() -> dict[str, Entry[Any]]:
    """ROI terms of the default configuration."""
    return {
        "unet": Entry(DiceSettings("unet", "unet"), "The paper's two terms: U-Net and MedSAM."),
        "medsam": Entry(DiceSettings("medsam", "medsam", "unet")),
        "medsam+unet": Entry(
            DiceSettings("medsam", "unet", "unet"),
            "The paper's case study: MedSAM on the X-ray, U-Net on the DRR.",
        ),
        "unet-rigid": Entry(
            DiceSettings("unet", "unet", rois=RIGID),
            "Without the femurs, which may have moved relative to the pelvis since the CT.",
        ),
        "projected": Entry(DiceSettings("unet"), "The CT's labels projected at the pose, instead of a segmented DRR."),
        "mask": Entry(
            MaskSettings("unet", rois=RIGID), "The similarity is restricted to the rigid bones segmented in the X-ray."
        ),
    }
