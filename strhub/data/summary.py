"""Numbers of a data set as lines of text, for `strhub inspect` and `strhub data stats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

BAR = 40  # characters of the longest bar
MAX_LISTED = 40  # characters
NOUNS = ('label', 'picture', 'record')


def counted(count: int, what: str) -> str:
    """`1 label missing`, `2 labels missing`: the noun that `what` may begin with in its number."""
    noun, blank, rest = what.partition(' ')
    return f'{count} {noun}{"s" if noun in NOUNS and count != 1 else ""}{blank}{rest}'


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
        yield f'\nsizes of {len(known)} pictures    smallest   median  largest'
        rows = {'width': known[:, 0], 'height': known[:, 1], 'width / height': known[:, 0] / known[:, 1]}
        for name, values in rows.items():
            yield f'  {name:<22} {values.min():>8.4g} {np.median(values):>8.4g} {values.max():>8.4g}'
    if unreadable:
        yield f'\n{unreadable} pictures without a readable header'
