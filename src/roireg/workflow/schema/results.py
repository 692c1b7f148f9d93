"""`tables`, `figures` and `report`: the contents of the results."""

from typing import Annotated

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator

from roireg.settings import UNIQUE, Count, Names, OneOrMoreNames, Refused, Section, section
from roireg.workflow.schema.similarities import Similarity

Seeds = Annotated[tuple[Annotated[int, Ge(0), Le(1000)], ...], MinLen(1), *UNIQUE]
Similarities = Annotated[tuple[Similarity, ...], *UNIQUE]


def _rising(edges_mm: tuple[float, ...]) -> tuple[float, ...]:
    if list(edges_mm) != sorted(edges_mm):
        raise Refused("edges are not in rising order", "Sort them")
    return edges_mm


NOTES = (
    "Simulated X-rays of a real CT and of deformed copies of it (automatic labels); not a measurement on fluoroscopy.",
    "The default run has only 3 specimens of 6 X-rays at 128x128 (Table 3 and bones: the first X-ray of "
    "each); for quantitative claims use config/study.yaml.",
    "Networks are small and are trained briefly, for two CPU cores. U-Net: 64x64, 1000 batches of 8 (paper 500 "
    "epochs). MedSAM (tiny): 64x64, from random weights, 500 batches of 8 (paper: MedSAM's full size, 400 epochs). "
    "Encoders: 64x64, a quarter of ResNet-18's channels, 600 batches of 32 from 300 DRRs (paper 1300 epochs).",
    "Adam stops after 250 iterations (as in the paper), or after 40 in which the objective did not fall by 1e-4.",
    "In the training of Ours, Dice and mNCC are used after 70% of the batches (paper: from the start), on 2 examples "
    "of each batch.",
)


class Table1(Section):
    methods: OneOrMoreNames = ("diffdrr", "psss", "diffpose", "wsreg", "ours", "ours+gn", "multi_start+gn")
    """Names of `methods`, in the order of the rows."""


class Table2(Section):
    segmenters: Names = ("unet", "medsam")
    """Names of `segment`, in the order of the rows; [] for no Table 2 and no figures of segmentations, as needed for a
    data set of one specimen."""


class Comparison(Section):
    """Keys that Table 3 and the ablation have in common; both compare methods from the same starts."""

    init: str = "ours"
    """The start: a name of `initial_poses`."""
    seeds: Seeds = (0,)
    """Numbers added to the seed of the start: with [0, 1, 2], every X-ray is registered from three initial poses (if
    the start is an encoder, one is trained for each)."""
    xrays_per_specimen: Count | None = None
    """Number of X-rays of each specimen, the first ones; null for all."""


class Table3(Comparison):
    similarities: Similarities = ("local_ncc", "global_ncc", "gradient_ncc", "ssim", "mse", "mae", "psnr")
    """Similarities in the order of the rows, each used without and with the ROI term; [] for no Table 3."""
    roi: str = "unet"
    """The ROI term: a name of `roi_terms`."""
    optimizer: str = "adam"
    """The optimizer: a name of `optimizers`."""
    weights: str = "none"
    """The pixel weights: a name of `weights`."""
    xrays_per_specimen: Count | None = 1
    """Number of X-rays of each specimen, the first ones; null for all.

    Paper: all.
    """


class Ablation(Comparison):
    optimizers: Names = ()
    """Names of `optimizers`; [] for no ablation (config/study.yaml has one)."""
    similarity: Similarity = "mncc"
    """Similarity of X-ray and DRR, for optimizers that do not have their own objective."""
    rois: Names = ("unet", "unet-rigid", "projected", "mask")
    """Names of `roi_terms`; each is compared with no ROI term, if the optimizer supports it."""
    weights: OneOrMoreNames = ("none", "coverage", "coverage+femurs")
    """Names of `weights`; rows without a ROI term are compared with those of the first."""


class Tables(Section):
    notes: tuple[str, ...] = NOTES
    """Lines printed below every table; they say what this run reduces or simulates."""
    table1: Table1 = section(Table1)
    """Comparison of methods.

    Paper: Table 1.
    """
    table2: Table2 = section(Table2)
    """Comparison of segmenters.

    Paper: Table 2.
    """
    table3: Table3 = section(Table3)
    """Each similarity without and with a ROI term, from the same initial poses.

    Paper: Table 3.
    """
    ablation: Ablation = section(Ablation)
    """Effect of ROI terms and pixel weights on the error, by optimizer; not in the paper."""


class CaseStudy(Section):
    specimen: str | None = None
    """Name of the specimen; null for the first one.

    Paper: 18-2799.
    """
    segmenters: OneOrMoreNames = ("unet", "medsam")
    """Names of `segment` that are compared."""
    methods: Names = ("wsreg", "wsreg+medsam")
    """Names of `methods`, in the order of the rows; [] for no Figure 5."""


class CaptureRange(Section):
    methods: Names = ()
    """Names of `methods` with the same start; [] for no such figure (config/study.yaml has one)."""
    edges_mm: Annotated[tuple[Annotated[float, Ge(0)], ...], MinLen(2), *UNIQUE, AfterValidator(_rising)] = (
        0.0,
        10.0,
        20.0,
        40.0,
        80.0,
        160.0,
    )
    """Edges of the intervals of the initial error (mpd), in rising order."""


class LearningCurves(Section):
    encoders: Names = ("psss", "diffpose", "ours")
    """Names of `encoders`, in the order of the panels; [] for no such figure."""
    seeds: Seeds = (0,)
    """Trainings to show, given by the numbers added to the seed; 0 is the encoder that methods start from."""


class Figures(Section):
    methods: OneOrMoreNames = ("diffdrr", "psss", "diffpose", "ours")
    """Names of `methods` in Figure 4 and in the figure of convergence, in the order of the panels."""
    case_study: CaseStudy = section(CaseStudy)
    """Figure 5: segmentations and registrations of one specimen.

    Paper: Fig. 5 and section 3.2.
    """
    capture_range: CaptureRange = section(CaptureRange)
    """Fraction of successfully registered X-rays, by initial error."""
    learning_curves: LearningCurves = section(LearningCurves)
    """Validation error of encoders during training."""
    dpi: Annotated[int, Ge(30), Le(1200)] = 150
    """Dots per inch of the PNG figures."""


class Report(Section):
    xrays_per_specimen: Count | None = 24
    """Largest number of X-rays of a specimen that report.html shows as pictures, evenly spaced from the best to the
    worst; null for all. Tables and figures always include all X-rays."""
