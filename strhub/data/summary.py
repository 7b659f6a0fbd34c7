"""Numbers of a data set as lines of text, for `strhub inspect` and `strhub data stats`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BAR = 40  # characters of the longest bar
MAX_LISTED = 40  # characters
# What counts are of, as a reason for leaving something out begins: `empty label`, `line without a tab`.
BEGINNING = re.compile(r'((?:broken |different |empty )?)(\w*)(.*)', re.DOTALL)
NOUNS = (
    'epoch',
    'file',
    'label',
    'line',
    'measurement',
    'picture',
    'place',
    'polygon',
    'quad',
    'record',
    'step',
    'text',
    'thread',
    'word',
)
PLURALS = {noun: f'{noun}s' for noun in NOUNS} | {'box': 'boxes', 'entry': 'entries'}


def counted(count: int, what: str, *, width: int = 0) -> str:
    """`1 label missing`, `2 labels missing`: the noun that `what` may begin with in its number."""
    if count != 1:
        what = BEGINNING.sub(lambda found: found[1] + PLURALS.get(found[2], found[2]) + found[3], what, count=1)
    return f'{count:>{width}} {what}'


def bars(counts: Counter[int]) -> Iterator[str]:
    """How often each number occurs."""
    for value in range(min(counts, default=0), max(counts, default=-1) + 1):
        if counts[value]:  # one label of a thousand characters is one line
            yield f'{value:>5} {counts[value]:>9} {"#" * max(1, round(BAR * counts[value] / max(counts.values())))}'


def characters(counts: Counter[str], most: int = MAX_LISTED) -> Iterator[str]:
    """The most frequent characters, with their code points."""
    for char, count in counts.most_common(most):
        yield f'  {char if char.isprintable() else " "}  U+{ord(char):04X} {count:>9}'


def sizes(known: np.ndarray, unreadable: int) -> Iterator[str]:
    """Of pictures (N, 2: width and height), and how many have no readable header."""
    if len(known):
        from numpy import median  # here, for `strhub convert --list` does not wait for it

        yield f'\n{"sizes of " + counted(len(known), "picture"):<24} smallest   median  largest'
        rows = {'width': known[:, 0], 'height': known[:, 1], 'width / height': known[:, 0] / known[:, 1]}
        for name, values in rows.items():
            yield f'  {name:<22} {values.min():>8.4g} {median(values):>8.4g} {values.max():>8.4g}'
    if unreadable:
        yield f'\n{counted(unreadable, "picture without a readable header")}'
