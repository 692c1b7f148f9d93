"""`tables`, `figures` and `report`: what a run shows."""

from typing import Annotated

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator

from roireg.settings import UNIQUE, Count, Names, OneOrMoreNames, Refused
from roireg.workflow.schema.methods import Similarity
from roireg.workflow.schema.section import Section, section

Seeds = Annotated[tuple[Annotated[int, Ge(0), Le(1000)], ...], MinLen(1), *UNIQUE]
Similarities = Annotated[tuple[Similarity, ...], *UNIQUE]


def _rising(edges_mm: tuple[float, ...]) -> tuple[float, ...]:
    if list(edges_mm) != sorted(edges_mm):
        raise Refused("edges do not rise", "Give the smaller ones first")
    return edges_mm


NOTES = (
    "Simulated X-rays of a real CT and of deformed copies of it (automatic labels); not a measurement on fluoroscopy.",
    "Reduced for the default run to 3 specimens of 6 X-rays at 128x128 (Table 3 to the first X-ray of each); "
    "config/study.yaml is the run for claims.",
    "Networks are small and train briefly, for two CPU cores; U-Net at 64x64, 1000 batches of 8 (paper 500 epochs); "
    "MedSAM (tiny) at 64x64 from random weights, 500 batches of 8 (paper MedSAM's own size, 400 epochs); encoders at "
    "64x64 with a quarter of ResNet-18's channels, 600 batches of 32 from 300 DRRs (paper 1300 epochs).",
    "Adam ends after 40 iterations in which the objective did not fall by 1e-4, and after 250 (paper always 250).",
    "In the training of Ours, Dice and mNCC join after 70% of the batches (paper from the start), "
    "on 2 examples of each.",
)


class Table1(Section):
    methods: OneOrMoreNames = ("diffdrr", "psss", "diffpose", "wsreg", "ours", "ours+gn", "multi_start+gn")
    """Names of `methods`, in the order of the rows."""


class Table2(Section):
    segmenters: Names = ("unet", "medsam")
    """Names of `segment`, in the order of the rows; [] leaves out Table 2 and the figures of segmentations, for a data
    set of one specimen."""


class Comparison(Section):
    """Keys of both tables that compare many methods from the same starts."""

    init: str = "ours"
    """The start, a name of `initial_poses`."""
    seeds: Seeds = (0,)
    """Numbers added to the seed of the start: [0, 1, 2] registers every X-ray from three starts (an encoder is trained
    for each)."""
    xrays_per_specimen: Count | None = None
    """Only so many X-rays of each specimen, the first ones; null for all."""


class Table3(Comparison):
    similarities: Similarities = ("local_ncc", "global_ncc", "gradient_ncc", "ssim", "mse", "mae", "psnr")
    """Measures of X-ray against DRR, in the order of the rows, each without and with the ROI term; [] leaves Table 3
    out."""
    roi: str = "unet"
    """The ROI term, a name of `roi_terms`."""
    optimizer: str = "adam"
    """A name of `optimizers`."""
    weights: str = "none"
    """Which pixels count, a name of `weights`."""
    xrays_per_specimen: Count | None = 1
    """Only so many X-rays of each specimen, the first ones; null for all.

    Paper: all.
    """


class Ablation(Comparison):
    optimizers: Names = ()
    """Names of `optimizers`; [] leaves the ablation out: it belongs to the study."""
    similarity: Similarity = "mncc"
    """Measure of X-ray against DRR, for optimizers that have no objective of their own."""
    rois: Names = ("unet", "unet-rigid", "projected", "mask")
    """Names of `roi_terms`, each beside no ROI term, where it goes with the optimizer."""
    weights: OneOrMoreNames = ("none", "coverage", "coverage+femurs")
    """Names of `weights`; rows without a ROI term are compared with those of the first."""


class Tables(Section):
    notes: tuple[str, ...] = NOTES
    """Lines printed under every table: what this run reduces or simulates."""
    table1: Table1 = section(Table1)
    """Methods compared.

    Paper: Table 1.
    """
    table2: Table2 = section(Table2)
    """Segmenters compared.

    Paper: Table 2.
    """
    table3: Table3 = section(Table3)
    """Each similarity without and with a ROI term, from the same initial poses.

    Paper: Table 3.
    """
    ablation: Ablation = section(Ablation)
    """What ROI terms and weights bring, by optimizer; not in the paper."""


class CaseStudy(Section):
    specimen: str | None = None
    """Whose X-rays are shown; null for the first specimen.

    Paper: 18-2799.
    """
    segmenters: OneOrMoreNames = ("unet", "medsam")
    """Names of `segment` that are compared."""
    methods: Names = ("wsreg", "wsreg+medsam")
    """Names of `methods`, in the order of the lines; [] leaves Figure 5 out."""


class CaptureRange(Section):
    methods: Names = ()
    """Names of `methods` of the same start; [] leaves the figure out: it belongs to the study."""
    edges_mm: Annotated[tuple[Annotated[float, Ge(0)], ...], MinLen(2), *UNIQUE, AfterValidator(_rising)] = (
        0.0,
        10.0,
        20.0,
        40.0,
        80.0,
        160.0,
    )
    """Edges of the intervals of the error (mpd) at the start, rising."""


class LearningCurves(Section):
    encoders: Names = ("psss", "diffpose", "ours")
    """Names of `encoders`, in the order of the panels; [] leaves the figure out."""
    seeds: Seeds = (0,)
    """Trainings to show, as numbers added to the seed; 0 is the encoder that methods start from."""


class Figures(Section):
    methods: OneOrMoreNames = ("diffdrr", "psss", "diffpose", "ours")
    """Names of `methods` in Figure 4 and in the figure of convergence, in the order of the panels."""
    case_study: CaseStudy = section(CaseStudy)
    """Figure 5: segmentations and registrations of one specimen.

    Paper: Fig. 5 and section 3.2.
    """
    capture_range: CaptureRange = section(CaptureRange)
    """Fraction of X-rays registered, by the error at the start."""
    learning_curves: LearningCurves = section(LearningCurves)
    """Validation error of encoders while they learn."""
    dpi: Annotated[int, Ge(30), Le(1200)] = 150
    """Dots per inch of the PNG figures."""


class Report(Section):
    xrays_per_specimen: Count | None = 24
    """Pictures in report.html of at most so many X-rays of a specimen, evenly spaced from the best to the worst; null
    for all of them. Tables and figures are of all X-rays in any case."""
