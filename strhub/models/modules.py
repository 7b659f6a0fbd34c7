"""What several networks share: attention and its cache, initial weights, checks of sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # each (N, heads, S, D / heads)


class Dropout(nn.Module):
    """As torch.nn.Dropout (Srivastava et al., JMLR 2014), whose random numbers take a processor longer than a layer.

    There 16 bits of one decide, to within 1 / 131,072 of the probability, and not 64.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f'dropout is {p}: give a probability of at least 0 and below 1')
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or x.device.type != 'cpu':
            return F.dropout(x, self.p, self.training)
        return torch.where(self.keeps(x), x / (1 - self.p), 0.0)

    def keeps(self, x: Tensor) -> Tensor:
        """Which elements of x stay, bool, on the CPU."""
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        return (bits.view(torch.int16)[: x.numel()] >= round(self.p * 2**16) - 2**15).view(x.shape)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., NeurIPS 2017) whose keys and values can be projected apart and kept.

    Parameters are named and laid out as in `torch.nn.MultiheadAttention`, which the published weights come from.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads(embed_dim, num_heads)
        self.num_heads = num_heads
        self.dropout = Dropout(dropout)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def keys_values(self, source: Tensor) -> KeysValues:
        """Projects source (N, S, D)."""
        width = source.shape[-1]
        projected = F.linear(source, self.in_proj_weight[width:], self.in_proj_bias[width:])
        keys, values = projected.chunk(2, dim=-1)
        return self._split_heads(keys), self._split_heads(values)

    def queries(self, source: Tensor) -> Tensor:
        """Projects source (…, D)."""
        width = source.shape[-1]
        return F.linear(source, self.in_proj_weight[:width], self.in_proj_bias[:width])

    def attend(self, queries: Tensor, keys_values: KeysValues, *, hidden: Tensor | None = None) -> Tensor:
        """What the queries find, before the last projection.

        Args:
            queries: (N, L, D), or (1, L, D) to ask the same of all.
            keys_values: what `keys_values` made of the (N, S, D) that is attended to.
            hidden: True where a query must not look; (L, S) or (N, L, S), or anything that broadcasts to the latter.

        Returns:
            (N, L, D)
        """
        keys, values = keys_values
        queries = self._split_heads(queries).expand(keys.shape[0], -1, -1, -1)  # not len, which a trace takes as fixed
        if hidden is not None and hidden.ndim == 3:
            hidden = hidden.unsqueeze(1)  # the same for all heads
        dropout_p = self.dropout.p if self.training else 0.0
        if dropout_p and queries.device.type == 'cpu':  # for which torch has no fused attention
            scores = queries * queries.shape[-1] ** -0.5 @ keys.transpose(-1, -2)
            weights = (scores if hidden is None else scores.masked_fill(hidden, -torch.inf)).softmax(-1)
            weights = torch.where(self.dropout.keeps(weights), weights, 0.0)
            attended = weights @ (values / (1 - dropout_p))
        else:
            attended = F.scaled_dot_product_attention(
                queries, keys, values, attn_mask=None if hidden is None else ~hidden, dropout_p=dropout_p
            )
        return attended.transpose(1, 2).flatten(2)

    def forward(self, query: Tensor, keys_values: KeysValues, *, hidden: Tensor | None = None) -> Tensor:
        """Attends from query (N, L, D), which is projected first; see `attend`."""
        return self.out_proj(self.attend(self.queries(query), keys_values, hidden=hidden))

    def weights(self, queries: Tensor, keys_values: KeysValues) -> Tensor:
        """What `attend` weighs the values by where nothing is hidden, the mean over the heads: (N, L, S)."""
        keys = keys_values[0]
        queries = self._split_heads(queries).expand(len(keys), -1, -1, -1)
        return (queries * queries.shape[-1] ** -0.5 @ keys.transpose(-1, -2)).softmax(-1).mean(1)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (N, heads, L, D / heads)


class KVCache:
    """Keys and values of the positions decoded so far: two tensors (N, heads, max_length, D / heads), made at once.

    Filled from the front, so that a step writes its own and copies nothing; where gradients are wanted, which need what
    earlier steps saw, each step copies.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.length = 0
        self._buffers: KeysValues | None = None

    def append(self, new: KeysValues) -> KeysValues:
        """Adds the keys and values of the next positions and returns all of them."""
        start, self.length = self.length, self.length + new[0].shape[2]
        if self._buffers is None:
            N, heads, _, width = new[0].shape  # noqa: N806
            shape = N, heads, self.max_length, width
            self._buffers = new[0].new_empty(shape), new[1].new_empty(shape)
        elif new[0].requires_grad:
            self._buffers = self._buffers[0].clone(), self._buffers[1].clone()
        keys, values = (buffer[:, :, : self.length] for buffer in self._buffers)
        keys[:, :, start:] = new[0]
        values[:, :, start:] = new[1]
        return keys, values

    def truncate(self, length: int) -> None:
        """Forgets what came after the first `length` positions."""
        self.length = length

    def keep(self, rows: Tensor) -> None:
        """Forgets all but these rows of the batch, indices (M,)."""
        if self._buffers is not None:
            self._buffers = self._buffers[0][rows], self._buffers[1][rows]


def word_lengths(ids: Tensor, eos_id: int) -> Tensor:
    """Positions (N,) up to the first end and with it, all L if there is none, of greedy ids (N, L)."""
    ends = ids == eos_id
    return torch.where(ends.any(-1), ends.int().argmax(-1) + 1, ends.shape[-1])


def column_cells(columns: Tensor) -> Tensor:
    """Weights (N, L, W / c + 1) of columns, whose centres are c pixels apart, as (N, L, 2 W / c) cells of equal width.

    The first and the last column are centred on the edges of the picture, which leaves half of them.
    """
    halves = columns.repeat_interleave(2, -1)[..., 1:-1]
    shares = torch.full_like(halves[:1, :1], 0.5)
    shares[..., 0] = shares[..., -1] = 1
    return halves * shares


def are_few(images: Tensor) -> bool:
    """Whether images (N, …) gain nothing by channels-last.

    It makes poolings several times faster. But a processor's convolutions lay out their weights anew in each call,
    which then takes longer, and few pictures do not make up for it.
    """
    return images.device.type == 'cpu' and images.shape[0] < 8


def init_weights(module: nn.Module) -> None:
    """Initial weights of one module, for `network.apply(init_weights)`.

    Linear and embedding weights from a truncated normal distribution with a standard deviation of 0.02, as transformers
    are trained since BERT; convolutions by He's rule (ICCV 2015); norms start as the identity.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
    elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d | nn.GroupNorm) and module.weight is not None:
        nn.init.ones_(module.weight)
    if isinstance(bias := getattr(module, 'bias', None), Tensor):
        nn.init.zeros_(bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()


def check_heads(embed_dim: int, num_heads: int) -> None:
    if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
        raise ValueError(
            f'a width of {embed_dim} cannot be split among {num_heads} heads: give a multiple of the heads'
        )


def check_patches(img_size: Sequence[int], patch_size: Sequence[int]) -> None:
    whole = len(img_size) == len(patch_size) == 2 and min(*img_size, *patch_size) > 0
    if not whole or img_size[0] % patch_size[0] or img_size[1] % patch_size[1]:
        raise ValueError(
            f'img_size {list(img_size)} cannot be cut into patches of patch_size {list(patch_size)}: '
            'give [height, width] twice, the first a multiple of the second'
        )


def check_images(images: Tensor, img_size: Sequence[int]) -> None:
    height, width = img_size
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, height, width):
        raise ValueError(
            f'expected images (N, 3, {height}, {width}), got {tuple(images.shape)}: '
            'resize them as SceneTextDataModule.get_transform(img_size) does'
        )


def check_max_length(max_length: int | None, max_label_length: int) -> int:
    """How many characters to read: `max_length` where given, never more than the network has positions for."""
    if max_length is None:
        return max_label_length
    if max_length < 0:
        raise ValueError(f'max_length is {max_length}: give at least 0, or None for {max_label_length}')
    return min(max_length, max_label_length)


class BidirectionalLSTM(nn.Module):
    """One LSTM in each direction, joined by a linear layer: (N, L, input_size) -> (N, L, output_size)."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.rnn(x)[0])
