"""PARSeq's decoder: position queries attend to the characters known so far, then to the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import Attention, KeysValues, KVCache


class DecoderLayer(nn.Module):
    """Two-stream attention (Yang et al., XLNet, NeurIPS 2019) followed by attention to the picture, norms first.

    The query stream knows where it asks, the content stream which characters stand where.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(embed_dim, num_heads, dropout=dropout)
        self.cross_attn = Attention(embed_dim, num_heads, dropout=dropout)
        self.linear1 = nn.Linear(embed_dim, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, embed_dim)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.norm_q = nn.LayerNorm(embed_dim)
        self.norm_c = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        content: Tensor,
        memory: KeysValues,
        *,
        query_hides: Tensor | None,
        content_hides: Tensor | None,
        cache: KVCache | None,
        update_content: bool,
    ) -> tuple[Tensor, Tensor]:
        normed = self.norm_c(content)
        context = self.self_attn.keys_values(normed)
        if cache is not None:
            context = cache.append(context)
        query = self._stream(query, self.norm_q(query), context, memory, hidden=query_hides)
        if update_content:
            content = self._stream(content, normed, context, memory, hidden=content_hides)
        return query, content

    def _stream(
        self, x: Tensor, normed: Tensor, context: KeysValues, memory: KeysValues, *, hidden: Tensor | None
    ) -> Tensor:
        x = x + self.dropout(self.self_attn(normed, context, hidden=hidden))
        # One picture may serve several rows, the reading orders of its word: to it they are one longer row.
        rows = self.norm1(x).reshape(len(memory[0]), -1, x.shape[-1])
        x = x + self.dropout(self.cross_attn(rows, memory).view_as(x))
        mlp = self.linear2(self.dropout(F.gelu(self.linear1(self.norm2(x)))))
        return x + self.dropout(mlp)


class Decoder(nn.Module):
    """Decoder layers and a last norm."""

    def __init__(self, embed_dim: int, num_heads: int, *, depth: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(embed_dim, num_heads, mlp_dim=mlp_dim, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim)

    def project(self, memory: Tensor) -> list[KeysValues]:
        """Keys and values of the picture (N, S, D) for each layer: the same for every query ever asked about it."""
        return [cast(DecoderLayer, layer).cross_attn.keys_values(memory) for layer in self.layers]

    def forward(
        self,
        query: Tensor,
        content: Tensor,
        memory: Sequence[KeysValues],
        *,
        query_hides: Tensor | None = None,
        content_hides: Tensor | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """Answers the queries.

        Args:
            query: (M, L, D), M a multiple of the N pictures; the rows of one picture are neighbours.
            content: (M, T, D) embedded characters; with `caches` only those not seen by an earlier call.
            memory: what `project` made of the N pictures.
            query_hides: True where a query must not see a character; (L, T) or (M, L, T).
            content_hides: the same for the content stream, (T, T) or (M, T, T); a single layer has no use for it.
            caches: one for each layer; a call sees the content of all earlier calls.

        Returns:
            (M, L, D)
        """
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            query, content = layer(
                query,
                content,
                memory[i],
                query_hides=query_hides,
                content_hides=content_hides,
                cache=caches[i] if caches is not None else None,
                update_content=i < last,
            )
        return self.norm(query)


class TokenEmbedding(nn.Module):
    """Embeddings scaled to the size of what positions add to them (Vaswani et al., NeurIPS 2017)."""

    def __init__(self, num_tokens: int, embed_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, embed_dim)
        self.scale = math.sqrt(embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.scale * self.embedding(tokens)
