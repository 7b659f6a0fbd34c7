"""A resumed optimiser goes on as if nothing had been, however its weights lie in memory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from shrunk import images
from torch.utils.data import DataLoader

from strhub.models.base import BaseSystem
from strhub.models.zoo import create_model

STEPS, KILLED = 4, 2  # each is an epoch of one batch, always the same
LAYOUTS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}


class Keeper(pl.Callback):
    """Saves what a run killed after `KILLED` steps would leave."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == KILLED:
            trainer.save_checkpoint(self.path)


def run(layout: str, *callbacks: pl.Callback, resume: Path | None = None) -> BaseSystem:
    """Trains a small CRNN in float64, where layouts agree about all but the last bits."""
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    torch.manual_seed(1)
    sizes = {'charset_train': 'ab', 'charset_test': 'ab', 'img_size': [32, 64], 'batch_size': 4}
    system = create_model('crnn', width=0.125, hidden_size=8, lr=0.01, **sizes).double()
    system.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    trainer = pl.Trainer(
        accelerator='cpu',
        max_epochs=STEPS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    batch = images(4, [32, 64]).double(), ['ab', 'ba', 'a', 'bb']
    loader: DataLoader = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    trainer.fit(system, loader, ckpt_path=resume)
    assert trainer.global_step == STEPS
    return system


@pytest.fixture(scope='module', params=LAYOUTS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseSystem, Path, str]:
    """A run without interruption, the checkpoint that it left on its way, and the layout of both."""
    path = tmp_path_factory.mktemp('whole') / 'killed.ckpt'
    return run(request.param, Keeper(path)), path, request.param


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_resumed_run_ends_where_the_whole_one_does(whole: tuple[BaseSystem, Path, str], layout: str) -> None:
    expected, path, saved = whole
    convolutions = {key for key, weight in expected.state_dict().items() if weight.ndim == 4 and weight.shape[1] > 1}
    entries = torch.load(path, weights_only=True)['optimizer_states'][0]['state'].values()
    averages = [entry['exp_avg'] for entry in entries if entry['exp_avg'].ndim == 4 and entry['exp_avg'].shape[1] > 1]
    assert len(averages) == len(convolutions)
    assert all(average.is_contiguous(memory_format=LAYOUTS[saved]) for average in averages)
    resumed = run(layout, resume=path)
    torch.testing.assert_close(resumed.state_dict(), expected.state_dict(), rtol=0, atol=1e-9)
    assert resumed.trainer.optimizers[0].param_groups[0]['fused']
    for parameter, state in resumed.trainer.optimizers[0].state.items():
        assert state['exp_avg'].stride() == state['exp_avg_sq'].stride() == parameter.stride()
