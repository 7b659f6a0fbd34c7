"""The space of a search: `uniform(0,0.3)` and its kin, checked against the configuration they are to change."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

FORM = re.compile(r'\s*(\w+)\s*\((.*)\)\s*', re.DOTALL)
FORMS = {
    'uniform': 'uniform(0,0.3)',
    'loguniform': 'loguniform(1e-5,1e-3)',
    'randint': 'randint(2,6)',
    'choice': 'choice(a,b,c)',
}
AUTO = 'auto'
DECADE = 10.0  # the default space goes this far below and above the model's own rate
LEARNING_RATE = 'model.lr'
SECTIONS = ('model', 'data', 'trainer', 'averaging')  # what a trial may vary
WORDS = {'true': True, 'false': False, 'null': None}


@dataclass(frozen=True)
class Dimension:
    """What one hyper-parameter may be: numbers from `low` to `high`, both included, or one of `options`."""

    key: str
    form: str
    low: float = 0
    high: float = 0
    options: tuple[Any, ...] = ()

    def at(self, share: float) -> Any:
        """The value at `share`, from 0 to 1, of the way through the dimension."""
        if self.form == 'choice':
            return self.options[min(int(share * len(self.options)), len(self.options) - 1)]
        if self.form == 'randint':
            return min(int(self.low + share * (self.high - self.low + 1)), int(self.high))
        if self.form == 'loguniform':
            # a rounding error outside of the bounds would be refused by the sampler
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return min(max(float(f'{value:.6g}'), self.low), self.high)

    def __str__(self) -> str:
        values = self.options if self.form == 'choice' else (self.low, self.high)
        return f'{self.form}({",".join(map(spell, values))})'


def spell(value: Any) -> str:
    """A value as it is written on a command line."""
    for word, meaning in WORDS.items():
        if value is meaning:
            return word
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def read_space(settings: Mapping[str, Any]) -> list[Dimension]:
    """What `tune.space` of the configuration asks for.

    Raises:
        ValueError: a key that is not in the configuration, or a form or bounds that make no sense for it.
    """
    given = settings['tune']['space']
    if not isinstance(given, dict):
        raise ValueError(f'tune.space is {given!r}: it is a section, as in +tune.space.model.dropout=uniform(0,0.3)')
    dimensions = []
    for key, text in leaves(given):
        if text is None:
            continue
        own = value_at(settings, key)
        if text == AUTO and key == LEARNING_RATE:
            low, high = (float(f'{bound:.6g}') for bound in (own / DECADE, own * DECADE))
            dimensions.append(Dimension(key, 'loguniform', low, high))
        else:
            dimensions.append(parse(key, text, own))
    if not dimensions:
        raise ValueError('tune.space is empty: give what to search, as in tune.space.model.lr=loguniform(1e-5,1e-3)')
    return dimensions


def leaves(node: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """The value that the configuration has for `key`, which has to be one that a trial can vary."""
    section = key.partition('.')[0]
    known = [name for part in SECTIONS for name, _ in leaves({part: settings[part]})]
    if key not in known:
        node: Any = settings
        for name in key.split('.'):
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict):
            raise ValueError(f'tune.space.{key} is a section: give one of its keys')
        if section not in SECTIONS and section in settings:
            raise ValueError(f'tune.space.{key} is nothing to search: it takes keys of {", ".join(SECTIONS)}')
        near = get_close_matches(key, known, n=1)
        hint = f'did you mean tune.space.{near[0]}?' if near else './train.py --cfg job shows all keys'
        raise ValueError(f'tune.space.{key} names no key of the configuration: {hint}')
    return settings_value(settings, key)


def settings_value(settings: Mapping[str, Any], key: str) -> Any:
    for name in key.split('.'):
        settings = settings[name]
    return settings


def parse(key: str, text: Any, own: Any) -> Dimension:
    """One dimension from its text.

    Args:
        own: the value that the configuration has for `key`, whose type the new ones are to have.

    Raises:
        ValueError: the text says nothing sensible.
    """
    match = FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1] not in FORMS:
        examples = ', '.join(FORMS.values())
        raise ValueError(f'tune.space.{key} is {text!r}: give one of the forms {examples}, or null')
    form, inside = match[1], match[2]
    values = [scalar(item) for item in inside.split(',')] if inside.strip() else []
    where = f'tune.space.{key}={text}'
    if form == 'choice':
        return choice(where, key, values, own)
    if isinstance(own, bool) or not (own is None or isinstance(own, int | float)):
        raise ValueError(f'{where}: {key} is {spell(own)}, no number: search it by choice(…)')
    if len(values) != 2 or not all(is_number(value) for value in values):
        raise ValueError(f'{where}: give two numbers as bounds, as in {FORMS[form]}')
    low, high = values
    if form == 'randint' and not (type(low) is int and type(high) is int):
        raise ValueError(f'{where}: give two whole numbers as bounds, as in {FORMS[form]}')
    if form != 'randint' and type(own) is int and not is_share(key):
        raise ValueError(f'{where}: {key} is a whole number: search it by randint(…) or choice(…)')
    if low >= high:
        raise ValueError(f'{where}: the lower bound, {spell(low)}, has to be less than the upper, {spell(high)}')
    if form == 'loguniform' and low <= 0:
        raise ValueError(f'{where}: the lower bound is {spell(low)}, and a logarithmic scale takes more than 0')
    return Dimension(key, form, low, high) if form == 'randint' else Dimension(key, form, float(low), float(high))


def choice(where: str, key: str, values: Sequence[Any], own: Any) -> Dimension:
    if len(values) < 2:
        raise ValueError(f'{where}: give two values or more to choose from, as in {FORMS["choice"]}')
    if isinstance(own, list):
        raise ValueError(f'{where}: {key} is a list, which cannot be searched')
    for value in values:
        fits = own is None or value is None or kind(value) == kind(own) or (is_number(value) and is_number(own))
        if type(own) is int and isinstance(value, float):
            fits = is_share(key)
        if not fits:
            raise ValueError(f'{where}: {spell(value)} is no {kind(own)}, as {key}={spell(own)} is')
    if len(set(map(repr, values))) < len(values):
        raise ValueError(f'{where}: a value is named more than once')
    return Dimension(key, 'choice', options=tuple(values))


def is_share(key: str) -> bool:
    """True of whole numbers in the configuration that need not be whole."""
    return key in ('trainer.gradient_clip_val', 'averaging.start')


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def kind(value: Any) -> str:
    names = {bool: 'true or false', int: 'whole number', float: 'number', str: 'word'}
    return names.get(type(value), type(value).__name__)


def scalar(text: str) -> Any:
    """A value as its text means it: YAML's own reader takes 1e-3 for a word."""
    text = text.strip()
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text.strip('\'"')


def spread(dimensions: Sequence[Dimension], count: int, seed: int) -> list[dict[str, Any]]:
    """Points to begin with: as even in each dimension as `count` allows, logarithmic where its form is.

    The first dimension goes from the middle outwards, so that the model's own learning rate is what the others are
    compared with; the rest are shuffled against it, as in a Latin square.
    """
    if count == 0:
        return []
    shares = [0.5] if count == 1 else [index / (count - 1) for index in range(count)]
    shares.sort(key=lambda share: (round(abs(share - 0.5), 9), share))  # a third and two are as far
    generator = random.Random(seed)
    columns = [shares, *(generator.sample(shares, count) for _ in dimensions[1:])]
    return [
        {dimension.key: dimension.at(share) for dimension, share in zip(dimensions, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]
