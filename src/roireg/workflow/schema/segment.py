"""`augmentation` and `segment`: segmenters, each trained once for each specimen on all OTHER specimens."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from roireg.segment.registry import SEGMENTERS
from roireg.segment.settings import MedSamEntry, SegmenterEntry, UNetEntry
from roireg.settings import Probability, Range, Section
from roireg.workflow.schema.section import Entry, any_of

AnySegmenter = any_of(kind.settings for kind in SEGMENTERS.values())


class Augmentation(Section):
    probability: Probability = 0.5
    """Probability of each of the changes gamma, noise and boxes."""
    mirror_probability: Probability = 0.5
    """Probability of mirroring the patient, which exchanges the ROIs named "left x" and "right x"; 0 for ROIs without
    such names."""
    invert_probability: Probability = 0.05
    """Probability of inverting grey values."""
    rotation_deg: Annotated[float, Ge(0), Le(180)] = 6.0
    """Largest rotation in the image plane."""
    shift_fraction: Probability = 0.06
    """Largest shift along each axis, as a fraction of the image's size."""
    scale_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Largest change of scale along each axis, as a fraction."""
    gamma: Range = (0.5, 2.0)
    """Smallest and largest exponent of a gamma correction of images in [0, 1]."""
    noise_sd: Probability = 0.03
    """Largest standard deviation of Gaussian noise on images in [0, 1]."""
    boxes: Annotated[int, Ge(1), Le(100)] = 2
    """Largest number of occluding boxes."""
    box_fraction: Annotated[float, Gt(0), Le(1)] = 0.2
    """Largest side of an occluding box, as a fraction of the image's size."""


def segmenters() -> dict[str, Entry[SegmenterEntry]]:
    """Segmenters of the default configuration."""
    return {
        "unet": Entry(UNetEntry(label="U-Net", type="unet")),
        "medsam": Entry(MedSamEntry(label="MedSAM (tiny)", type="medsam")),
    }
