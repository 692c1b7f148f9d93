"""`synthesize`: DRRs at random poses around T_PA, with ROIs projected from the CT's labels."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from roireg.settings import Probability, Range, Section

Sd = Annotated[float, Ge(0), Le(1000)]


class Synthesize(Section):
    drrs_per_specimen: Annotated[int, Ge(1), Le(1_000_000)] = 300
    """Number of stored DRRs of each specimen."""
    rotation_sd_deg: tuple[Sd, Sd, Sd] = (11.5, 14.3, 5.7)
    """Standard deviations of the rotation about the camera's x (across the image), y (down) and z (central ray) axes.

    Paper: not given; DiffPose 11.5, 14.3, 5.7.
    """
    translation_sd_mm: tuple[Sd, Sd, Sd] = (35.0, 25.0, 45.0)
    """Standard deviations of the translation, along the same axes.

    Paper: not given; DiffPose, for a larger detector, 70, 50, 90.
    """
    bone_contrast: Range = (1.0, 3.0)
    """Smallest and largest value of a random factor on the contrast of bone.

    Paper: not given; DiffPose 1 to 10.
    """
    contrast_scales: Literal["attenuation", "hu"] = "attenuation"
    """Quantity that the factor multiplies: the attenuation of bone, or its HU, where the factor replaces
    prepare.bone_multiplier.

    Paper: not given; DiffPose hu.
    """
    contrast_per: Literal["drr", "batch"] = "drr"
    """Whether each DRR has its own factor, or all DRRs of a batch that is rendered online have the same; DRRs of a
    stored pool always have their own.

    Paper: not given; DiffPose batch.
    """
    rotation_center: Literal["isocenter", "ct_corner"] = "isocenter"
    """Point about which poses rotate.

    Paper: not given; DiffPose ct_corner, the origin of its volumes.
    """
    bone_above_hu: Annotated[float, Ge(-500), Le(3000)] = 350.0
    """Voxels above this are bone, for bone_contrast."""
    min_roi_fraction: Probability = 0.05
    """Smallest fraction of the image that ROIs must cover; other random poses are rejected."""
    continued_fraction: Probability = 0.8
    """Fraction of the DRRs in which tissue is continued beyond the ends of the CT (by repeating its last slices), as in
    a real patient. The accuracy of encoders on X-rays depends on it (docs/encoders.md).

    Paper: not mentioned.
    """
    continued_mm: Annotated[float, Gt(0), Le(1000)] = 100.0
    """Length by which tissue is continued."""
