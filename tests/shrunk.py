"""Models of the hub in sizes that two cores can train."""

from typing import Any

import torch
from torch import Tensor

from strhub.models.zoo import hparams

SMALL = {
    'embed_dim': 48,
    'num_heads': 3,
    'enc_num_heads': 3,
    'enc_depth': 2,
    'dec_num_heads': 3,
    'd_model': 32,
    'nhead': 2,
    'd_inner': 64,
    'v_num_layers': 1,
    'l_num_layers': 1,
    'width': 0.125,
    'hidden_size': 16,
    'output_channel': 32,
    'num_fiducial': 8,
    'batch_size': 2,
}


def small(name: str) -> dict[str, Any]:
    """Overrides that make a model of the hub small."""
    return {key: value for key, value in SMALL.items() if key in hparams(name)}


def images(count: int, img_size: list[int]) -> Tensor:
    return torch.rand(count, 3, *img_size, generator=torch.Generator().manual_seed(1)) * 2 - 1
