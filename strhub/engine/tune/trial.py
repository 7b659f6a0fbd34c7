"""One trial: a training by `fit`, whose validations are reported to Ray Tune with a checkpoint."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig, OmegaConf
from ray import tune

from strhub.engine.callbacks import NonFiniteLossError
from strhub.engine.checkpoints import LAST, alone, newest_whole
from strhub.engine.devices import divide_cores
from strhub.engine.tune import records
from strhub.engine.tune.options import Options
from strhub.engine.tune.workers import fit_over, leave_slurm

# What a trial is worth that broke down: Optuna has to learn that this corner is bad.
WORTHLESS = {'val_accuracy': 0.0, 'val_NED': 0.0, 'val_loss': 1e6, 'step': 0}


class Report(pl.callbacks.Checkpoint):
    """Tells Ray of every validation, with the last checkpoint.

    A Checkpoint, since Lightning calls those after all other callbacks: by then `fit` has written the file. The search
    looks at the best value so far, as the user will who takes the best checkpoint.

    Args:
        folder: of the trial.
        checkpoint: the file that `fit` writes at each validation.
    """

    def __init__(self, folder: Path, checkpoint: Path, metric: str) -> None:
        self.folder, self.checkpoint, self.metric = folder, checkpoint, metric

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        numbers = {name: float(trainer.callback_metrics[name]) for name in records.METRICS}
        if not all(map(math.isfinite, numbers.values())):  # the step before has ruined the weights
            raise NonFiniteLossError(f'the validation after step {trainer.global_step} gives nan or inf')
        if not trainer.is_global_zero:
            return
        total = trainer.estimated_stepping_batches
        report: dict[str, Any] = {**numbers, 'step': trainer.global_step, 'steps': total}
        records.append_report(self.folder, report)
        send(self.folder, report, self.metric, self.checkpoint)


def send(folder: Path, report: Mapping[str, Any], metric: str, checkpoint: Path | None = None) -> None:
    """Reports to Ray; what it does with the trial then is its affair."""
    best = records.best_of([*records.read_reports(folder), dict(report)], metric)
    assert best is not None
    content = {**report, 'score': best[metric]}
    if checkpoint is None or not checkpoint.exists():
        tune.report(content)
        return
    with alone(checkpoint) as staging:
        tune.report(content, checkpoint=tune.Checkpoint.from_directory(str(staging)))


def train_trial(params: dict[str, Any], *, settings: dict[str, Any], folder: Path, cwd: Path, options: Options) -> None:
    """What a worker of Ray runs.

    Args:
        params: key of the configuration -> value to try.
        settings: the configuration of ./train.py, unresolved.
        folder: of the search.
        cwd: what paths in the configuration are relative to.
        options: of the search.
    """
    os.chdir(cwd)
    leave_slurm()
    metric = options.metric
    logging.getLogger('strhub').setLevel(logging.WARNING)
    own = folder / tune.get_context().get_trial_id()
    own.mkdir(parents=True, exist_ok=True)
    records.write_params(own, params)
    if records.why_ended(own) == records.DIVERGED:
        give_up(own, metric)
        return
    run_dir = own / 'run'
    before = records.read_reports(own)
    if before:  # the search was killed; its last word may have been lost
        send(own, before[-1], metric, run_dir / 'checkpoints' / LAST)
    if records.why_ended(own) is not None:
        return
    config = configured(settings, params, options)
    config.ckpt_path = where_to_go_on(run_dir)
    if config.ckpt_path is not None:
        config.pretrained = None
    report = Report(own, run_dir / 'checkpoints' / LAST, metric)
    try:
        fit_over(options.workers, config, run_dir, [report])
        records.end(own, records.FINISHED)
    except NonFiniteLossError:
        give_up(own, metric)


def give_up(folder: Path, metric: str) -> None:
    """Notes that the loss became nan or inf, and lets the search know that this is worth nothing."""
    records.end(folder, records.DIVERGED)
    last = [WORTHLESS, *records.read_reports(folder)][-1]
    tune.report({**last, 'score': WORTHLESS[metric], 'failed': True})


def where_to_go_on(run_dir: Path) -> str | None:
    """The trial's last checkpoint: its own file, which a kill cannot make older than Ray's copy, or else that copy."""
    if (own := newest_whole(run_dir)) is not None:
        return str(own)
    checkpoint = tune.get_checkpoint()
    if checkpoint is None or not Path(checkpoint.path, LAST).exists():
        return None
    return str(Path(checkpoint.path, LAST))


def configured(settings: dict[str, Any], params: Mapping[str, Any], options: Options) -> DictConfig:
    """The configuration of one trial, whose processes have their share of its cores and not the whole machine."""
    config = OmegaConf.create(settings)
    for key, value in params.items():
        OmegaConf.update(config, key, value)
    config.trainer.enable_progress_bar = False
    if not options.gpus and torch.cuda.is_available():
        config.trainer.accelerator = 'cpu'
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    config.data.num_workers, config.threads = divide_cores(resolved, max(1, int(options.bundle['CPU'])))
    return config
