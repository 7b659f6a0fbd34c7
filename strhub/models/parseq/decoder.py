"""PARSeq's decoder: position queries attend to the characters known so far, then to the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import Attention, Dropout, KeysValues, KVCache


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
        self.dropout = Dropout(dropout)

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
        asked: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        normed = self.norm_c(content)
        context = self.self_attn.keys_values(normed)
        if cache is not None:
            context = cache.append(context)
        query = self._stream(query, self.norm_q(query), context, memory, hidden=query_hides, asked=asked)
        if update_content:
            content = self._stream(content, normed, context, memory, hidden=content_hides, asked=None)
        return query, content

    def _stream(
        self,
        x: Tensor,
        normed: Tensor,
        context: KeysValues,
        memory: KeysValues,
        *,
        hidden: Tensor | None,
        asked: Tensor | None,
    ) -> Tensor:
        num_rows, num_pictures = context[0].shape[0], memory[0].shape[0]  # not len, which a trace takes as fixed
        _, L, D = normed.shape  # noqa: N806
        queries = self.self_attn.queries(normed)
        if hidden is not None and hidden.ndim == 3 and (num_orders := hidden.shape[0] // num_rows) > 1:
            # Reading orders differ in what they hide alone: to the word they are one longer row of the same queries,
            queries, x = queries.repeat(1, num_orders, 1), x.repeat(1, num_orders, 1)
            hidden = hidden.reshape(num_rows, num_orders * L, -1)
        found = self.self_attn.attend(queries, context, hidden=hidden)
        x = x.expand_as(found).reshape(num_pictures, -1, D)  # and so they are to the picture
        found = found.reshape(x.shape)
        whole = x.shape
        if asked is not None:
            x, found = x.reshape(-1, D)[asked], found.view(-1, D)[asked]
        x = x + self.dropout(self.self_attn.out_proj(found))
        queries = self.cross_attn.queries(self.norm1(x))
        if asked is not None:
            queries = queries.new_zeros(whole).view(-1, D).index_copy(0, asked, queries).view(whole)
        found = self.cross_attn.attend(queries, memory)
        if asked is not None:
            found = found.view(-1, D)[asked]
        x = x + self.dropout(self.cross_attn.out_proj(found))
        x = x + self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(self.norm2(x))))))
        return x if asked is not None else x.view(-1, L, D)

    def weights(self, query: Tensor, content: Tensor, memory: KeysValues, *, query_hides: Tensor | None) -> Tensor:
        """How `forward`, without a cache, has the queries look at the picture: (N, L, S), the mean over the heads."""
        context = self.self_attn.keys_values(self.norm_c(content))
        query = query + self.self_attn(self.norm_q(query), context, hidden=query_hides)
        return self.cross_attn.weights(self.cross_attn.queries(self.norm1(query)), memory)


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
        asked: Tensor | None = None,
    ) -> Tensor:
        """Answers the queries.

        Args:
            query: (N, L, D) for N pictures, or (1, L, D) to ask the same of all.
            content: (N, T, D) embedded characters; with `caches` only those not seen by an earlier call.
            memory: what `project` made of the pictures.
            query_hides: True where a query must not see a character; (L, T), or (M, L, T) for M = N * K rows, the K
                reading orders of one picture being neighbours.
            content_hides: the same for the content stream, (T, T) or (M, T, T); a single layer has no use for it.
            caches: one for each layer; a call sees the content of all earlier calls.
            asked: indices (R,) into the M * L answers, of those that are wanted.

        Returns:
            (M, L, D), or (R, D) of those that are `asked`
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
                asked=asked if i == last else None,
            )
        return self.norm(query)

    def weights(
        self,
        query: Tensor,
        content: Tensor,
        memory: Sequence[KeysValues],
        *,
        query_hides: Tensor | None,
        content_hides: Tensor | None,
    ) -> Tensor:
        """How the queries of `forward` look at the picture in the last layer: (N, L, S), the mean over the heads."""
        *layers, last = (cast(DecoderLayer, layer) for layer in self.layers)
        hides = {'query_hides': query_hides, 'content_hides': content_hides}
        for layer, known in zip(layers, memory, strict=False):
            query, content = layer(query, content, known, **hides, cache=None, update_content=True, asked=None)
        return last.weights(query, content, memory[-1], query_hides=query_hides)


class TokenEmbedding(nn.Module):
    """Embeddings scaled to the size of what positions add to them (Vaswani et al., NeurIPS 2017)."""

    def __init__(self, num_tokens: int, embed_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, embed_dim)
        self.scale = math.sqrt(embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.scale * self.embedding(tokens)
