"""Transformer parts of ABINet (Vaswani et al., NeurIPS 2017): post-norm layers and sinusoidal positions."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import Attention

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {'relu': F.relu, 'gelu': F.gelu}


class PositionalEncoding(nn.Module):
    """Adds sine and cosine of the position to tokens (N, L, D), L <= length."""

    pe: Tensor

    def __init__(self, d_model: int, length: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        # In float32 whatever the default is: the published tables hold these very roundings.
        positions = torch.arange(length, dtype=torch.float32)[:, None]
        frequencies = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float32) * (-math.log(1e4) / d_model))
        angles = positions * frequencies
        pe = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        self.register_buffer('pe', pe[:, None])  # (L, 1, D), the published shape

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.pe[: x.shape[1], 0])


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network."""

    def __init__(self, d_model: int, nhead: int, *, d_inner: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.self_attn = Attention(d_model, nhead, dropout=dropout)
        self.linear1 = nn.Linear(d_model, d_inner)
        self.linear2 = nn.Linear(d_inner, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, self.self_attn.keys_values(x))))
        inner = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return self.norm2(x + self.dropout(inner))


class DecoderLayer(nn.Module):
    """Cross-attention, then a feed-forward network; self-attention before them on request.

    Without self-attention the queries never see each other: what a position knows comes through the mask alone.
    """

    def __init__(
        self, d_model: int, nhead: int, *, d_inner: int, dropout: float, activation: str, use_self_attn: bool
    ) -> None:
        super().__init__()
        self.self_attn = None
        if use_self_attn:
            self.self_attn = Attention(d_model, nhead, dropout=dropout)
            self.norm1 = nn.LayerNorm(d_model)
        self.multihead_attn = Attention(d_model, nhead, dropout=dropout)
        self.linear1 = nn.Linear(d_model, d_inner)
        self.linear2 = nn.Linear(d_inner, d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, *, hidden: Tensor, padding: Tensor) -> Tensor:
        """x (N, L, D) reads memory (N, S, D) except where hidden (N, L, S), and itself except for padding (N, 1, L).

        Where all N are the same, one of them is enough.
        """
        if self.self_attn is not None:
            x = x.expand(memory.shape[0], -1, -1)
            x = self.norm1(x + self.dropout(self.self_attn(x, self.self_attn.keys_values(x), hidden=padding)))
        x = self.norm2(x + self.dropout(self.multihead_attn(x, self.multihead_attn.keys_values(memory), hidden=hidden)))
        inner = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return self.norm3(x + self.dropout(inner))


class Stack(nn.Module):
    """Layers one after the other; a module of its own because the published names say `<stack>.layers.<i>`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, *memory: Tensor, **masks: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, *memory, **masks)
        return x
