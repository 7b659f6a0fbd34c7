"""What a user sees of a running training: a bar on a terminal, a line now and then in a file."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from tqdm import tqdm

TERMINAL_SECONDS, FILE_SECONDS = 0.5, 30.0


class Progress(pl.callbacks.ProgressBar):
    """Step, loss, learning rate, pictures a second, time to go; and a line for every validation.

    Numbers are fetched from the device only when they are shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_terminal = sys.stderr.isatty()
        self.is_on = True
        self.bar: tqdm | None = None
        self.total = 0
        self.images = self.first_step = 0
        self.began = self.shown = self.validation_began = 0.0

    def disable(self) -> None:
        """Called by Lightning on all processes but the first."""
        self.is_on = False

    def enable(self) -> None:
        self.is_on = True

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.is_on:
            tqdm.write(text, file=sys.stderr)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = trainer.estimated_stepping_batches
        self.total = int(total) if total != float('inf') else 0
        self.first_step = trainer.global_step
        self.images, self.began, self.shown = 0, time.monotonic(), 0.0
        if self.is_on and self.is_terminal:
            layout = '{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} {elapsed}<{remaining} {postfix}'
            self.bar = tqdm(
                total=self.total or None,
                initial=self.first_step,
                bar_format=layout if self.total else None,
                dynamic_ncols=True,
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch[1]) * trainer.world_size
        now = time.monotonic()
        if now - self.shown >= (TERMINAL_SECONDS if self.is_terminal else FILE_SECONDS):
            self.show(trainer, outputs)
            self.shown = now

    def show(self, trainer: pl.Trainer, outputs: Any) -> None:
        if not self.is_on:
            return
        step, seconds = trainer.global_step, time.monotonic() - self.began
        text = f'loss {float(outputs["loss"]):.4f}, lr {trainer.optimizers[0].param_groups[0]["lr"]:.2e}, '
        text += f'{self.images / max(seconds, 1e-9):.0f} pictures/s'
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        if self.total and step > self.first_step:
            left = seconds / (step - self.first_step) * (self.total - step)
            text += f', {timedelta(seconds=round(left))} to go'
        self.say(f'step {step}/{self.total or "?"}, epoch {trainer.current_epoch + 1}: {text}')

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation_began = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began += time.monotonic() - self.validation_began  # the rate is that of training
        metrics = trainer.callback_metrics
        if trainer.sanity_checking or 'val_accuracy' not in metrics:
            return
        accuracy, ned, loss = (float(metrics[name]) for name in ('val_accuracy', 'val_NED', 'val_loss'))
        self.say(f'step {trainer.global_step}: val_accuracy {accuracy:.2f}, val_NED {ned:.2f}, val_loss {loss:.4f}')

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
