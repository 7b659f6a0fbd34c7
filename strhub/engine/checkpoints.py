"""The checkpoints of a run: the best ones and the last."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from strhub.engine.callbacks import TrainingInterruptedError


class Checkpoints(pl.callbacks.Checkpoint):
    """Keeps the best checkpoints by a validation metric and the last one, each written beside and then renamed.

    Args:
        folder: where they go.
        monitor: the metric, the higher the better.
        top_k: how many of the best to keep.
    """

    def __init__(self, folder: Path, *, monitor: str, top_k: int) -> None:
        self.folder, self.monitor, self.top_k = folder, monitor, top_k
        self.best: list[tuple[float, int, str]] = []  # (score, step, file name), the best first

    @property
    def last_path(self) -> Path:
        return self.folder / 'last.ckpt'

    @property
    def best_path(self) -> Path | None:
        """The best checkpoint, or the last one if none was judged."""
        if self.best:
            return self.folder / self.best[0][2]
        return self.last_path if self.last_path.exists() else None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == 'fit' and not trainer.sanity_checking:
            score = trainer.callback_metrics.get(self.monitor)
            self.keep(trainer, None if score is None else float(score))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer, self.last_path)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, TrainingInterruptedError):
            self.save(trainer, self.last_path)
            exception.checkpoint = self.last_path

    def keep(self, trainer: pl.Trainer, score: float | None) -> None:
        """Writes `last`, and gives it a name of its own if its score is among the best."""
        name = None
        dropped: list[tuple[float, int, str]] = []
        if score is not None and self.top_k:
            name = f'step_{trainer.global_step:06d}-acc_{score:.2f}.ckpt'
            ranked = rank([*self.best, (score, trainer.global_step, name)])
            self.best, dropped = ranked[: self.top_k], ranked[self.top_k :]
        self.save(trainer, self.last_path)
        if not trainer.is_global_zero:
            return
        if name in [kept for *_, kept in self.best]:
            link_or_copy(self.last_path, self.folder / str(name))
        for *_, old in dropped:
            if old != name:
                (self.folder / old).unlink(missing_ok=True)

    def keep_averaged(self, trainer: pl.Trainer, score: float) -> None:
        """Writes what the training was for if weights were averaged at its end: weights alone, whatever their score."""
        name = f'averaged-acc_{score:.2f}.ckpt'
        self.save(trainer, self.folder / name, weights_only=True)
        self.best = rank([*self.best, (score, trainer.global_step, name)])

    def save(self, trainer: pl.Trainer, path: Path, *, weights_only: bool = False) -> None:
        beside = path.with_suffix('.partial')
        trainer.save_checkpoint(beside, weights_only=weights_only)
        if trainer.is_global_zero:
            beside.replace(path)

    def state_dict(self) -> dict[str, Any]:
        return {'best': self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A run that goes on in another folder starts its list anew.
        self.best = [(score, step, name) for score, step, name in state_dict['best'] if (self.folder / name).exists()]


def rank(best: list[tuple[float, int, str]]) -> list[tuple[float, int, str]]:
    """The best score first; of equals the later, and averaged weights before those they came from."""
    return sorted(best, key=lambda entry: (entry[0], entry[1], entry[2].startswith('averaged')), reverse=True)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, which costs no space where the file system allows it."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
