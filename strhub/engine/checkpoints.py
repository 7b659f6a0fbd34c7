"""The checkpoints of a run: the best ones, the last, and the one before; and which of them are whole."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from strhub.engine.callbacks import TrainingFailedError, TrainingInterruptedError, highest, is_between_steps
from strhub.engine.errors import sentence

log = logging.getLogger(__name__)

LAST, PREVIOUS = 'last.ckpt', 'previous.ckpt'


class Checkpoints(pl.callbacks.Checkpoint):
    """Keeps the best checkpoints by a validation metric and the last one, each written beside and then renamed.

    Args:
        folder: where they go.
        monitor: the metric, the higher the better.
        top_k: how many of the best to keep.
        minutes: the last one is written after so many, too, if no validation comes first; None leaves that out.
    """

    ASK_EVERY = 16  # steps, where several processes have to agree

    def __init__(self, folder: Path, *, monitor: str, top_k: int, minutes: float | None = None) -> None:
        self.folder, self.monitor, self.top_k, self.minutes = folder, monitor, top_k, minutes
        self.saved_at = time.monotonic()
        self.has_ended = False
        self.best: list[tuple[float, int, str]] = []  # (score, step, file name), the best first

    @property
    def last_path(self) -> Path:
        return self.folder / LAST

    @property
    def best_path(self) -> Path | None:
        """The best checkpoint, or the last one if none was judged."""
        if self.best:
            return self.folder / self.best[0][2]
        return self.last_path if self.last_path.exists() else None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.minutes is None or not is_between_steps(trainer, batch_idx):
            return
        if trainer.world_size > 1 and trainer.global_step % self.ASK_EVERY:
            return
        is_due = highest(trainer, time.monotonic() - self.saved_at >= 60 * self.minutes)
        if is_due and trainer.strategy.reduce(torch.isfinite(outputs['loss']).float(), reduce_op='mean') == 1:
            self.save(trainer, self.last_path)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == 'fit' and not trainer.sanity_checking:
            score = trainer.callback_metrics.get(self.monitor)
            self.keep(trainer, None if score is None else float(score))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.has_ended = True
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
        """Writes beside, to the disk itself, then renames: whenever the machine stops, the file at `path` is whole."""
        beside = path.with_suffix('.partial')
        try:
            trainer.save_checkpoint(beside, weights_only=weights_only)
            if trainer.is_global_zero:
                flush(beside)
                if path == self.last_path and path.exists():
                    path.replace(self.folder / PREVIOUS)
                beside.replace(path)
                flush(path.parent)
        except OSError as error:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise TrainingFailedError(f'the checkpoint of step {trainer.global_step}: {sentence(error)}') from error
        self.saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {'best': self.best, 'has_ended': self.has_ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A run that goes on in another folder starts its list anew.
        self.best = [(score, step, name) for score, step, name in state_dict['best'] if (self.folder / name).exists()]


def flush(path: Path) -> None:
    """Has the system write a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == 'nt':
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def by_age(run: Path) -> Iterator[Path]:
    """The checkpoints of a run's folder, the newest first."""
    folder = run / 'checkpoints' if (run / 'checkpoints').is_dir() else run
    files = [path for path in folder.glob('*.ckpt') if not path.name.startswith('averaged')]  # weights alone
    # last.ckpt may be one file with the best checkpoint: the same age, but more to the point
    yield from sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name == LAST), reverse=True)


def newest_whole(run: Path) -> Path | None:
    """The newest checkpoint of a run that can be read to its end; says which newer ones cannot."""
    for path in by_age(run):
        if is_whole(path):
            return path
        log.warning('%s is damaged, so an older checkpoint is taken', path)
    return None


def is_whole(path: Path) -> bool:
    """Whether a file that torch.save wrote has all its bytes, by their checksums."""
    stat = path.stat()
    return _is_whole(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _is_whole(path: Path, size: int, changed: int) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return False


def has_ended(path: Path) -> bool:
    """Whether the training of a checkpoint is over."""
    content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
    state = content.get('callbacks', {}).get(Checkpoints.__name__, {})
    return bool(state.get('has_ended'))


def rank(best: list[tuple[float, int, str]]) -> list[tuple[float, int, str]]:
    """The best score first; of equals the later, and averaged weights before those they came from."""
    return sorted(best, key=lambda entry: (entry[0], entry[1], entry[2].startswith('averaged')), reverse=True)


@contextmanager
def alone(checkpoint: Path) -> Iterator[Path]:
    """A folder for a while with nothing in it but the checkpoint, as last.ckpt: what Ray takes."""
    with tempfile.TemporaryDirectory() as folder:
        link_or_copy(checkpoint, Path(folder, LAST))
        yield Path(folder)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, which costs no space where the file system allows it."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
