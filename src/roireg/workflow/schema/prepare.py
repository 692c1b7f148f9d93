"""`prepare` and `render`: preparation of X-rays and CTs, and rendering of DRRs."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from roireg.settings import Names, ProperFraction, Section

Attenuation = Annotated[float, Gt(0), Le(1)]


class Prepare(Section):
    image_size_px: Annotated[int, Ge(16), Le(1536)] = 128
    """Height and width of the images that are registered.

    Paper: not given; DiffPose 256.
    """
    crop_px: Annotated[int, Ge(0), Le(512)] = 25
    """Number of pixels cropped from each side of the stored X-ray, which the collimator may hide.

    Paper: not given; DiffPose 50 of 1536, which is 25 of the demo's 768.
    """
    ct_shift_voxels: Annotated[float, Ge(-1), Le(1)] = 0.0
    """Shift of the stored CT along each of its axes, in voxels: 0.5 for DeepFluoro, whose voxels are 1 mm. The software
    of DeepFluoro's authors shifts the poses by -0.5 mm instead, which is equivalent (docs/conventions.md).

    Paper: not mentioned.
    """
    isocenter: Names = ("left hemipelvis", "right hemipelvis")
    """Labels the centre of whose bounding box is the isocentre, which the PA pose T_PA is centred on and which poses
    rotate about; [] for the centre of the CT.

    Paper: not given; DiffPose the centre of the CT.
    """
    source_to_isocenter: ProperFraction = 0.72
    """Distance from source to isocentre in T_PA, as a fraction of the distance from source to detector.

    Paper: not given.
    """
    attenuation: Literal["two_slopes", "diffdrr"] = "two_slopes"
    """Conversion from HU to attenuation. two_slopes: piecewise linear, with mu_water_per_mm at 0 HU and mu_bone_per_mm
    at 1000 HU; diffdrr: DiffDRR's density, proportional to HU + 799 after HU above 350 are multiplied by
    bone_multiplier.

    Paper: not given; DiffPose diffdrr.
    """
    bone_multiplier: Annotated[float, Gt(0), Le(100)] = 1.0
    """Factor on HU above 350, for attenuation diffdrr; must be 1 for two_slopes.

    Paper: not given; DiffPose 2.5 when it registers.
    """
    mu_water_per_mm: Attenuation = 0.0192
    """Linear attenuation of water."""
    mu_bone_per_mm: Attenuation = 0.0384
    """Linear attenuation at 1000 HU (dense bone), for attenuation two_slopes: twice that of water at the effective
    energy of the CT, more for softer X-ray beams.

    Paper: not given.
    """


class Render(Section):
    step_mm: Annotated[float, Gt(0), Le(50)] | None = None
    """Distance between samples on the central ray; null for three quarters of the smallest voxel edge."""
