"""Hyper-parameters: read from configs/ as Hydra would compose them, and checked against what a user gives."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PACKAGE = Path(__file__).parents[1]
# The most of what no weight's shape tells, or what takes time or memory for each one before shapes can be compared: a
# checkpoint may claim anything.
MOST = {
    'max_label_length': 4096,  # more than a printed page
    'enc_depth': 200,
    'dec_depth': 200,
    'v_num_layers': 200,
    'l_num_layers': 200,
    'iter_size': 100,
    'refine_iters': 100,
    'num_fiducial': 100,
    'perm_num': 1000,
    'width': 100,
}
MOST_OF_ALL = 10**7  # a product of two can still be said in 64 bits
BOOLEANS = {'true': True, 'yes': True, '1': True, 'false': False, 'no': False, '0': False}


def config_dir() -> Path:
    """The folder of the configuration files: inside the package once installed, beside it in a checkout."""
    for folder in (PACKAGE / 'configs', PACKAGE.parent / 'configs'):
        if (folder / 'main.yaml').is_file():
            return folder
    raise FileNotFoundError(f'there is no configs folder in or beside {PACKAGE}: install strhub again')


class Loader(yaml.SafeLoader):
    """Takes 6e-3 and 1.5e3 for numbers, as Hydra does; to YAML 1.1 they are texts."""


Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$'), list('-+0123456789')
)


@cache
def _read(file: Path) -> dict[str, Any]:
    return yaml.load(file.read_text('utf-8'), Loader) or {}


def compose(experiment: str) -> dict[str, Any]:
    """The `model` section that `./train.py +experiment=…` starts with, without Hydra.

    Reads main.yaml, then the model and the charset that its defaults name (or the experiment in their place), then the
    experiment itself.
    """
    folder = config_dir()
    main, own = _read(folder / 'main.yaml'), _read(folder / 'experiment' / f'{experiment}.yaml')
    groups = [entry for entry in [*main['defaults'], *own.get('defaults', ())] if isinstance(entry, dict)]
    options = {key.removeprefix('override /'): value for entry in groups for key, value in entry.items()}
    model = _read(folder / 'model' / f'{options["model"]}.yaml')
    charset = _read(folder / 'charset' / f'{options["charset"]}.yaml')
    hparams = {**main['model'], **model, **charset['model'], **own.get('model', {})}
    return {key: list(value) if isinstance(value, list) else value for key, value in hparams.items()}


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """`: did you mean 'parseq'?`, or nothing where no word is close."""
    close = get_close_matches(word.lower(), words, n=2)
    return f': did you mean {" or ".join(map(repr, close))}?' if close else ''


def override(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `defaults` with `changes`, each of the default's type.

    Raises:
        ValueError: a change that is no hyper-parameter of the model, or of another type.
    """
    model = defaults['name']
    for key in changes:
        if key not in defaults:
            hint = did_you_mean(key, list(defaults)) or f': it has {", ".join(sorted(defaults))}'
            raise ValueError(f'{model} has no hyper-parameter {key!r}{hint}')
    return {**defaults, **{key: _typed(key, value, defaults[key]) for key, value in changes.items()}}


def _typed(key: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`, read from a text (`'2'`, as on a command line) where it is one."""
    kind = type(default)
    if isinstance(value, str) and kind is not str:
        value = parse(value, kind)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is list and isinstance(value, Sequence) and not isinstance(value, str):
        value = list(value)
    fits = type(value) is kind  # a bool is no int here
    if kind is list and fits:
        fits = len(value) == len(default) and all(type(item) is int for item in value)
    if fits:
        if kind in (int, float) and value > MOST.get(key, MOST_OF_ALL if kind is int else math.inf):
            raise ValueError(f'{key} is {value}: give at most {MOST.get(key, MOST_OF_ALL)}, e.g. {default!r}')
        return value
    wanted = {
        bool: 'true or false',
        int: 'a whole number',
        float: 'a number',
        str: 'a text',
        list: 'whole numbers in a list of the same length',
    }[kind]
    raise ValueError(f'{key} is {value!r}: give {wanted}, e.g. {default!r}')


def parse(text: str, kind: type) -> Any:
    """The value of type `kind` that `text` spells, or `text` itself where it spells none."""
    if kind is bool:
        return BOOLEANS.get(text.lower(), text)
    if kind is list:
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            return text
    try:
        return kind(text)
    except ValueError:
        return text
