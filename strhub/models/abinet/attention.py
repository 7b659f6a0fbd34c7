"""How the vision model turns a feature map into one vector per character, all positions at once."""

import torch
from torch import Tensor, nn

from strhub.models.abinet.layers import PositionalEncoding

WIDTH = 64  # channels of the small U-net that makes the keys
STRIDES = ((1, 2), (2, 2), (2, 2), (2, 2))


def shrink(in_channels: int, stride: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, WIDTH, 3, stride, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)
    )


def grow(out_channels: int, size: tuple[int, int], mode: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(size, mode=mode, align_corners=None if mode == 'nearest' else True),
        nn.Conv2d(WIDTH, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class PositionAttention(nn.Module):
    """Sinusoidal positions ask; a small U-net of the feature map answers where each character is.

    Args:
        d_model: channels of the feature map.
        length: characters to find, the end included.
        size: (height, width) of the feature map.
        mode: interpolation on the way up, 'nearest' as published or 'bilinear'.
    """

    def __init__(self, d_model: int, length: int, *, size: tuple[int, int], mode: str) -> None:
        super().__init__()
        sizes = [size]
        for down_y, down_x in STRIDES:
            height, width = sizes[-1]
            sizes.append((-(-height // down_y), -(-width // down_x)))
        channels = (d_model, WIDTH, WIDTH, WIDTH)
        self.k_encoder = nn.Sequential(*(shrink(c, stride) for c, stride in zip(channels, STRIDES, strict=True)))
        outputs = zip((WIDTH, WIDTH, WIDTH, d_model), sizes[-2::-1], strict=True)
        self.k_decoder = nn.Sequential(*(grow(c, size, mode) for c, size in outputs))
        self.pos_encoder = PositionalEncoding(d_model, length)
        self.project = nn.Linear(d_model, d_model)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, H, W) -> (N, L, D)."""
        return self.weights(features) @ features.flatten(2).transpose(1, 2)

    def weights(self, features: Tensor) -> Tensor:
        """How much each of the S places has of each position, (N, L, S)."""
        skips: list[Tensor] = []
        k = features
        for down in self.k_encoder:
            k = down(k)
            skips.append(k)
        skips.pop()  # the deepest is `k` itself
        for up in self.k_decoder:
            k = up(k)
            if skips:  # none is left for the last one, whose width differs
                k = k + skips.pop()
        k = k.flatten(2)  # (N, D, S)
        q = self.project(self.pos_encoder.pe[:, 0])  # (L, D)
        scores = q @ k / q.shape[-1] ** 0.5  # (N, L, S)
        return scores.softmax(-1)


class ParallelAttention(nn.Module):
    """Learnt reading positions, mixed into one additive attention (SRN: Yu et al., CVPR 2020): the "SV" decoder."""

    def __init__(self, d_model: int, length: int, *, size: tuple[int, int]) -> None:
        super().__init__()
        self.f0_embedding = nn.Embedding(length, d_model)
        # The published names and shapes; w0 mixes the L positions into one query for each of the S tokens.
        self.w0 = nn.Linear(length, size[0] * size[1])
        self.wv = nn.Linear(d_model, d_model)
        self.we = nn.Linear(d_model, length)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, H, W) -> (N, L, D)."""
        return self.weights(features) @ features.flatten(2).transpose(1, 2)

    def weights(self, features: Tensor) -> Tensor:
        """How much each of the S places has of each position, (N, L, S)."""
        tokens = features.flatten(2).transpose(1, 2)  # (N, S, D)
        positions = self.w0(self.f0_embedding.weight.T).T  # (S, D)
        scores = self.we(torch.tanh(positions + self.wv(tokens)))  # (N, S, L)
        return scores.transpose(1, 2).softmax(-1)
