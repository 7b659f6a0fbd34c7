"""The vision transformer that PARSeq and ViTSTR read pictures with.

Written here because the package that the published networks took it from imports hundreds of models beside it, and all
of torch's compiler: seconds before the first picture is read. Parameters are named as there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import check_heads, check_patches

EPSILON = 1e-6  # of the norms


class PatchEmbedding(nn.Module):
    def __init__(self, patch_size: tuple[int, int], embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)  # (N, S, D)


class SelfAttention(nn.Module):
    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, N, heads, S, D / heads)
        attended = F.scaled_dot_product_attention(*heads.unbind())
        return self.proj(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, embed_dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=EPSILON)
        self.attn = SelfAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=EPSILON)
        self.mlp = Mlp(embed_dim, mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """A picture is a sequence of patches (Dosovitskiy et al., ICLR 2021).

    Args:
        img_size: (height, width) of the pictures.
        patch_size: (height, width) of a patch.
        embed_dim: D.
        class_token: whether a learnt token goes before the patches.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(
        self,
        *,
        img_size: tuple[int, int],
        patch_size: tuple[int, int],
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        class_token: bool,
    ) -> None:
        check_patches(img_size, patch_size)
        check_heads(embed_dim, num_heads)
        super().__init__()
        self.grid = img_size[0] // patch_size[0], img_size[1] // patch_size[1]  # rows and columns of patches
        num_patches = self.grid[0] * self.grid[1]
        self.patch_embed = PatchEmbedding(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim)) if class_token else None
        self.pos_embed = nn.Parameter(torch.empty(1, num_patches + class_token, embed_dim))
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads, int(mlp_ratio * embed_dim)) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim, eps=EPSILON)

        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)  # its position tells it from the others

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay must spare besides biases and norms."""
        return {'pos_embed', 'cls_token'}

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (N, S, D) of images (N, 3, H, W), before the blocks; with a class token S + 1, itself first."""
        x = self.patch_embed(images)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)  # export follows a shape, not len
        return x + self.pos_embed

    def forward(self, images: Tensor) -> Tensor:
        """Tokens, as `embed` makes them, after the blocks."""
        return self.norm(self.blocks(self.embed(images)))
