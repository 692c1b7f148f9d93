"""Networks from an image to a pose: ResNet-18 with two heads (the paper), and an autoencoder with self-attention."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from roireg.data.images import MIN_CONTRAST, resized, scaled

GROUPS = 8
POSITION_SD = 0.02
SD_FROM_MAD = 1.4826
LIMIT_SD = 2.5
# DiffPose's, of DRRs in [0, 1].
FIXED_MEAN, FIXED_SD = 0.3080, 0.1494
ROBUST, FIXED = "robust", "fixed"
NO_POOLING, AVERAGE = "none", "average"


@dataclass(frozen=True)
class ResNetSettings:
    """Architecture of timm's ResNet; `layers` (2, 2, 2, 2) with `widths` (64, 128, 256, 512) is ResNet-18.

    Attributes:
        image_size_px: height and width to which images are resampled.
        layers: basic blocks of each stage.
        widths: channels of each stage.
        input: `robust`, centred on the median (`robustly_scaled`), or `fixed`, DiffPose's fixed statistics.
        pooling: what the heads see of the last feature map: `none`, all of it, or its `average` over the pixels.
    """

    image_size_px: int
    layers: tuple[int, ...]
    widths: tuple[int, ...]
    input: str = ROBUST
    pooling: str = NO_POOLING


@dataclass(frozen=True)
class AttentionAutoencoderSettings:
    """Architecture of the "PSSS-style" network.

    Attributes:
        image_size_px: height and width to which images are resampled; each stage halves them.
        widths: channels of each stage; the last is the width of a token.
        heads: of the self-attention.
    """

    image_size_px: int
    widths: tuple[int, ...]
    heads: int


NetworkSettings = ResNetSettings | AttentionAutoencoderSettings
# By `type` of an encoder's `network` in the config.
NETWORK_TYPES: dict[str, type] = {"resnet": ResNetSettings, "attention_autoencoder": AttentionAutoencoderSettings}


@dataclass(frozen=True, eq=False)
class EncoderOutput:
    """What a network makes of images.

    Attributes:
        twist: r and t of the perturbation of T_PA along the camera's axes, in units of the network's choice.
        reconstruction: the images, cleaned, from what the network kept of them; None without a decoder.
        latent: what it kept of them; None without a decoder.
    """

    twist: Float[Tensor, "B 6"]
    reconstruction: Float[Tensor, "B S S"] | None = None
    latent: Float[Tensor, "B N C"] | None = None


def robustly_scaled(images: Float[Tensor, "B H W"], size_px: int) -> Float[Tensor, "B S S"]:
    r"""Images as networks take them: at their size, on a scale that neither metal nor air beyond the CT sets.

    $$\ell \tanh\frac{I - m}{1.48\,\ell\,\mathrm{median}|I - m|}, \quad m = \mathrm{median}(I), \ell = 2.5$$

    An image of which more than half is one value has the standard deviation for its scale.
    """
    small = resized(images[:, None], size_px)[:, 0]
    centred = small - small.flatten(1).median(dim=1).values[:, None, None]
    spread = SD_FROM_MAD * centred.abs().flatten(1).median(dim=1).values[:, None, None]
    spread = spread.where(spread > MIN_CONTRAST, centred.std(dim=(-2, -1), keepdim=True))
    return LIMIT_SD * torch.tanh(centred / (LIMIT_SD * spread.clamp_min(MIN_CONTRAST)))


def with_fixed_statistics(images: Float[Tensor, "B H W"], size_px: int) -> Float[Tensor, "B S S"]:
    """Images as DiffPose's network takes them: min-max of each, resampled, less 0.3080, by 0.1494."""
    return (resized(scaled(images)[:, None], size_px)[:, 0] - FIXED_MEAN) / FIXED_SD


def group_norm(channels: int, **factory: object) -> nn.GroupNorm:
    """Group normalisation as timm asks for a norm layer; a group has two channels at least, for images of one pixel."""
    groups = max(count for count in range(1, GROUPS + 1) if channels % count == 0 and 2 * count <= max(2, channels))
    return nn.GroupNorm(groups, channels, **factory)


# By `input` of a ResNet in the config.
INPUTS: dict[str, Callable[[Tensor, int], Tensor]] = {ROBUST: robustly_scaled, FIXED: with_fixed_statistics}


class Heads(nn.Module):
    """Two linear heads side by side, one for the rotation and one for the translation, as in DiffPose."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.rotation = nn.Linear(inputs, 3)
        self.translation = nn.Linear(inputs, 3)

    def forward(self, x: Float[Tensor, "B C"]) -> Float[Tensor, "B 6"]:
        return torch.cat([self.rotation(x), self.translation(x)], dim=-1)


class ResNetEncoder(nn.Module):
    """timm's ResNet of basic blocks with group normalisation, one channel in, and two heads (paper, section 3.1).

    Without pooling the last feature map goes to the heads as it is: where something is, is the question. ResNet-18 as
    published averages it.
    """

    def __init__(self, settings: ResNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = ResNet(
            BasicBlock,
            settings.layers,
            num_classes=0,
            in_chans=1,
            global_pool="avg" if settings.pooling == AVERAGE else "",
            channels=settings.widths,
            norm_layer=group_norm,
        )
        size = settings.image_size_px
        with torch.no_grad():
            features = self.trunk(torch.zeros(1, 1, size, size)).numel()
        self.heads = Heads(features)

    def forward(self, images: Float[Tensor, "B H W"]) -> EncoderOutput:
        taken = INPUTS[self.settings.input](images, self.settings.image_size_px)
        return EncoderOutput(self.heads(self.trunk(taken[:, None]).flatten(1)))


class AttentionAutoencoder(nn.Module):
    """A regularised autoencoder whose tokens attend to each other, with pose heads on the tokens.

    "PSSS-style": after the description in Zhang et al. 2023 (regularised autoencoder, multi-head self-attention,
    incremental learning), whose authors published no network. The decoder learns to give the clean image back, and the
    loss holds the tokens short (Ghosh et al. 2020, "From variational to deterministic autoencoders").
    """

    def __init__(self, settings: AttentionAutoencoderSettings) -> None:
        super().__init__()
        self.settings = settings
        widths, token = settings.widths, settings.widths[-1]
        side = settings.image_size_px >> len(widths)
        steps = list(zip((1, *widths[:-1]), widths, strict=True))
        self.encode = nn.Sequential(*(_down(inputs, outputs) for inputs, outputs in steps))
        self.position = nn.Parameter(torch.randn(side * side, token) * POSITION_SD)
        self.attend = nn.TransformerEncoderLayer(
            token, settings.heads, 2 * token, dropout=0.0, batch_first=True, norm_first=True
        )
        self.decode = nn.Sequential(
            *(_up(outputs, inputs) for inputs, outputs in reversed(steps[1:])),
            nn.ConvTranspose2d(widths[0], 1, kernel_size=2, stride=2),
        )
        self.heads = Heads(side * side * token)
        self.side = side

    def forward(self, images: Float[Tensor, "B H W"]) -> EncoderOutput:
        features = self.encode(robustly_scaled(images, self.settings.image_size_px)[:, None])
        tokens = self.attend(features.flatten(2).transpose(1, 2) + self.position)
        grid = tokens.transpose(1, 2).unflatten(2, (self.side, self.side))
        return EncoderOutput(self.heads(tokens.flatten(1)), self.decode(grid)[:, 0], tokens)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), group_norm(outputs), nn.ReLU())


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, stride=2), group_norm(outputs), nn.ReLU())


NETWORKS: dict[type, type[nn.Module]] = {
    ResNetSettings: ResNetEncoder,
    AttentionAutoencoderSettings: AttentionAutoencoder,
}


def build_network(settings: NetworkSettings) -> nn.Module:
    """The network that the settings describe, with random weights; from `(B, H, W)` images to an `EncoderOutput`."""
    return NETWORKS[type(settings)](settings)
