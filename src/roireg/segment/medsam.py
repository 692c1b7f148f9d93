"""MedSAM: predicts one mask per ROI from an image and the ROI's bounding box; differentiable in the image.

The modules come from `segment-anything` and have the same names as in `segment_anything.modeling.Sam`, so that the
released weights `sam_vit_b_01ec64.pth` and `medsam_vit_b.pth` can be loaded unchanged. As in MedSAM, the prompt encoder
is frozen, each box gives one mask, and images are preprocessed in the same way.

Sources: Kirillov et al., "Segment Anything", ICCV 2023; Ma et al., "Segment anything in medical images", Nature
Communications 2024; section 3.1 of Cui, Meng and Min, "WSReg", MICCAI 2025 (boxes with up to 10 px of translation).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from roireg.data.images import resized, scaled
from roireg.precision import rounded_transformer
from roireg.segment.network import Prompts, SegmentationNetwork
from roireg.segment.pretrained import load_checkpoint
from roireg.segment.relative_attention import RelativeAttention

Image = Float[Tensor, "B H W"]
Boxes = Float[Tensor, "B R 4"]
Masks = Float[Tensor, "B R H W"]

# Equal in all variants, as in `segment_anything.build_sam`; other arguments have the modules' defaults.
CHANNELS, MASK_PROMPT_CHANNELS, NORM_EPS = 3, 16, 1e-6
DECODER_DEPTH, DECODER_HEAD_WIDTH, DECODER_MLP_RATIO = 2, 32, 8

# Logit of an absent ROI: its sigmoid and the gradient are exactly 0, and, unlike with -inf, cross-entropy stays finite.
ABSENT_LOGIT = -1e4


@dataclass(frozen=True)
class Architecture:
    """Sizes of a variant of the network.

    Attributes:
        image_size_px, patch_size_px: side of the image encoder's input, and of the patch that becomes one token.
        width, depth, heads: channels, blocks and attention heads of the image encoder's transformer.
        window: side of the attention windows, in tokens.
        global_blocks: numbers of the blocks that attend to the whole image instead of a window.
        embedding: channels of the image embedding, the prompts and the mask decoder.
        recompute: whether blocks of the image encoder are recomputed in the backward pass to save memory.
    """

    image_size_px: int
    patch_size_px: int
    width: int
    depth: int
    heads: int
    window: int
    global_blocks: tuple[int, ...]
    embedding: int
    recompute: bool


ARCHITECTURES = {
    "vit_b": Architecture(
        image_size_px=1024,
        patch_size_px=16,
        width=768,
        depth=12,
        heads=12,
        window=14,
        global_blocks=(2, 5, 8, 11),
        embedding=256,
        recompute=True,
    ),
    # Small enough to be trained from random weights in minutes on two CPU cores.
    "tiny": Architecture(
        image_size_px=64,
        patch_size_px=8,
        width=96,
        depth=4,
        heads=3,
        window=4,
        global_blocks=(1, 3),
        embedding=64,
        recompute=False,
    ),
}


@dataclass(frozen=True)
class MedSamSettings:
    """Variant and initial weights.

    Attributes:
        variant: a key of `ARCHITECTURES`.
        checkpoint: file of pretrained weights; None for random weights.
        checkpoint_sha256: expected SHA-256 of the file in hexadecimal; None accepts any file.
        key: config key of the checkpoint, such as `segment.medsam.checkpoint`; used in error messages.
    """

    variant: str
    checkpoint: str | None
    checkpoint_sha256: str | None
    key: str


class MedSam(SegmentationNetwork):
    """SAM's image encoder, prompt encoder (frozen) and mask decoder: predicts masks from images and boxes."""

    prompted = True

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.image_encoder = _image_encoder(architecture)
        self.prompt_encoder = _prompt_encoder(architecture).requires_grad_(False)
        self.mask_decoder = _mask_decoder(architecture)

    def prompts(self, boxes_px: Boxes, size: tuple[int, int], device: torch.device) -> Prompts:
        """Convert boxes for images of a size (height, width) on a device; without a GPU sync if they are on the CPU."""
        present = ~boxes_px.isnan().any(-1)
        images, rois = present.nonzero(as_tuple=True)
        boxes = input_boxes(boxes_px[present], size, self.architecture.image_size_px)
        count, ids = present.shape
        return Prompts(boxes.to(device), images.to(device), rois.to(device), (count, ids), (size[0], size[1]))

    def forward(self, image: Image, boxes_px: Boxes | Prompts) -> Masks:
        """Logits at the images' own size; `ABSENT_LOGIT` where there is no box, whose gradient is 0.

        Args:
            image: log attenuation; its scale does not matter. Images that are no squares are stretched, as in MedSAM.
            boxes_px: `(left, top, right, bottom)`, indices of the ROI's outermost pixels; NaN for an absent ROI. Or
                what `prompts` has made of them.

        Raises:
            ValueError: the shapes do not fit.
        """
        height, width = image.shape[-2:]
        size = (height, width)
        if isinstance(boxes_px, Prompts):
            prompts = boxes_px
            if prompts.shape[0] != len(image) or prompts.size != size:
                raise ValueError(f"boxes of {prompts.shape[0]} images of {prompts.size}, got {tuple(image.shape)}")
        else:
            if image.ndim != 3 or boxes_px.ndim != 3 or boxes_px.shape[-1] != 4 or len(image) != len(boxes_px):
                raise ValueError(f"expected B H W and B R 4, got {tuple(image.shape)} and {tuple(boxes_px.shape)}")
            prompts = self.prompts(boxes_px, size, image.device)
        embedding = self._embedding(image)
        logits = embedding.new_full((*prompts.shape, *size), ABSENT_LOGIT)
        if not len(prompts.images):
            # Depends on the image and the weights, so that a backward pass works and gives zero gradients.
            return logits + 0 * embedding.sum()
        low_resolution = self._decoded(embedding[prompts.images], prompts.boxes)
        masks = interpolate(low_resolution, size=size, mode="bilinear", align_corners=False)
        logits[prompts.images, prompts.rois] = masks[:, 0]
        return logits

    def probabilities(self, image: Image, boxes_px: Boxes | Prompts | None = None) -> Masks:
        """Sigmoid of the logits, exactly 0 for an absent ROI; differentiable in the image.

        Raises:
            ValueError: there are no boxes.
        """
        if boxes_px is None:
            raise ValueError("MedSAM segments what a box surrounds, and there are no boxes")
        return self(image, boxes_px).sigmoid()

    def _embedding(self, image: Image) -> Float[Tensor, "B C h w"]:
        """`ImageEncoderViT.forward`, with optional recomputation of its blocks in the backward pass."""
        encoder = self.image_encoder
        channels = resized(scaled(image)[:, None], encoder.img_size).expand(-1, CHANNELS, -1, -1)
        with rounded_transformer(image.device):
            tokens = encoder.patch_embed(channels) + encoder.pos_embed
            for block in encoder.blocks:
                if self.architecture.recompute and torch.is_grad_enabled():
                    tokens = checkpoint(block, tokens, use_reentrant=False)
                else:
                    tokens = block(tokens)
            return encoder.neck(tokens.permute(0, 3, 1, 2)).to(image.dtype)

    def _decoded(self, embedding: Float[Tensor, "N C h w"], boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 1 I J"]:
        """Logits of N boxes on the input grid, each with the embedding of its own image, at 4x its resolution."""
        corners, no_mask = self.prompt_encoder(points=None, boxes=boxes, masks=None)
        # SAM's decoder takes the embedding of one image and a mask prompt for each box, and adds them. Here each box
        # has its own image and there is no mask prompt, so the two arguments are exchanged: the sum is the same.
        logits, _ = self.mask_decoder(
            image_embeddings=no_mask[:1].to(embedding),
            image_pe=self.prompt_encoder.get_dense_pe().to(embedding),
            sparse_prompt_embeddings=corners.to(embedding),
            dense_prompt_embeddings=embedding,
            multimask_output=False,
        )
        return logits


def build_medsam(settings: MedSamSettings) -> MedSam:
    """A network with random weights (drawn from torch's global generator) or with those of the checkpoint.

    Raises:
        ValueError: unknown variant.
        InputError: the checkpoint is missing, damaged, or belongs to another network.
    """
    if settings.variant not in ARCHITECTURES:
        raise ValueError(f"unknown MedSAM variant {settings.variant!r}; known: {', '.join(ARCHITECTURES)}")
    network = MedSam(ARCHITECTURES[settings.variant])
    if settings.checkpoint is not None:
        load_checkpoint(network, settings.checkpoint, settings.checkpoint_sha256, settings.key)
    return network


def input_boxes(boxes_px: Float[Tensor, "*N 4"], size: tuple[int, int], input_size_px: int) -> Float[Tensor, "*N 4"]:
    """Convert boxes from pixels of an image `(height, width)` to pixels of the network's input, as real numbers.

    A box holds indices of outermost pixels, and pixel i extends from edge i to edge i + 1. Scaling the edges turns the
    box of a mask into the box of the resampled mask, as in MedSAM's training. The prompt encoder itself adds half a
    pixel.
    """
    height, width = size
    scale = boxes_px.new_tensor([input_size_px / width, input_size_px / height]).repeat(2)
    far_edge = boxes_px.new_tensor([0, 0, 1, 1])
    return (boxes_px + far_edge) * scale - far_edge


def jittered(boxes_px: Float[Tensor, "*N 4"], limit_px: float, rng: np.random.Generator) -> Float[Tensor, "*N 4"]:
    """Boxes shifted randomly by up to `limit_px` along each axis (uniform), like inexact manual boxes; NaN stays NaN.

    Random numbers are drawn for absent ROIs as well, so that the shifts of the other boxes do not depend on them.
    Source: section 3.1, "up to 10 pixels of random translation noise".
    """
    shift = rng.uniform(-limit_px, limit_px, (*boxes_px.shape[:-1], 2))
    return boxes_px + torch.from_numpy(shift).to(boxes_px).tile(2)


class _PromptEncoder(PromptEncoder):
    """SAM's prompt encoder, kept in float32: it computes positions in float32 and fails with other parameters."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_PromptEncoder":
        return super()._apply(lambda tensor: fn(tensor).float(), recurse)


def _image_encoder(architecture: Architecture) -> ImageEncoderViT:
    encoder = ImageEncoderViT(
        img_size=architecture.image_size_px,
        patch_size=architecture.patch_size_px,
        embed_dim=architecture.width,
        depth=architecture.depth,
        num_heads=architecture.heads,
        out_chans=architecture.embedding,
        norm_layer=partial(nn.LayerNorm, eps=NORM_EPS),
        use_rel_pos=True,
        window_size=architecture.window,
        global_attn_indexes=architecture.global_blocks,
    )
    for block in encoder.blocks:
        block.attn = RelativeAttention(block.attn)
    return encoder


def _prompt_encoder(architecture: Architecture) -> PromptEncoder:
    size_px = architecture.image_size_px
    tokens = size_px // architecture.patch_size_px
    return _PromptEncoder(architecture.embedding, (tokens, tokens), (size_px, size_px), MASK_PROMPT_CHANNELS)


def _mask_decoder(architecture: Architecture) -> MaskDecoder:
    width = architecture.embedding
    heads, mlp_width = width // DECODER_HEAD_WIDTH, width * DECODER_MLP_RATIO
    return MaskDecoder(
        transformer_dim=width,
        transformer=TwoWayTransformer(DECODER_DEPTH, width, heads, mlp_width),
        iou_head_hidden_dim=width,
    )
