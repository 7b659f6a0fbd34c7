"""What a measurement is asked for: the command line's values, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

import torch

from strhub.engine.configure import key_of, known_keys
from strhub.engine.devices import pick_device

CONFIG = 'bench'
PRECISIONS = {'32': False, 'bf16': True}  # whether it is autocast
MODES = 'range', 'train', 'compare'
# Sections of ./train.py that say nothing here, and those that do so for training steps alone.
OF_TRAINING = ('trainer', 'averaging', 'checkpoint', 'ckpt_path')
OF_STEPS = ('data', 'dataset')
OPEN = ('data.mix.', 'data.rendered.', 'hydra.', 'model.')  # sections whose keys their owners check
CPU_BATCH_SIZE = 32  # of a training step, where nothing is said: more takes a CPU minutes


@dataclass(frozen=True)
class Case:
    """Under which circumstances something is timed."""

    batch_size: int
    threads: int
    max_length: int | None = None


@dataclass(frozen=True)
class Options:
    """The values of configs/bench.yaml; see ./bench.py --help."""

    device: torch.device
    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    max_length: int | None
    bf16: bool
    compile: bool
    channels_last: bool
    seconds: float
    warmup: int
    depth: int
    seed: int
    sweeps_length: bool
    trains: bool
    compared: tuple[str, ...]
    pretrained: str | None
    json: Path | None
    plot: Path | None

    def cases(self, lengths: Sequence[int | None]) -> list[Case]:
        """All combinations."""
        return [Case(*values) for values in product(self.batch_sizes, self.threads, lengths)]


def read_options(settings: Mapping[str, Any], words: Sequence[str]) -> Options:
    """Checks what the configuration says of measuring.

    Args:
        settings: the composed configuration.
        words: the overrides that it was composed with.

    Raises:
        ValueError: a value that makes no sense, or does not go with another.
    """
    trains, is_given = _flag(settings, 'train'), settings['compare'] is not None
    sweeps = _flag(settings, 'range')
    check_words(words, trains=trains)
    chosen = [name for name, is_on in zip(MODES, (sweeps, trains, is_given), strict=True) if is_on]
    if len(chosen) > 1:
        raise ValueError(f'{" and ".join(chosen)} are different measurements: ask for one at a time')
    compared = settings['compare']
    names = [] if compared is None else [compared] if isinstance(compared, str) else list(compared or [])
    if is_given and not (names and all(isinstance(name, str) for name in names)):
        raise ValueError(f'compare is {compared!r}: give names of models, as in compare=[parseq,crnn]')
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f'compare names {min(doubled)} more than once')
    pretrained = settings['pretrained']
    if names and pretrained is not None:
        raise ValueError('compare= measures models with random weights: leave out pretrained=')
    if settings['max_length'] is not None and (sweeps or trains):
        raise ValueError('max_length= is for reading words of one length: leave it out')
    device = pick_device(str(settings['device']))
    precision, seconds = str(settings['precision']), settings['min_run_time']
    if precision not in PRECISIONS:
        raise ValueError(f'precision is {precision}: give {" or ".join(PRECISIONS)}')
    if type(seconds) not in (int, float) or not 0 < seconds < math.inf:
        raise ValueError(f'min_run_time is {seconds!r}: give seconds, more than 0')
    batch_size = settings['batch_size']
    if batch_size is None:
        own = settings['model']['batch_size']
        batch_size = (min(own, CPU_BATCH_SIZE) if device.type == 'cpu' else own) if trains else 1
    threads = settings['threads']
    return Options(
        device=device,
        batch_sizes=_numbers('batch_size', batch_size),
        threads=_numbers('threads', torch.get_num_threads() if threads is None else threads),
        max_length=None if settings['max_length'] is None else _number('max_length', settings['max_length']),
        bf16=PRECISIONS[precision],
        compile=_flag(settings, 'compile'),
        channels_last=_flag(settings, 'channels_last'),
        seconds=seconds,
        warmup=_number('warmup', settings['warmup'], least=0),
        depth=_number('depth', settings['depth']),
        seed=_number('seed', settings['seed'], least=0),
        sweeps_length=sweeps,
        trains=trains,
        compared=tuple(names),
        pretrained=None if pretrained is None else str(pretrained),
        json=_writable('json', settings['json']),
        plot=_writable('plot', settings['plot']) if names else None,
    )


def check_words(words: Sequence[str], *, trains: bool) -> None:
    """Refuses keys of training that change nothing here."""
    for section in (key_of(word).partition('.')[0] for word in words):
        if section in OF_TRAINING:
            raise ValueError(f'{section} is for ./train.py and changes nothing that is measured here: leave it out')
        if section in OF_STEPS and not trains:
            raise ValueError(f'{section} is for the pictures of training steps: leave it out, or add train=true')


def check_added(words: Sequence[str]) -> None:
    """Refuses unknown keys that a + would add; Hydra, which is asked for the known ones, must not be running yet."""
    added = [key_of(word) for word in words if word.startswith('+')]
    added = [key for key in added if not key.startswith(OPEN) and key != 'experiment']
    known = known_keys(CONFIG) if added else []
    for key in added:
        if key not in known:
            near = get_close_matches(key, [*known, 'experiment'], n=1)
            hint = f'did you mean {near[0]}?' if near else './bench.py --help lists them'
            raise ValueError(f'there is no key {key} in the configuration: {hint}')


def _flag(settings: Mapping[str, Any], key: str) -> bool:
    if type(settings[key]) is not bool:
        raise ValueError(f'{key} is {settings[key]!r}: give true or false')
    return settings[key]


def _number(key: str, value: Any, *, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f'{key} is {value!r}: give a whole number, at least {least}')
    return value


def _numbers(key: str, value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f'{key} is an empty list: give a whole number or several')
    return tuple(dict.fromkeys(_number(key, item) for item in values))


def _writable(key: str, value: Any) -> Path | None:
    """The file to write, looked at before minutes of measuring."""
    if value is None:
        return None
    path = Path(str(value))
    if not path.parent.is_dir() or path.is_dir():
        fault = 'is a folder' if path.is_dir() else f'is in a folder that does not exist, {path.parent}'
        raise ValueError(f'{key} is {path}, which {fault}: give the name of a file')
    return path
