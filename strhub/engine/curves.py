"""A training to look at: curves.png in the run's folder, and what is read in some pictures, for TensorBoard."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from strhub.engine.report.markup import literal, percent
from strhub.models.base import BaseSystem

log = logging.getLogger(__name__)

PICTURE = 'curves.png'
METRICS = ('val_loss', 'val_accuracy', 'val_NED')
STATE = ('every', 'losses', 'validations', 'sum', 'count')  # kept in checkpoints
EVERY = 10  # batches whose mean loss is a point, at first
MOST_POINTS = 512  # of the loss; then two become one
SAMPLES = 8  # pictures that are shown as they are read
SHARE = 0.03  # of the time that drawing may take


class Curves(pl.Callback):
    """Keeps the points of the curves, also in checkpoints, so that a resumed run goes on with those it had.

    Losses stay on their device until a validation or a checkpoint, and the picture is drawn seldom enough.

    Args:
        folder: of the run.
        reads_whole_batches: for the samples, too: a compiled network would be compiled again for fewer pictures.
    """

    def __init__(self, folder: Path, *, reads_whole_batches: bool = False) -> None:
        self.folder = folder
        self.reads_whole_batches = reads_whole_batches
        self.every = EVERY
        self.losses: list[list[float]] = []  # step, mean loss of the batches before it
        self.validations: list[list[float]] = []  # step, METRICS
        self.pending: list[tuple[int, Tensor]] = []
        self.sum: Tensor | float = 0.0
        self.count = 0
        self.rest_until = 0.0

    # The points

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.sum = self.sum + outputs['loss'].detach() * trainer.accumulate_grad_batches  # Lightning has divided by it
        self.count += 1
        if self.count >= self.every:
            self.pending.append((trainer.global_step, torch.as_tensor(self.sum / self.count)))
            self.sum, self.count = 0.0, 0

    def settle(self) -> None:
        """Fetches what is pending from its device, all at once."""
        if self.pending:
            steps, losses = zip(*self.pending, strict=True)
            self.losses += [[step, loss] for step, loss in zip(steps, torch.stack(losses).tolist(), strict=True)]
            self.pending.clear()
        while len(self.losses) > MOST_POINTS:
            pairs = zip(self.losses[::2], self.losses[1::2], strict=False)  # one that is left over goes
            self.losses = [[later[0], (earlier[1] + later[1]) / 2] for earlier, later in pairs]
            self.every *= 2

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self.settle()
        found = trainer.callback_metrics
        if all(name in found for name in METRICS):
            self.validations.append([trainer.global_step, *(float(found[name]) for name in METRICS)])
        if time.monotonic() >= self.rest_until:
            self.draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.draw(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.draw(trainer)

    def state_dict(self) -> dict[str, Any]:
        self.settle()
        self.sum = float(self.sum)
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in STATE:  # what else a foreign checkpoint holds is not ours to set
            setattr(self, name, state_dict[name])

    def draw(self, trainer: pl.Trainer) -> None:
        """Writes the picture; where that fails, training goes on."""
        self.settle()
        if not trainer.is_global_zero or not (self.losses or self.validations):
            return
        began = time.monotonic()
        try:
            plot(self.folder / PICTURE, self.losses, self.validations)
        except ImportError:
            if not self.rest_until:
                log.info('%s needs the package matplotlib: pip install strhub[train]', PICTURE)
        except OSError as error:
            log.warning('%s cannot be written: %s', self.folder / PICTURE, error)
        ended = time.monotonic()
        self.rest_until = ended + (ended - began) / SHARE

    # Samples

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        # With weights that are spread over processes one alone cannot read.
        if boards and isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            show_samples(boards, pl_module, batch, trainer.global_step, whole=self.reads_whole_batches)


def show_samples(
    boards: Sequence[TensorBoardLogger], system: pl.LightningModule, batch: Any, step: int, *, whole: bool
) -> None:
    """Logs the first pictures of a batch, one above the other, and a table of what is read in them."""
    images, labels = batch
    if not isinstance(system, BaseSystem) or getattr(system, 'lm_only', False):  # which does not read pictures
        return
    texts, probabilities = system.read(images if whole else images[:SAMPLES])
    rows = [
        f'| {literal(label)} | {literal(text)} | {percent(float(p.prod()))} |'
        for label, text, p in zip(labels[:SAMPLES], texts, probabilities, strict=False)
    ]
    table = '\n'.join(['| label | read | confidence |', '|---|---|---|', *rows])
    pictures = torch.cat(list(images[:SAMPLES].float()), 1).add(1).div(2).clamp(0, 1).cpu()  # (3, 8 H, W)
    for board in boards:
        board.experiment.add_image('samples', pictures, step)
        board.experiment.add_text('samples', table, step)


def plot(path: Path, losses: Sequence[Sequence[float]], validations: Sequence[Sequence[float]]) -> None:
    """Draws losses and accuracy over the step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    if losses:
        left.plot(*zip(*losses, strict=True), color='#9db8d9', linewidth=1, label='training')
    steps = [point[0] for point in validations]
    for axes, column, colour, label in (
        (left, 1, '#d6604d', 'validation'),
        (right, 2, '#2166ac', 'words read right'),
        (right, 3, '#7fb2d5', '1 - normalised edit distance'),
    ):
        if steps:
            axes.plot(steps, [point[column] for point in validations], '.-', color=colour, label=label)
    if losses or validations:
        left.legend()
    values = [point[1] for point in [*losses, *validations]]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        left.set_yscale('log')
    if validations:
        best = max(validations, key=lambda point: point[2])
        right.axhline(best[2], color='#2166ac', linewidth=0.6, linestyle=':')
        right.set_title(f'best {best[2]:.2f} % at step {best[0]:.0f}', fontsize=10)
        right.legend(loc='best')
    left.set(xlabel='step', ylabel='loss')
    right.set(xlabel='step', ylabel='%', ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    partial = path.with_name(f'{path.name}.part')
    figure.savefig(partial, dpi=110, format='png')
    partial.replace(path)
