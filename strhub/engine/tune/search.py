"""The search itself: Ray's Tuner with Optuna, its stopping rules, and lines that tell of it."""

from __future__ import annotations

import json
import logging
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from strhub.cores import cores
from strhub.engine.results import write
from strhub.engine.tune import records
from strhub.engine.tune.options import Options
from strhub.engine.tune.space import Dimension, spell, spread
from strhub.engine.tune.stopping import StopBelowMedian, StopStale
from strhub.engine.tune.trial import train_trial

ENVIRONMENT = {  # of Ray, read while it starts; what the user has set stays
    'TUNE_GLOBAL_CHECKPOINT_S': '2',  # seconds between two notes of how the search stands: what a kill can lose
    'TUNE_DISABLE_AUTO_CALLBACK_LOGGERS': '1',  # each trial has the logs of its training
    'TUNE_MAX_PENDING_TRIALS_PG': '1',  # the next trial is thought of when there is room for it, knowing all before
    'RAY_AIR_NEW_OUTPUT': '0',  # the other one heeds no verbosity
    'RAY_CHDIR_TO_TRIAL_DIR': '0',
    'RAY_USAGE_STATS_ENABLED': '0',
    'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0',
    'RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS': '0',
}
OBJECT_STORE = 100 * 2**20  # bytes; nothing large goes between the processes
QUIET = 'ray', 'ray.tune', 'ray.train', 'optuna'


class Tell(tune.Callback):
    """A line for each report and each end of a trial."""

    def __init__(self, folder: Path, metric: str) -> None:
        self.folder, self.metric = folder, metric

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        values = ', '.join(f'{key}={spell(value)}' for key, value in trial.config.items())
        print(f'trial {records.number_of(self.folder, trial.trial_id)} starts: {values}', flush=True)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get('failed'):  # these are not its own numbers
            return
        numbers = ', '.join(f'{name} {result[name]:.4g}' for name in records.METRICS)
        number = records.number_of(self.folder, trial.trial_id)
        print(f'trial {number}, step {result["step"]}/{result.get("steps", "?")}: {numbers}', flush=True)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        own = self.folder / trial.trial_id
        best = records.best_of(records.read_reports(own), self.metric)
        score = '' if best is None else f', best {self.metric} {best[self.metric]:.4g}'
        reason = records.why_ended(own) or records.UNFINISHED
        print(f'trial {records.number_of(self.folder, trial.trial_id)} ended: {reason}{score}', flush=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        print(f'trial {records.number_of(self.folder, trial.trial_id)} failed', flush=True)


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as Optuna has it."""
    if dimension.form == 'choice':
        return CategoricalDistribution(dimension.options)
    if dimension.form == 'randint':
        return IntDistribution(int(dimension.low), int(dimension.high))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.form == 'loguniform')


def searcher(options: Options) -> OptunaSearch:
    """Points spread evenly, then what Optuna's TPE thinks of."""
    points = spread(options.space, options.initial_points, options.seed)
    # TPE draws ten points at random before it thinks; ours are better than random
    sampler = optuna.samplers.TPESampler(n_startup_trials=max(1, options.initial_points), seed=options.seed)
    return OptunaSearch(
        {dimension.key: distribution(dimension) for dimension in options.space},
        metric='score',
        mode=records.METRICS[options.metric],
        points_to_evaluate=points,
        sampler=sampler,
    )


def start_ray() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a failed trial's traceback is in its error.txt
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shared: dict[str, Any] = {'logging_level': logging.ERROR, 'log_to_driver': False, 'ignore_reinit_error': True}
    if 'RAY_ADDRESS' in os.environ:  # a cluster that is there
        ray.init(**shared)
    else:
        # 'local', since without an address Ray joins whatever cluster anybody has started on this machine
        ray.init('local', num_cpus=cores(), include_dashboard=False, object_store_memory=OBJECT_STORE, **shared)


def search(folder: Path, settings: dict[str, Any], options: Options, *, grace: int, resumes: bool) -> dict[str, str]:
    """Runs trials until there are as many as asked for, or until Ctrl-C.

    Args:
        folder: of the search, absolute.
        settings: the configuration of ./train.py that trials change.
        grace: optimiser steps before which no trial is ended.
        resumes: whether to go on with what is in the folder.

    Returns:
        What went wrong, by the id of the trial.
    """
    start_ray()
    try:
        check_room(options)
        task = trainable(folder, settings, options)
        if resumes:
            tuner = tune.Tuner.restore(str(folder), task, resume_unfinished=True, resume_errored=True)
        else:
            tuner = new_tuner(folder, task, options, grace)
        results = tuner.fit()
        errors = {}
        for index in range(len(results)):
            if (error := results[index].error) is not None:
                errors[Path(results[index].path).name] = last_line(error)
        return errors
    finally:
        ray.shutdown()


def request(options: Options) -> tune.PlacementGroupFactory:
    """What Ray has to have free for a trial: a bundle for each process."""
    return tune.PlacementGroupFactory([dict(options.bundle) for _ in range(options.workers)])


def check_room(options: Options) -> None:
    """Refuses trials for which there will never be room: Ray would wait for ever."""
    there = ray.cluster_resources()
    for kind, wanted in request(options).required_resources.items():
        if wanted > there.get(kind, 0):
            raise ValueError(
                f'a trial takes {wanted:g} {kind}s, and the Ray cluster has {there.get(kind, 0):g}: give less with '
                f'tune.{kind.lower()}s_per_trial or tune.workers_per_trial'
            )


def trainable(folder: Path, settings: dict[str, Any], options: Options) -> Any:
    """A trial, and what it takes."""
    trial = partial(train_trial, settings=settings, folder=folder, cwd=Path.cwd(), options=options)
    return tune.with_resources(trial, request(options))


def new_tuner(folder: Path, task: Any, options: Options, grace: int) -> tune.Tuner:
    sign = 1 if records.METRICS[options.metric] == 'max' else -1
    trend = {name: getattr(options, name) for name in ('patience', 'min_delta', 'smoothing')}
    return tune.Tuner(
        task,
        tune_config=tune.TuneConfig(
            num_samples=options.num_samples,
            search_alg=searcher(options),
            scheduler=StopBelowMedian(folder, metric=options.metric, grace=grace, trials=options.median_trials),
            trial_name_creator=id_of,
            trial_dirname_creator=id_of,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            stop=StopStale(folder, metric=options.metric, grace=grace, sign=sign, **trend),
            callbacks=[Tell(folder, options.metric)],
            verbose=0,
        ),
    )


def id_of(trial: Any) -> str:
    return trial.trial_id


def last_line(error: BaseException) -> str:
    """Ray gives the traceback of the worker as the message; its last line says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r'^(\w+\.)+\w+: ', '', lines[-1]) if lines else type(error).__name__


def save_search(folder: Path, content: dict[str, Any]) -> None:
    write(folder / records.SEARCH, json.dumps(content, indent=1))


def load_search(folder: Path) -> dict[str, Any]:
    """What a search was started with.

    Raises:
        FileNotFoundError: the folder is not of a search.
    """
    file = folder / records.SEARCH
    if not file.is_file():
        raise FileNotFoundError(f'tune.resume_dir={folder}: no search was started there; give the folder of one')
    return json.loads(file.read_text())
