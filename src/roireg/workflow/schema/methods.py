"""`weights` and `methods`: a method combines a start, a similarity, a ROI term, an optimizer and pixel weights."""

from roireg.register.registry import BUILTIN, NO_ROI
from roireg.register.settings import WeightSettings
from roireg.settings import Count, Section, Text
from roireg.workflow.schema.section import Entry
from roireg.workflow.schema.similarities import SimilarityOrBuiltin

FEMURS = ("left femur", "right femur")


class Method(Section):
    label: Text
    """Name of the method in tables and figures."""
    init: str
    """The start: a name of `initial_poses`."""
    similarity: SimilarityOrBuiltin = "mncc"
    """Similarity of X-ray and DRR; builtin for an optimizer that has its own objective.

    Paper: mncc (section 2.3); the others are in Table 3.
    """
    roi: str = NO_ROI
    """The ROI term: a name of `roi_terms`, or none."""
    optimizer: str = "adam"
    """The optimizer: a name of `optimizers`."""
    weights: str = "none"
    """The pixel weights: a name of `weights`."""
    views: Count = 1
    """Number of X-rays of a specimen that are registered jointly, as cameras at known positions relative to each other;
    1 to register each X-ray alone.

    Paper: 1.
    """
    fallback: str | None = None
    """Where to begin again if the verdict is not trusted, a name of `initial_poses`; the better of both is kept. null
    for nowhere.

    Paper: none.
    """


def weights() -> dict[str, Entry[WeightSettings]]:
    """Weights of the default configuration."""
    return {
        "none": Entry(WeightSettings(), "As in the paper: all pixels have the same weight."),
        "coverage": Entry(WeightSettings(coverage=True)),
        "coverage+femurs": Entry(
            WeightSettings(coverage=True, exclude=FEMURS, exclude_margin_mm=9.0),
            "Leaves out the femurs, which move relative to the pelvis. For a CT without femurs, set exclude: [].",
        ),
    }


def methods() -> dict[str, Entry[Method]]:
    """Methods of the default configuration."""
    return {
        "diffdrr": Entry(
            Method(label="DiffDRR", init="pa"), "The optimization-based baseline of Table 1, without any network."
        ),
        "psss": Entry(
            Method(label="PSSS-style", init="psss", similarity="global_ncc"),
            "The baselines with a learned start, and the similarities that their code or tables suggest.",
        ),
        "diffpose": Entry(Method(label="DiffPose", init="diffpose")),
        "wsreg": Entry(
            Method(label="WSReg, as published", init="ours", roi="unet"),
            "The paper's method with the paper's settings, without pixel weights.",
        ),
        "wsreg+medsam": Entry(
            Method(label="WSReg, MedSAM on X-rays", init="ours", roi="medsam+unet"),
            "The paper's case study: MedSAM on the X-ray, U-Net on the DRR.",
        ),
        "wsreg-medsam": Entry(
            Method(label="WSReg, MedSAM", init="ours", roi="medsam"), "The paper's second method: MedSAM on both."
        ),
        "ours-roi": Entry(
            Method(label="Ours, no ROI term", init="ours", weights="coverage+femurs"),
            "With pixel weights: without a ROI term (ours-roi), with it (ours), and by Gauss-Newton (ours+gn).",
        ),
        "ours": Entry(Method(label="Ours", init="ours", roi="unet", weights="coverage+femurs")),
        "ours+gn": Entry(
            Method(
                label="Ours, Gauss-Newton",
                init="ours",
                similarity=BUILTIN,
                optimizer="gauss_newton",
                weights="coverage+femurs",
            )
        ),
        "perturbed": Entry(
            Method(label="Perturbed truth", init="perturbed"), "Start from the randomly perturbed true pose."
        ),
        "perturbed+weights": Entry(
            Method(label="Perturbed truth, weighted", init="perturbed", weights="coverage+femurs")
        ),
        "perturbed+gn": Entry(
            Method(
                label="Perturbed truth, Gauss-Newton",
                init="perturbed",
                similarity=BUILTIN,
                optimizer="gauss_newton",
                weights="coverage+femurs",
            )
        ),
        "wide": Entry(
            Method(label="No ROI term", init="wide"), "For the figure of the capture range: without and with ROI terms."
        ),
        "wide+unet": Entry(Method(label="U-Net", init="wide", roi="unet")),
        "wide+projected": Entry(Method(label="Projected labels", init="wide", roi="projected")),
        "multi_start+gn": Entry(
            Method(
                label="Multi-start, Gauss-Newton",
                init="multi_start",
                similarity=BUILTIN,
                optimizer="gauss_newton",
                weights="coverage+femurs",
            ),
            "Without any network.",
        ),
        "multi_start+gn+2views": Entry(
            Method(
                label="Multi-start, Gauss-Newton, two views",
                init="multi_start",
                similarity=BUILTIN,
                optimizer="gauss_newton",
                weights="coverage+femurs",
                views=2,
            ),
            "The same for pairs of X-rays with known relative camera poses; two views determine the depth.",
        ),
    }
