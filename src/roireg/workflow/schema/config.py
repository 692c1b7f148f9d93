"""The model of the whole configuration."""

from typing import Annotated

from annotated_types import Ge, MaxLen, MinLen

from roireg.register.settings import WeightSettings
from roireg.settings import UNIQUE, Name, Section, Text, section
from roireg.workflow.schema.bones import Bones
from roireg.workflow.schema.dataset import Dataset, DeepFluoro
from roireg.workflow.schema.demo import Condition, Demo, conditions
from roireg.workflow.schema.encoders import Encoder, EncoderAugmentation, encoders
from roireg.workflow.schema.methods import Method, methods, weights
from roireg.workflow.schema.prepare import Prepare, Render
from roireg.workflow.schema.registration import (
    AnyOptimizer,
    AnyRoiTerm,
    AnyStart,
    Registration,
    optimizers,
    roi_terms,
    starts,
)
from roireg.workflow.schema.results import Figures, Report, Tables
from roireg.workflow.schema.section import Entries, named
from roireg.workflow.schema.segment import AnySegmenter, Augmentation, segmenters
from roireg.workflow.schema.synthesize import Synthesize
from roireg.workflow.schema.training import Recipe, Training, recipes

# Sections that hold entries by name, with those of the default configuration.
NAMED: dict[str, Entries] = {
    "conditions": conditions,
    "recipes": recipes,
    "segment": segmenters,
    "encoders": encoders,
    "initial_poses": starts,
    "optimizers": optimizers,
    "roi_terms": roi_terms,
    "weights": weights,
    "methods": methods,
}


class Config(Section):
    """The configuration of a run: config.yaml, overridden by the files given with --configfile."""

    plugins: Annotated[tuple[Text, ...], *UNIQUE] = ()
    """Your own Python files (relative to the working directory) or modules, which add similarities, ROI terms,
    optimizers, starts or segmenters; see docs/extending.md."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of all random numbers (starts, networks, bootstrap) except those of the demo data."""
    dataset: Dataset = section(Dataset)
    """The data set of the run."""
    deepfluoro: DeepFluoro = section(DeepFluoro)
    """The DeepFluoro data set (Grupp et al. 2020, doi:10.7281/T1/IFSXNV, 2.5 GB, CC BY-NC 4.0), used if
    dataset.path is null and dataset.source is deepfluoro."""
    demo: Demo = section(Demo)
    """The simulated demo data set, used if dataset.path is null and dataset.source is demo."""
    conditions: dict[Name, Condition] = named(conditions)
    """Variants of the demo data, by name; each has the keys of `demo` that differ. With conditions, the whole run is
    done once for each, in results/{name}/{condition}/, and one report shows all; see config/study.yaml."""
    prepare: Prepare = section(Prepare)
    """Preparation of X-rays and CTs."""
    render: Render = section(Render)
    """Rendering of DRRs (digitally reconstructed radiographs, the X-rays that a CT would give)."""
    rois: Annotated[tuple[Text, ...], MinLen(1), MaxLen(250), *UNIQUE] = (
        "vertebrae",
        "upper sacrum",
        "left hemipelvis",
        "right hemipelvis",
        "left femur",
        "right femur",
    )
    """Regions of interest (ROIs): names of labels of the CT. Where bones overlap in an X-ray, the later name wins.

    Paper: these six (section 2.1 and Fig. 1).
    """
    synthesize: Synthesize = section(Synthesize)
    """DRRs at random poses around the posterior-anterior pose T_PA, with ROIs projected from the CT's labels: training
    data without annotation.

    Paper: section 2.1.
    """
    training: Training = section(Training)
    """Device on which networks are trained and applied."""
    recipes: dict[Name, Recipe] = named(recipes)
    """Training recipes (optimizer and learning-rate schedule) of networks, by name."""
    augmentation: Augmentation = section(Augmentation)
    """Random changes of the segmenters' training images, so that a network trained on X-rays can segment DRRs, and the
    reverse."""
    segment: dict[Name, AnySegmenter] = named(segmenters)
    """Segmenters, by name. A segmenter is trained once for each specimen, on all OTHER specimens.

    Paper: section 2.1.
    """
    encoder_augmentation: EncoderAugmentation = section(EncoderAugmentation)
    """Random changes of the encoders' training images, so that a network trained on DRRs works on X-rays.

    Paper: none described.
    """
    encoders: dict[Name, Encoder] = named(encoders)
    """Pose encoders, by name: networks that estimate the pose of an X-ray. An encoder is trained once for each
    specimen, on DRRs of that specimen.

    Paper: section 2.1 and Fig. 2.
    """
    initial_poses: Annotated[dict[Name, AnyStart], MinLen(1)] = named(starts)
    """Starts, by name: how the initial pose of an optimization is found."""
    optimizers: Annotated[dict[Name, AnyOptimizer], MinLen(1)] = named(optimizers)
    """Optimizers, by name."""
    registration: Registration = section(Registration)
    """Size and resources of registration jobs."""
    roi_terms: dict[Name, AnyRoiTerm] = named(roi_terms)
    """ROI terms, by name: how regions of interest enter a registration.

    Paper: section 2.2 and Fig. 3.
    """
    weights: Annotated[dict[Name, WeightSettings], MinLen(1)] = named(weights)
    """Pixel weights, by name: rays that a rigid CT cannot explain can be left out of the similarity.

    Paper: none.
    """
    methods: Annotated[dict[Name, Method], MinLen(1)] = named(methods)
    """Methods, by name: combinations of a start, a similarity, a ROI term, an optimizer and pixel weights."""
    bones: Bones = section(Bones)
    """Bones that moved on their own since the CT, such as femurs: each is registered from the pose of the whole CT, and
    a table compares errors before and after.

    Paper: none.
    """
    tables: Tables = section(Tables)
    """Contents of the tables."""
    figures: Figures = section(Figures)
    """Contents of the figures."""
    report: Report = section(Report)
    """The HTML report."""
