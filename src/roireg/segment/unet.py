"""The six-level U-Net of the paper (section 3.1): 2x2 strided convolutions down, transposed convolutions up.

Its blocks are MONAI's residual units. Training builds it from MONAI (`roireg.segment.train_unet`). Registration loads
the weights into `TORCH_BLOCKS`, which have the same parameters under the same names, because importing MONAI takes ten
seconds.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from roireg.data.images import MIN_CONTRAST, resized

KERNEL_SIZE = 3
DOWN_SIZE = 2
NEGATIVE_SLOPE = 0.01


@dataclass(frozen=True)
class UNetSettings:
    """Architecture of a U-Net.

    Attributes:
        image_size_px: height and width to which images are resampled for the network.
        widths: channels of each level, from the finest to the coarsest.
    """

    image_size_px: int
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Blocks:
    """Constructors `(in_channels, out_channels) -> module` of a U-Net's blocks: residual unit, down- and upsampling."""

    unit: Callable[[int, int], nn.Module]
    down: Callable[[int, int], nn.Module]
    up: Callable[[int, int], nn.Module]


def _convolution(inputs: int, outputs: int, size: int, stride: int, padding: int) -> nn.Sequential:
    """Convolution, instance normalisation, leaky ReLU, as in `monai.networks.blocks.Convolution`."""
    activated = nn.Sequential(OrderedDict(N=nn.InstanceNorm2d(outputs), A=nn.LeakyReLU(NEGATIVE_SLOPE)))
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(inputs, outputs, size, stride, padding), adn=activated))


class _ResidualUnit(nn.Module):
    """Two convolutions with a skip connection, as in `monai.networks.blocks.ResidualUnit`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        first = _convolution(inputs, outputs, KERNEL_SIZE, 1, KERNEL_SIZE // 2)
        second = _convolution(outputs, outputs, KERNEL_SIZE, 1, KERNEL_SIZE // 2)
        self.conv = nn.Sequential(OrderedDict(unit0=first, unit1=second))
        self.residual = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        return self.conv(x) + self.residual(x)


TORCH_BLOCKS = Blocks(
    unit=_ResidualUnit,
    down=lambda inputs, outputs: _convolution(inputs, outputs, DOWN_SIZE, DOWN_SIZE, 0),
    up=lambda inputs, outputs: nn.Sequential(
        OrderedDict(deconv=nn.ConvTranspose2d(inputs, outputs, DOWN_SIZE, DOWN_SIZE))
    ),
)


class UNet(nn.Module):
    """Predicts logits of background and ROIs from images."""

    def __init__(self, settings: UNetSettings, rois: int, blocks: Blocks = TORCH_BLOCKS) -> None:
        super().__init__()
        widths = settings.widths
        pairs = list(pairwise(widths))
        self.settings = settings
        self.encode = nn.ModuleList([blocks.unit(1, widths[0])] + [blocks.unit(wide, wide) for wide in widths[1:]])
        self.down = nn.ModuleList([blocks.down(fine, coarse) for fine, coarse in pairs])
        self.up = nn.ModuleList([blocks.up(coarse, fine) for fine, coarse in pairs])
        self.decode = nn.ModuleList([blocks.unit(2 * fine, fine) for fine, _ in pairs])
        self.head = nn.Conv2d(widths[0], rois + 1, 1)

    def forward(self, image: Float[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """Logits at the images' own size; channel 0 is the background. The scale of the images does not matter."""
        x = self.encode[0](resized(standardized(image)[:, None], self.settings.image_size_px))
        skipped = []
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            skipped.append(x)
            x = encode(down(x))
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            x = decode(torch.cat([skipped.pop(), up(x)], dim=1))
        return interpolate(self.head(x), size=image.shape[-2:], mode="bilinear", align_corners=False)

    def probabilities(self, image: Float[Tensor, "B H W"]) -> Float[Tensor, "B R H W"]:
        """Softmax over background and ROIs, returned without the background; differentiable in the image."""
        return self(image).softmax(dim=1)[:, 1:]


def standardized(image: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Each image shifted and scaled to mean 0 and standard deviation 1."""
    centred = image - image.mean(dim=(-2, -1), keepdim=True)
    return centred / centred.std(dim=(-2, -1), keepdim=True).clamp_min(MIN_CONTRAST)
