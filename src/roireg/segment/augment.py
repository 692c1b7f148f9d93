"""Augmentation (MONAI) that lets a segmenter trained on X-rays segment DRRs, and the reverse."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandLambdad,
)
from torch import Tensor

from roireg.data.label_names import normalized
from roireg.errors import InputError

SEED_LIMIT = 2**32
# Grey value of occluding boxes; they stand for metal, which is bright.
OPAQUE = 1.0
SIDE = re.compile("(?<![a-z])(left|right)(?![a-z])")
OTHER_SIDE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class SegmenterAugmentation:
    """Strength of the augmentation; images are in [0, 1].

    Attributes:
        probability: probability of gamma correction, of noise, and of boxes, each.
        mirror_probability: probability of mirroring the patient: the image is flipped, left and right ROIs exchanged.
        invert_probability: probability of inverting grey values.
        rotation_deg, shift_fraction, scale_fraction: largest rotation, shift and change of scale of the affine map;
            shift and scale as fractions of the image's size.
        gamma: range of the exponent of the gamma correction.
        noise_sd: largest standard deviation of Gaussian noise.
        boxes: largest number of occluding boxes.
        box_fraction: largest side of a box, as a fraction of the image's size.
    """

    probability: float
    mirror_probability: float
    invert_probability: float
    rotation_deg: float
    shift_fraction: float
    scale_fraction: float
    gamma: tuple[float, float]
    noise_sd: float
    boxes: int
    box_fraction: float


def inverted(image: Float[Tensor, "1 H W"]) -> Float[Tensor, "1 H W"]:
    """The image with inverted grey values."""
    return 1 - image


def augmentation(settings: SegmenterAugmentation, size_px: int) -> Compose:
    """Random transforms of `{"image": (1, H, W), "rois": (1, H, W)}`, for square images of `size_px`.

    Pixels that the affine map takes from outside the image become background with value 0, as behind a collimator.
    """
    shift_px = settings.shift_fraction * size_px
    return Compose(
        [
            RandAffined(
                ["image", "rois"],
                prob=1.0,
                rotate_range=np.deg2rad(settings.rotation_deg),
                translate_range=(shift_px, shift_px),
                scale_range=(settings.scale_fraction, settings.scale_fraction),
                mode=["bilinear", "nearest"],
                padding_mode="zeros",
            ),
            RandAdjustContrastd(["image"], prob=settings.probability, gamma=settings.gamma),
            RandGaussianNoised(["image"], prob=settings.probability, std=settings.noise_sd),
            RandCoarseDropoutd(
                ["image"],
                prob=settings.probability,
                holes=1,
                max_holes=settings.boxes,
                spatial_size=1,
                max_spatial_size=max(1, round(settings.box_fraction * size_px)),
                fill_value=OPAQUE,
            ),
            RandLambdad(["image"], func=inverted, prob=settings.invert_probability),
        ]
    )


def mirrored_numbers(rois: Sequence[str]) -> UInt8[Tensor, "N"]:
    """For each ROI number, its number in a mirrored patient: "left" and "right" ROIs are exchanged, others stay.

    Raises:
        InputError: a left or right ROI has no counterpart among `rois`.
    """
    names = [normalized(name) for name in rois]
    twins = [SIDE.sub(lambda side: OTHER_SIDE[side[0]], name) for name in names]
    for name, twin in zip(names, twins, strict=True):
        if twin not in names:
            fault = f"mirroring turns {name!r} into {twin!r}, which is not one of `rois`"
            raise InputError("config: augmentation.mirror_probability", fault, "Set it to 0, or add the ROI")
    return torch.tensor([0, *(names.index(twin) + 1 for twin in twins)], dtype=torch.uint8)


def mirrored(
    images: Float[Tensor, "B H W"],
    rois: UInt8[Tensor, "B H W"],
    numbers: UInt8[Tensor, "N"],
    probability: float,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "B H W"], UInt8[Tensor, "B H W"]]:
    """The batch with each patient mirrored with the given probability; `numbers` is made by `mirrored_numbers`."""
    chosen = torch.from_numpy(rng.uniform(size=len(images)) < probability)[:, None, None]
    return torch.where(chosen, images.flip(-1), images), torch.where(chosen, numbers[rois.flip(-1).long()], rois)


def augmented(
    transform: Compose, images: Float[Tensor, "B H W"], rois: UInt8[Tensor, "B H W"], rng: np.random.Generator
) -> tuple[Float[Tensor, "B H W"], UInt8[Tensor, "B H W"]]:
    """The batch after random transforms; randomness comes from `rng` only."""
    transform.set_random_state(int(rng.integers(SEED_LIMIT)))
    out = [
        transform({"image": image[None], "rois": number[None].float()})
        for image, number in zip(images, rois, strict=True)
    ]
    return (
        torch.cat([example["image"].as_tensor() for example in out]),
        torch.cat([example["rois"].as_tensor() for example in out]).to(torch.uint8),
    )
