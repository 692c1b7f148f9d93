"""Attention of SAM's image encoder with its table of relative positions on the network's device.

`segment-anything` makes the table on the CPU in every block of every call: each of these copies makes a GPU wait.
"""

import torch
from jaxtyping import Float
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor, nn


class RelativeAttention(nn.Module):
    """Multi-head attention among the tokens of a square, with a learned bias for each distance along each axis.

    Takes over the parameters of a `segment_anything` attention, under the same names, and gives the same result.

    Args:
        original: the attention, with relative positions of a square input.
    """

    def __init__(self, original: Attention) -> None:
        super().__init__()
        self.num_heads, self.scale = original.num_heads, original.scale
        # In this order, which is that of the optimizer's parameters in checkpoints.
        self.rel_pos_h, self.rel_pos_w = original.rel_pos_h, original.rel_pos_w
        self.qkv, self.proj = original.qkv, original.proj
        place = torch.arange((len(original.rel_pos_h) + 1) // 2)
        # Entry (i, j): row of `rel_pos_h` for a query at i and a key at j.
        self.register_buffer("distance", place[:, None] - place + len(place) - 1, persistent=False)

    def forward(self, tokens: Float[Tensor, "B N N C"]) -> Float[Tensor, "B N N C"]:
        """Tokens after attention; N is that of the original's input."""
        images, side, _, width = tokens.shape
        parts = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1))
        # Each `(images * heads, side * side, channels of a head)`.
        query, key, value = parts.permute(3, 0, 4, 1, 2, 5).flatten(3, 4).flatten(1, 2).unbind(0)
        by_place = query.unflatten(1, (side, side))
        down = torch.einsum("nyxc,yjc->nyxj", by_place, self.rel_pos_h[self.distance])
        across = torch.einsum("nyxc,xjc->nyxj", by_place, self.rel_pos_w[self.distance])
        scores = (query * self.scale) @ key.transpose(-2, -1)
        scores = scores.unflatten(2, (side, side)).unflatten(1, (side, side))
        scores = (scores + down[..., None] + across[..., None, :]).flatten(3).flatten(1, 2)
        found = (scores.softmax(-1) @ value).unflatten(0, (images, self.num_heads))
        return self.proj(found.transpose(1, 2).reshape(images, side, side, width))
