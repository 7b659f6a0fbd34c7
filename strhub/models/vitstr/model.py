"""The ViTSTR network: a vision transformer whose first tokens are the characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import check_heads, check_images, check_max_length, check_patches
from strhub.models.vit import Block, VisionTransformer


class ViTSTR(VisionTransformer):
    """Vision transformer for fast and efficient scene text recognition (Atienza, ICDAR 2021).

    It is a vision transformer, and its parameters are named like one, because the published weights are.

    Args:
        num_classes: C: [E] and the characters.
        max_label_length: characters of the longest word.
        img_size: (height, width) of the pictures.
        patch_size: (height, width) of a patch; each gives one token.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(
        self,
        num_classes: int,
        max_label_length: int,
        *,
        img_size: Sequence[int] = (32, 128),
        patch_size: Sequence[int] = (4, 8),
        embed_dim: int = 384,
        num_heads: int = 6,
    ) -> None:
        check_patches(img_size, patch_size)
        check_heads(embed_dim, num_heads)
        num_patches = (img_size[0] // patch_size[0]) * (img_size[1] // patch_size[1])
        if num_patches < max_label_length + 1:
            raise ValueError(
                f'max_label_length is {max_label_length}, but img_size {list(img_size)} and patch_size '
                f'{list(patch_size)} give {num_patches} patches, and each character and the end needs one: '
                'give smaller patches or a larger picture'
            )
        super().__init__(
            img_size=(img_size[0], img_size[1]),
            patch_size=(patch_size[0], patch_size[1]),
            embed_dim=embed_dim,
            depth=12,
            num_heads=num_heads,
            mlp_ratio=4,
            class_token=True,
        )
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.img_size = (img_size[0], img_size[1])
        self.max_label_length = max_label_length

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Logits (N, L + 1, C) of images (N, 3, H, W) in [-1, 1]; L = `max_length`, by default the longest word's."""
        check_images(images, self.img_size)
        num_positions = check_max_length(max_length, self.max_label_length) + 1
        tokens = self.embed(images)
        *blocks, last = self.blocks
        for block in blocks:
            tokens = block(tokens)
        # The class token stands where other models have [B]: nothing is predicted there.
        return self.head(self.norm(some_tokens(cast(Block, last), tokens, slice(1, num_positions + 1))))

    def attention(self, images: Tensor, ids: Tensor) -> Tensor:
        """Where the last block looks to make each character of ids (N, L), which only say how many there are.

        There is no decoder: a character is a token of the encoder. What it is given by the class token, which stands
        nowhere, is left out.

        Returns:
            (N, L, h, w): of each character a map over the patches that adds up to 1, the mean over the heads.
        """
        check_images(images, self.img_size)
        *blocks, last = self.blocks
        tokens = self.embed(images)
        for block in blocks:
            tokens = block(tokens)
        block = cast(Block, last)
        queries, keys, _ = block.attn.qkv(block.norm1(tokens)).unflatten(-1, (3, block.attn.num_heads, -1)).unbind(2)
        queries, keys = queries[:, 1 : ids.shape[1] + 1].transpose(1, 2), keys[:, 1:].transpose(1, 2)
        scores = queries * queries.shape[-1] ** -0.5 @ keys.transpose(-1, -2)
        return scores.softmax(-1).mean(1).unflatten(-1, self.grid)


def some_tokens(block: Block, tokens: Tensor, wanted: slice) -> Tensor:
    """What a block makes of the wanted ones among tokens (N, S, D); for the last block, whose others nobody reads."""
    x = block.norm1(tokens)
    attention, width = block.attn, tokens.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    queries = F.linear(x[:, wanted], weight[:width], bias[:width]).unflatten(-1, (attention.num_heads, -1))
    keys, values = F.linear(x, weight[width:], bias[width:]).unflatten(-1, (2, attention.num_heads, -1)).unbind(2)
    attended = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (queries, keys, values)))
    x = tokens[:, wanted] + attention.proj(attended.transpose(1, 2).flatten(2))
    return x + block.mlp(block.norm2(x))
