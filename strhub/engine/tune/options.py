"""What a search is asked for: the values of `tune` in the configuration, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch

from strhub.cores import cores
from strhub.engine.devices import trains_on_cpu
from strhub.engine.tune.records import METRICS
from strhub.engine.tune.space import Dimension, read_space

KEYS = (
    'num_samples',
    'initial_points',
    'metric',
    'space',
    'gpus_per_trial',
    'cpus_per_trial',
    'workers_per_trial',
    'patience',
    'min_delta',
    'smoothing',
    'median_trials',
    'resume_dir',
)


@dataclass(frozen=True)
class Options:
    """The values of `tune` in configs/tune.yaml; see ./tune.py --help."""

    num_samples: int
    initial_points: int
    metric: str
    space: tuple[Dimension, ...]
    workers: int
    gpus: float
    cpus: float
    patience: int
    min_delta: float
    smoothing: float
    median_trials: int
    seed: int

    @property
    def bundle(self) -> dict[str, float]:
        """What each process of a trial takes, as Ray counts it: of more than one core, whole ones."""
        cpus = self.cpus / self.workers
        taken = {'CPU': float(int(cpus)) if cpus > 1 else cpus}
        return {**taken, 'GPU': self.gpus / self.workers} if self.gpus else taken


def read_options(settings: Mapping[str, Any]) -> Options:
    """Checks what the configuration says of searching.

    Raises:
        ValueError: a value that makes no sense.
    """
    given = settings['tune']
    if not isinstance(given, dict):
        raise ValueError(f'tune is {given!r}: it is a section of several keys, see --help')
    for key in given:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f'did you mean tune.{near[0]}?' if near else './tune.py --help lists them'
            raise ValueError(f'there is no key tune.{key}: {hint}')
    if given['metric'] not in METRICS:
        raise ValueError(f'tune.metric is {given["metric"]!r}: give one of {", ".join(METRICS)}')
    for key in ('devices', 'num_nodes'):
        if (value := settings['trainer'][key]) not in ('auto', 1, '1'):
            raise ValueError(f'trainer.{key} is {value!r}: leave it out; tune.workers_per_trial says how many train')
    if settings['launcher']['name'] != 'local':
        raise ValueError('launcher= is for ./train.py: leave it out; RAY_ADDRESS names a cluster to search on')
    if settings['ckpt_path'] is not None:
        raise ValueError(
            'ckpt_path= goes on with one training: leave it out; tune.resume_dir=DIR goes on with a search'
        )
    samples = whole(given, 'num_samples')
    return Options(
        num_samples=samples,
        initial_points=min(samples, whole(given, 'initial_points', least=0)),
        metric=given['metric'],
        space=tuple(read_space(settings)),
        workers=whole(given, 'workers_per_trial'),
        gpus=gpus(given, settings['trainer']['accelerator']),
        cpus=cpus(given, settings['trainer']['accelerator']),
        patience=whole(given, 'patience'),
        min_delta=number(given, 'min_delta'),
        smoothing=number(given, 'smoothing', below=1),
        median_trials=whole(given, 'median_trials'),
        seed=settings['seed'],
    )


def gpus(given: Mapping[str, Any], accelerator: str) -> float:
    """GPUs of a trial: one for each process where there are any, if nothing is said; none where there are none."""
    there = 0 if accelerator == 'cpu' else torch.cuda.device_count()
    workers = given['workers_per_trial']
    if given['gpus_per_trial'] is None:
        if 0 < there < workers and not on_cluster():
            raise ValueError(f'tune.workers_per_trial is {workers}: each takes a GPU, and there are {there}; give less')
        return workers if there else 0
    value = number(given, 'gpus_per_trial')
    if workers == 1 and value > 1:
        raise ValueError(
            f'tune.gpus_per_trial is {value}: one process trains on one GPU or a share of it; give at most 1, or '
            f'tune.workers_per_trial={math.ceil(value)} as well'
        )
    if workers > 1 and value not in (0, workers):
        raise ValueError(
            f'tune.gpus_per_trial is {value}: processes that train together take a GPU each; give {workers}, as '
            'tune.workers_per_trial is, or 0'
        )
    return value if on_cluster() else min(value, there)


def cpus(given: Mapping[str, Any], accelerator: str) -> float:
    """Cores of a trial: its share of the machine if it needs a GPU, else all."""
    there, workers = cores(), given['workers_per_trial']
    if workers > there and not on_cluster():
        raise ValueError(f'tune.workers_per_trial is {workers}: this machine has {there} cores; give at most as many')
    if given['cpus_per_trial'] is None:
        devices = torch.cuda.device_count()
        if trains_on_cpu(accelerator) or not devices:
            return max(there, workers)
        share = gpus(given, accelerator) or 1
        return max(workers, int(there * share / devices))
    value = number(given, 'cpus_per_trial')
    if value == 0 or (value > there and not on_cluster()):
        raise ValueError(f'tune.cpus_per_trial is {value}: this machine has {there}; give more than 0 and at most that')
    if value > 1 and value != int(value):
        raise ValueError(f'tune.cpus_per_trial is {value}: more than 1 has to be a whole number')
    return value


def on_cluster() -> bool:
    """Whether Ray is told of a cluster, whose machines may have more than this one."""
    return 'RAY_ADDRESS' in os.environ


def whole(given: Mapping[str, Any], key: str, *, least: int = 1) -> int:
    value = given[key]
    if type(value) is not int or value < least:
        raise ValueError(f'tune.{key} is {value!r}: give a whole number, at least {least}')
    return value


def number(given: Mapping[str, Any], key: str, *, below: float = math.inf) -> float:
    value = given[key]
    if type(value) not in (int, float) or not 0 <= value < below:
        limit = '' if below == math.inf else f' and less than {below}'
        raise ValueError(f'tune.{key} is {value!r}: give a number, at least 0{limit}')
    return value


def steps_of(settings: Mapping[str, Any], words: int) -> int:
    """Optimiser steps of a whole training on `words` words, of which each process has its share.

    Raises:
        ValueError: it would never end.
    """
    trainer = settings['trainer']
    share = math.ceil(words / settings['tune']['workers_per_trial'])
    batches = math.ceil(share / settings['model']['batch_size'])
    limit = trainer['limit_train_batches']
    batches = min(batches, limit) if type(limit) is int else int(batches * limit)
    epoch = max(1, math.ceil(batches / trainer['accumulate_grad_batches']))
    ends = [trainer['max_steps']] if trainer['max_steps'] > 0 else []
    if trainer['max_epochs'] not in (None, -1):
        ends.append(epoch * trainer['max_epochs'])
    if not ends:
        raise ValueError('the trials would never end: give trainer.max_epochs or trainer.max_steps')
    return min(ends)
