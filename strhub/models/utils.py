"""The names that users import: create_model, load_from_checkpoint, parse_model_args."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strhub.models.config import parse
from strhub.models.zoo import create_model, load_from_checkpoint

__all__ = ['create_model', 'load_from_checkpoint', 'parse_model_args']

TYPES: dict[str, type] = {'str': str, 'int': int, 'float': float, 'bool': bool, 'list': list}


def parse_model_args(args: Sequence[str]) -> dict[str, Any]:
    """Reads `param=value` and `param:type=value`, e.g. from the command line, for `load_from_checkpoint(path, **…)`.

    Where the type (str, int, float, bool, list) is left out, the model decides it, and refuses what does not fit.

    Raises:
        ValueError: an argument of another form, an unknown type, or a value that is not of the given type.
    """
    values: dict[str, Any] = {}
    for arg in args:
        name, equals, text = arg.partition('=')
        name, colon, kind = name.partition(':')
        if not equals or not name.isidentifier():
            raise ValueError(
                f'{arg!r} is no model parameter: write param=value or param:type=value, e.g. refine_iters=2'
            )
        if not colon:
            values[name] = text  # a text is read as whatever type the hyper-parameter has
            continue
        if kind not in TYPES:
            raise ValueError(f'{arg!r} asks for the type {kind!r}: give one of {", ".join(TYPES)}')
        value = parse(text, TYPES[kind])
        if not isinstance(value, TYPES[kind]):
            raise ValueError(f'{arg!r}: {text!r} is no {kind}')
        values[name] = value
    return values
