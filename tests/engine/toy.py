"""A training small enough for tests: a shrunken CRNN on noise whose brightness tells the word."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from strhub.data.module import SceneTextDataModule
from strhub.models.base import BaseSystem
from strhub.models.zoo import create_model

WORDS = ['ab', 'ba', 'aab', 'bba']


class ToyDataset(Dataset):
    """Item `key` is the same wherever and whenever it is asked for."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: int) -> tuple[Tensor, str]:
        noise = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(key))
        which = key % len(WORDS)
        return noise * 0.5 + which / len(WORDS) - 0.5, WORDS[which]


class ToyData(SceneTextDataModule):
    """The project's own loaders on toy data sets."""

    def __init__(self, *, size: int = 22, batch_size: int = 4, num_workers: int = 0) -> None:
        super().__init__('', '', (32, 64), 25, 'ab', 'ab', batch_size, num_workers, False)
        self._train, self._val = ToyDataset(size), ToyDataset(8)


def toy_system(**overrides: Any) -> BaseSystem:
    """A CRNN of a few thousand parameters, with dropout so that every step draws random numbers."""
    settings = {'charset_train': 'ab', 'charset_test': 'ab', 'img_size': [32, 64], 'batch_size': 4, 'lr': 0.05}
    torch.manual_seed(0)
    system = create_model('crnn', width=0.05, hidden_size=8, **{**settings, **overrides})
    system.model = Dropped(system.model)
    return system


class Dropped(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.dropout = network, nn.Dropout(0.1)

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        return self.network(self.dropout(images), max_length)


class Recorder(pl.Callback):
    """Losses by batch, learning rates by step, and after which steps there was a validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: dict[int, float] = {}
        self.validated: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs['loss']))
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]['lr']

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.validated.append(trainer.global_step)
