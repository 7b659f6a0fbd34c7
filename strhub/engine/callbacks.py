"""What keeps a training safe: same numbers after a resume, validation in time, Ctrl-C, losses that are no numbers."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)

DEVICES = 'number of devices'  # how many processes a run began with, as its checkpoints say


class TrainingInterruptedError(Exception):
    """Training was stopped by a signal; by then the last checkpoint is written."""

    def __init__(self, signum: int) -> None:
        super().__init__(f'stopped by {signal.Signals(signum).name}')
        self.signum = signum
        self.checkpoint: Path | None = None


class TrainingFailedError(RuntimeError):
    """The training broke down; the message says why, and what is kept."""


class NonFiniteLossError(TrainingFailedError):
    """The loss is nan or inf: nothing that follows could be of use."""


class Reproducible(pl.Callback):
    """Makes a step's randomness depend on its place in the training alone, and puts a resumed run in its place.

    Every batch seeds the generators from (seed, epoch, batch, rank), so dropout and permutations are what they would
    have been in a run that was never interrupted; the data module is told how many batches to skip.

    A process that stands for several (strhub.engine.turns) does each batch as the one whose turn it is.

    Args:
        facts: what has to be the same in a resumed run, by the name of its override.
    """

    def __init__(self, seed: int, facts: dict[str, Any]) -> None:
        self.seed = seed
        self.facts = facts
        self.turns = 1
        self.buffers: list[Tensor] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.note(trainer)

    def note(self, trainer: pl.Trainer) -> None:
        """Adds to the facts what only the trainer knows."""
        self.facts[DEVICES] = processes(trainer) * self.turns
        self.facts['trainer.accumulate_grad_batches'] = trainer.accumulate_grad_batches // self.turns

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        batch_index, turn = divmod(index, self.turns)
        place = (self.seed, trainer.current_epoch, batch_index, turn * trainer.world_size + trainer.global_rank)
        seed = int(np.random.SeedSequence(place).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        # torch.manual_seed formats a stack trace for each kind of device there is, a millisecond a step
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == 'cuda':
            torch.cuda.manual_seed(seed)
        elif pl_module.device.type == 'mps':
            torch.mps.manual_seed(seed)
        # DDP keeps the first process's statistics of batch normalisation
        self.buffers = [buffer.clone() for buffer in pl_module.buffers()] if turn else []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for buffer, before in zip(pl_module.buffers(), self.buffers, strict=bool(self.buffers)):
            buffer.copy_(before)

    def state_dict(self) -> dict[str, Any]:
        return {'facts': self.facts, 'turns': self.turns}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict['facts'].items():
            if self.facts.get(name, value) != value:
                raise ValueError(
                    f'the run to resume had {name}={value} and this one has {self.facts[name]}: resume with the same, '
                    'or start a new run from its weights with pretrained= in place of ckpt_path='
                )

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if (data := getattr(trainer, 'datamodule', None)) is None or 'loops' not in checkpoint:
            return
        loops = checkpoint['loops']['fit_loop']
        before = checkpoint['callbacks'][self.state_key].get('turns', 1)
        count_anew(loops['epoch_loop.batch_progress'], before=before, now=self.turns)
        # `processed` also counts the batch whose on_train_batch_end wrote the checkpoint
        data.start_batch = loops['epoch_loop.batch_progress']['current']['processed']
        data.start_epoch = loops['epoch_progress']['current']['processed']


def processes(trainer: pl.Trainer) -> int:
    """How many train together: Lightning knows of others only once it has started them, and Ray's are no devices."""
    return max(trainer.num_devices * trainer.num_nodes, trainer.world_size)


def count_anew(progress: dict[str, Any], *, before: int, now: int) -> None:
    """Converts the progress of Lightning's loop over batches, of a checkpoint, to another number of turns."""
    for counts in (progress['total'], progress['current']):
        done = counts['processed']
        for name, count in counts.items():  # they differ by one at most, which says where it stopped
            counts[name] = done * now // before + count - done


class ValidateEvery(pl.Callback):
    """Validation after every so many optimiser steps, at the end of shorter epochs, and after the last step.

    Args:
        interval: steps if an integer, else a share of the epoch's steps.
    """

    NEVER = sys.maxsize  # Lightning validates after each `val_check_batch` batches

    def __init__(self, interval: int | float) -> None:
        if interval <= 0:
            raise ValueError(f'trainer.val_check_interval is {interval}: give steps, e.g. 1000, or a share of an epoch')
        self.interval = interval

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.plan(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.plan(trainer)

    def plan(self, trainer: pl.Trainer) -> None:
        """Tells Lightning whether to validate after the batch that has just ended."""
        accumulate = trainer.accumulate_grad_batches
        epoch_steps = -(-trainer.num_training_batches // accumulate)
        interval = self.interval
        steps = interval if isinstance(interval, int) else max(1, round(interval * epoch_steps))
        batches_done = trainer.fit_loop.batch_idx + 1
        has_stepped = batches_done % accumulate == 0 or trainer.is_last_batch
        step = trainer.global_step
        is_last_step = step >= trainer.estimated_stepping_batches
        is_due = step % steps == 0 or is_last_step or (trainer.is_last_batch and epoch_steps < steps)
        trainer.val_check_batch = 1 if step and has_stepped and is_due else self.NEVER


class StopOnSignal(pl.Callback):
    """Lets Ctrl-C and SIGTERM end the training between two steps; a second signal ends it at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    ASK_EVERY = 8  # steps, where several processes have to agree

    def __init__(self) -> None:
        self.received: int | None = None
        self.process = os.getpid()
        self.chances = 0  # steps after which training could have stopped

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # By now Lightning has noted the handlers there were, and will put them back.
        if threading.current_thread() is threading.main_thread():
            for signum in self.SIGNALS:
                signal.signal(signum, self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            # A worker of the data loader has inherited this: Ctrl-C is the training's business, SIGTERM its own.
            if signum == signal.SIGTERM:
                os._exit(128 + signum)
            return
        if self.received is not None:
            os._exit(128 + signum)
        self.received = signum
        log.warning('stopping after this step; once more to stop at once, without saving')

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_between_steps(trainer, batch_idx):
            self.chances += 1
            self.stop(trainer, is_time_to_ask=self.chances % self.ASK_EVERY == 0)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # The validation after the last step is better finished.
        if not trainer.sanity_checking and trainer.global_step < trainer.estimated_stepping_batches:
            self.stop(trainer, is_time_to_ask=False)

    def stop(self, trainer: pl.Trainer, *, is_time_to_ask: bool) -> None:
        signum = self.received
        if trainer.world_size > 1:
            # All processes have to stop at the same step, so they ask each other, seldom since asking costs time.
            if not is_time_to_ask:
                return
            signum = highest(trainer, signum or 0) or None
        if signum is not None:
            raise TrainingInterruptedError(signum)


def is_between_steps(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Where a checkpoint may lie when a batch has ended: between two optimiser steps and not between two epochs."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch


def highest(trainer: pl.Trainer, value: int) -> int:
    """The highest of the values that all processes give, who have to ask together."""
    if trainer.world_size == 1:
        return value
    return int(trainer.strategy.reduce(torch.tensor(int(value), device=trainer.strategy.root_device), reduce_op='max'))


class FiniteLoss(pl.Callback):
    """Ends the training when the loss is nan or inf, and saves the batch.

    A loss is looked at one step later, when the device has long computed it: asking at once would make it wait.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending: tuple[Tensor, torch.cuda.Event | None, Any, int] | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.look(trainer)
        is_finite = torch.isfinite(outputs['loss'].detach())
        if trainer.world_size > 1:  # the processes have to end together
            is_finite = torch.stack([is_finite, trainer.strategy.reduce(is_finite.float(), reduce_op='mean') == 1])
        event = None
        if is_finite.is_cuda:
            is_finite = is_finite.to('cpu', non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self.pending = is_finite, event, batch, trainer.global_step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.look(trainer)  # before a checkpoint is written

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.look(trainer)

    def look(self, trainer: pl.Trainer) -> None:
        if self.pending is None:
            return
        (is_finite, event, (images, labels), step), self.pending = self.pending, None
        if event is not None:
            event.synchronize()
        if is_finite.all():
            return
        path = self.folder / f'nonfinite_step_{step:06d}_rank_{trainer.global_rank}.pt'
        torch.save({'images': images.cpu(), 'labels': list(labels), 'step': step}, path)
        last = self.folder / 'checkpoints' / 'last.ckpt'
        resume = f'resume before it with ckpt_path={last} and ' if last.exists() else ''
        raise NonFiniteLossError(
            f'the loss of step {step} is nan or inf, so training stopped; its pictures and labels are in {path}: '
            f'{resume}try a lower model.lr or trainer.precision=32-true'
        )
