"""Augmentation by MONAI: what makes a network that was trained on X-rays read DRRs, and the reverse."""

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
# Boxes hide what is behind them as metal does.
OPAQUE = 1.0
SIDE = re.compile("(?<![a-z])(left|right)(?![a-z])")
OTHER_SIDE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class SegmenterAugmentation:
    """Ranges of the augmentation; images are in [0, 1].

    Attributes:
        probability: of each of gamma, noise and boxes.
        mirror_probability: of left becoming right, in the image and in the ROIs' names.
        invert_probability: of bright becoming dark.
        rotation_deg, shift_fraction, scale_fraction: of the affine map; shift and scale as shares of the image's size.
        gamma: range of the exponent.
        noise_sd: largest standard deviation.
        boxes: largest number of occluding boxes.
        box_fraction: largest side of a box as a share of the image's size.
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
    """Bright where it was dark."""
    return 1 - image


def augmentation(settings: SegmenterAugmentation, size_px: int) -> Compose:
    """Transforms of `{"image": (1, H, W), "rois": (1, H, W)}`, square images of `size_px`.

    What the affine map draws in from outside the image is background and dark, as behind a collimator's edge.
    """
    reach = settings.shift_fraction * size_px
    return Compose(
        [
            RandAffined(
                ["image", "rois"],
                prob=1.0,
                rotate_range=np.deg2rad(settings.rotation_deg),
                translate_range=(reach, reach),
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
    """By ROI number, the number in a mirrored patient: names with "left" and "right" change places, all others stay.

    Raises:
        InputError: a ROI has no counterpart on the other side.
    """
    names = [normalized(name) for name in rois]
    twins = [SIDE.sub(lambda side: OTHER_SIDE[side[0]], name) for name in names]
    for name, twin in zip(names, twins, strict=True):
        if twin not in names:
            fault = f"a mirrored {name!r} would be {twin!r}, which is not one of `rois`"
            raise InputError("config: augmentation.mirror_probability", fault, "Set it to 0, or add the ROI")
    return torch.tensor([0, *(names.index(twin) + 1 for twin in twins)], dtype=torch.uint8)


def mirrored(
    images: Float[Tensor, "B H W"],
    rois: UInt8[Tensor, "B H W"],
    numbers: UInt8[Tensor, "N"],
    probability: float,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "B H W"], UInt8[Tensor, "B H W"]]:
    """A batch in which some patients are mirrored; `numbers` is of `mirrored_numbers`."""
    chosen = torch.from_numpy(rng.uniform(size=len(images)) < probability)[:, None, None]
    return torch.where(chosen, images.flip(-1), images), torch.where(chosen, numbers[rois.flip(-1).long()], rois)


def augmented(
    transform: Compose, images: Float[Tensor, "B H W"], rois: UInt8[Tensor, "B H W"], rng: np.random.Generator
) -> tuple[Float[Tensor, "B H W"], UInt8[Tensor, "B H W"]]:
    """A batch after random transforms that depend on `rng` only."""
    transform.set_random_state(int(rng.integers(SEED_LIMIT)))
    out = [
        transform({"image": image[None], "rois": number[None].float()})
        for image, number in zip(images, rois, strict=True)
    ]
    return (
        torch.cat([one["image"].as_tensor() for one in out]),
        torch.cat([one["rois"].as_tensor() for one in out]).to(torch.uint8),
    )
