"""A run that goes on with fewer processes than it began with: each does the work of several of them, in turn.

Their batches, random numbers and gradients are what they would have been, so that a step is made of the same pictures
and the learning rate keeps to its schedule.
"""

from __future__ import annotations

import logging

import lightning.pytorch as pl

from strhub.data.module import SceneTextDataModule
from strhub.engine.callbacks import Reproducible, processes
from strhub.models.base import BaseSystem

log = logging.getLogger(__name__)


def accepted(began: int) -> list[int]:
    """With how many processes a run can go on that began with so many: those numbers that divide it."""
    return [number for number in range(1, began + 1) if began % number == 0]


def take_turns(trainer: pl.Trainer, system: BaseSystem, data: SceneTextDataModule, *, began: int) -> None:
    """Has the processes of `trainer`, before it starts, do what `began` of them would do.

    Raises:
        ValueError: their number does not divide `began`.
    """
    here = processes(trainer)
    if began % here:
        numbers = ' or '.join(map(str, accepted(began)))
        raise ValueError(
            f'this run began with {began} processes and would go on with {here}: give {numbers} with trainer.devices= '
            '(launcher.num_workers= on a Ray cluster), so that a step has the same pictures, or start a new run from '
            'its weights with pretrained= in place of ckpt_path='
        )
    turns = began // here
    if turns == 1:
        return
    log.warning('going on with %d of %d processes: each takes %d batches where it took one', here, began, turns)
    trainer.accumulate_grad_batches *= turns
    limit = trainer.limit_train_batches
    if isinstance(limit, int):
        trainer.limit_train_batches = limit * turns
    elif limit < 1:
        words = -(-len(data.train_dataset) // began)  # type: ignore[arg-type]
        trainer.limit_train_batches = int(-(-words // data.batch_size) * limit) * turns
    system.turns = data.turns = turns
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Reproducible):
            callback.turns = turns
