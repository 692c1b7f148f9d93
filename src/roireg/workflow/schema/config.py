"""The whole configuration."""

from typing import Annotated

from annotated_types import Ge, MaxLen, MinLen

from roireg.register.settings import WeightSettings
from roireg.settings import UNIQUE, Name, Text
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
from roireg.workflow.schema.section import Entries, Section, named, section
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
    """What the workflow does. A run is config.yaml with any number of files laid over it by --configfile."""

    seed: Annotated[int, Ge(0)] = 0
    """Seed of everything random after the data: starts, networks, bootstrap."""
    dataset: Dataset = section(Dataset)
    """The data set of the run."""
    deepfluoro: DeepFluoro = section(DeepFluoro)
    """The DeepFluoro data set (Grupp et al. 2020, doi:10.7281/T1/IFSXNV, 2.5 GB, CC BY-NC 4.0), used when
    dataset.source asks for it."""
    demo: Demo = section(Demo)
    """The simulated data set, used when dataset.path is null and dataset.source is demo."""
    conditions: dict[Name, Condition] = named(conditions)
    """Conditions under which the demo is made, by name, each the keys of `demo` that differ. Everything is then done
    for each, in results/{name}/{condition}/, and one report shows all; see config/study.yaml."""
    prepare: Prepare = section(Prepare)
    """How X-rays and CTs are prepared."""
    render: Render = section(Render)
    """How DRRs are sampled."""
    rois: Annotated[tuple[Text, ...], MinLen(1), MaxLen(250), *UNIQUE] = (
        "vertebrae",
        "upper sacrum",
        "left hemipelvis",
        "right hemipelvis",
        "left femur",
        "right femur",
    )
    """Regions of interest: labels of the CT. Where bones overlap in an X-ray, later ones lie over earlier ones.

    Paper: these six (section 2.1 and Fig. 1).
    """
    synthesize: Synthesize = section(Synthesize)
    """DRRs at random poses about T_PA, with the ROIs projected from the CT's labels: training data without annotation.

    Paper: section 2.1.
    """
    training: Training = section(Training)
    """Where networks are trained and applied."""
    recipes: dict[Name, Recipe] = named(recipes)
    """How networks learn, by name."""
    augmentation: Augmentation = section(Augmentation)
    """Random changes of the segmenters' training images, so that a network that learned from X-rays reads DRRs, and the
    reverse."""
    segment: dict[Name, AnySegmenter] = named(segmenters)
    """Segmenters by name, each trained once per specimen on all OTHER specimens.

    Paper: section 2.1.
    """
    encoder_augmentation: EncoderAugmentation = section(EncoderAugmentation)
    """Random changes of the encoders' training images, so that a network that learned from DRRs reads X-rays.

    Paper: none described.
    """
    encoders: dict[Name, Encoder] = named(encoders)
    """Encoders by name, each trained once per specimen on DRRs of that specimen: from an X-ray to a pose.

    Paper: section 2.1 and Fig. 2.
    """
    initial_poses: Annotated[dict[Name, AnyStart], MinLen(1)] = named(starts)
    """Starts of an optimization, by name."""
    optimizers: Annotated[dict[Name, AnyOptimizer], MinLen(1)] = named(optimizers)
    """Optimizers by name."""
    registration: Registration = section(Registration)
    """Size of the jobs that register."""
    roi_terms: dict[Name, AnyRoiTerm] = named(roi_terms)
    """Parts that regions of interest have in a registration, by name.

    Paper: section 2.2 and Fig. 3.
    """
    weights: Annotated[dict[Name, WeightSettings], MinLen(1)] = named(weights)
    """Weights of the pixels, by name: rays that the rigid CT cannot explain can be left out of the similarity.

    Paper: none.
    """
    methods: Annotated[dict[Name, Method], MinLen(1)] = named(methods)
    """Methods by name: a start, a similarity, a ROI term, an optimizer, and weights of the pixels."""
    tables: Tables = section(Tables)
    """What the tables hold."""
    figures: Figures = section(Figures)
    """What the figures show."""
    report: Report = section(Report)
    """The HTML report."""
