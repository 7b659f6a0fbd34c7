"""Averages of the weights along a training: SWA (Izmailov et al., UAI 2018) and EMA (Polyak and Juditsky, 1992)."""

from __future__ import annotations

import logging
import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from strhub.data.module import SceneTextDataModule
from strhub.models.base import BaseSystem

log = logging.getLogger(__name__)


def weights_of(system: pl.LightningModule) -> dict[str, Tensor]:
    """What is averaged: parameters and floating buffers by name. Writing into these tensors changes the system."""
    return {name: tensor for name, tensor in system.state_dict().items() if tensor.is_floating_point()}


class WeightAverage(pl.Callback):
    """What both kinds share: the average, its place in the checkpoint, and putting it into the system."""

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}
        self.count = 0
        self.last_step = 0  # nothing is learnt before the first step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # the average comes out of a checkpoint on the CPU
        self.average = {name: tensor.to(pl_module.device) for name, tensor in self.average.items()}

    def add(self, system: pl.LightningModule, step: int, *, decay: float | None = None) -> None:
        """Takes the weights after `step` into the average; without a decay each weighs the same."""
        weights = weights_of(system)
        if self.count == 0:
            self.average = {name: tensor.detach().clone() for name, tensor in weights.items()}
        else:
            average_in_place = get_swa_multi_avg_fn() if decay is None else get_ema_multi_avg_fn(decay)
            current = [weights[name] for name in self.average]
            average_in_place(list(self.average.values()), current, self.count)
        self.count += 1
        self.last_step = step

    @torch.no_grad()
    def exchange(self, system: pl.LightningModule) -> None:
        """Puts the average into the system and the system's weights where the average was."""
        weights = weights_of(system)
        for name, average in self.average.items():
            current = weights[name].clone()
            weights[name].copy_(average)
            average.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        return {'average': self.average, 'count': self.count, 'last_step': self.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.count = state_dict['average'], state_dict['count']
        self.last_step = state_dict['last_step']


class SWA(WeightAverage):
    """Stochastic weight averaging over the end of the training.

    From `start` on the learning rate stays what the schedule made it, and `snapshots` of the weights, evenly spaced up
    to the last step, are averaged: with 20 epochs, a start of 0.75 and 6 snapshots these are the ends of the last six
    epochs. When training ends the average becomes the system's weights, and the statistics of batch normalisation are
    taken anew.

    Args:
        start: share of the training after which averaging begins.
        snapshots: how many sets of weights are averaged.
        bn_batches: batches for the statistics of batch normalisation.
    """

    def __init__(self, *, start: float, snapshots: int, bn_batches: int) -> None:
        if not 0 < start < 1:
            raise ValueError(f'averaging.start is {start}: give a share of the training between 0 and 1, e.g. 0.75')
        if snapshots < 2:
            raise ValueError(f'averaging.snapshots is {snapshots}: an average needs at least 2')
        super().__init__()
        self.start, self.snapshots, self.bn_batches = start, snapshots, bn_batches
        self.first_step = 0
        self.steps: frozenset[int] = frozenset()
        self.learning_rates: list[float] = []
        self.is_applied = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        total = trainer.estimated_stepping_batches
        if math.isinf(total):
            raise ValueError('averaging=swa needs to know when training ends: set trainer.max_epochs or max_steps')
        self.first_step = math.ceil(self.start * total)
        spacing = (total - self.first_step) / (self.snapshots - 1)
        self.steps = frozenset(round(self.first_step + i * spacing) for i in range(self.snapshots))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step < self.first_step:
            return
        groups = trainer.optimizers[0].param_groups
        if not self.learning_rates:
            self.learning_rates = [group['lr'] for group in groups]
        # The schedule goes on counting; what it would set for the next step is put back.
        for group, lr in zip(groups, self.learning_rates, strict=True):
            group['lr'] = lr
        if step in self.steps and step != self.last_step:
            self.add(pl_module, step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: BaseSystem) -> None:  # type: ignore[override]
        self.apply(trainer, pl_module)

    def apply(self, trainer: pl.Trainer, system: BaseSystem) -> None:
        """Makes the average the system's weights, unless there is none."""
        if self.count < 2:
            return
        self.exchange(system)
        if self.bn_batches and any(isinstance(module, BatchNorm) for module in system.modules()):
            renew_batch_norm(trainer, system, batches=self.bn_batches)
        log.info('averaged %d sets of weights', self.count)
        self.average, self.count, self.is_applied = {}, 0, True

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), 'learning_rates': self.learning_rates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.learning_rates = state_dict['learning_rates']


class EMA(WeightAverage):
    """Exponential moving average of the weights; validation and checkpoints use it in place of the weights.

    Args:
        decay: share of the old average that each step keeps; lower in the beginning, when the average is young.
    """

    def __init__(self, *, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f'averaging.decay is {decay}: give a share between 0 and 1, e.g. 0.9998')
        super().__init__()
        self.decay = decay
        self.is_exchanged = False
        self.trained: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # A checkpoint's own weights are the average; training goes on with the others.
        with torch.no_grad():
            weights = weights_of(pl_module)
            for name, tensor in self.trained.items():
                weights[name].copy_(tensor)
        self.trained = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step != self.last_step:
            decay = min(self.decay, (1 + self.count) / (10 + self.count))
            self.add(pl_module, trainer.global_step, decay=decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.count and not trainer.sanity_checking:
            self.exchange(pl_module)
            self.is_exchanged = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_exchanged:
            self.exchange(pl_module)
            self.is_exchanged = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.count:
            self.exchange(pl_module)
            self.average, self.count = {}, 0  # the system has it

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.count:
            weights = checkpoint['state_dict']
            checkpoint['trained_weights'] = {name: weights[name] for name in self.average}
            checkpoint['state_dict'] = {**weights, **self.average}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.trained = checkpoint.get('trained_weights', {})


@torch.no_grad()
def renew_batch_norm(trainer: pl.Trainer, system: BaseSystem, *, batches: int) -> None:
    """Takes the running statistics of batch normalisation anew, as plain means over `batches` training batches."""
    layers = [module for module in system.modules() if isinstance(module, BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
    was_training = system.training
    system.train()
    # The same batches and the same dropout, whether the run was resumed or not.
    data: SceneTextDataModule = trainer.datamodule  # type: ignore[attr-defined]
    data.start_epoch, data.start_batch = None, 0
    torch.manual_seed(0)
    for index, batch in enumerate(data.train_dataloader()):
        if index == batches * data.turns:
            break
        images, labels = trainer.strategy.batch_to_device(batch, system.device)
        with trainer.precision_plugin.forward_context():
            system.forward_logits_loss(images, labels)
    system.train(was_training)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        for statistic in (layer.running_mean, layer.running_var):
            if statistic is not None and trainer.world_size > 1:
                statistic.copy_(trainer.strategy.reduce(statistic, reduce_op='mean'))


def weight_average(averaging: dict[str, Any]) -> WeightAverage | None:
    """The callback of a configuration's `averaging` section."""
    kind, numbers = averaging['kind'], {key: value for key, value in averaging.items() if key != 'kind'}
    if kind == 'none':
        return None
    kinds = {'swa': SWA, 'ema': EMA}
    if kind not in kinds:
        raise ValueError(f'averaging.kind is {kind!r}: choose averaging=swa, ema or none')
    try:
        return kinds[kind](**numbers)
    except TypeError:
        raise ValueError(f'averaging={kind} does not take {", ".join(numbers)}: see configs/averaging') from None
