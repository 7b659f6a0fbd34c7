"""Probabilities -> texts: how the most probable classes are read, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

import numpy as np

FIRST = 0  # the class before those of the characters: the end of a text, in CTC the blank


@dataclass(frozen=True)
class Words:
    """The greedy reading of N pictures, their characters one after the other.

    Attributes:
        ids: (M,) of all characters.
        probs: (M,) theirs.
        lengths: (N,) characters of each text.
        ends: (N,) probability of the end; 1 where there is none.
        has_end: (N,) whether there is one.
    """

    ids: np.ndarray
    probs: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray
    has_end: np.ndarray

    def confidences(self) -> np.ndarray:
        """(N,), of each text: the product over its characters and its end."""
        products = self.ends.copy()
        np.multiply.at(products, np.arange(len(self.lengths)).repeat(self.lengths), self.probs)
        return products

    def texts(self, codes: np.ndarray) -> list[str]:
        """The N texts, made a batch at a time, of the code point of each id."""
        whole = codes[self.ids].tobytes().decode('utf-32-le', 'surrogatepass')
        return [whole[start:end] for start, end in pairwise([0, *self.lengths.cumsum().tolist()])]


@lru_cache(maxsize=16)
def code_points(charset: str) -> np.ndarray:
    """Of each class; 0 of the first, which no text holds."""
    return np.array([FIRST, *map(ord, charset)], dtype='<u4')


def read_attention(ids: np.ndarray, probs: np.ndarray) -> Words:
    """Reads up to the first end; ids (N, L) and their probabilities, float64."""
    is_end = ids == FIRST
    ended = is_end.cumsum(1)
    is_char, is_first_end = ended == 0, is_end & (ended == 1)
    return Words(
        ids=ids[is_char],
        probs=probs[is_char],
        lengths=is_char.sum(1),
        ends=np.where(is_first_end, probs, 1.0).prod(1),
        has_end=is_first_end.any(1),
    )


def read_ctc(ids: np.ndarray, probs: np.ndarray) -> Words:
    """Reads frames as CTC does (Graves et al., ICML 2006); ids (N, L) and their probabilities, float64.

    A character is a run of equal frames; its probability is the run's, so that all together give the path's.
    """
    is_start = np.ones(ids.shape, dtype=bool)
    is_start[:, 1:] = ids[:, 1:] != ids[:, :-1]
    is_char = ids[is_start] != FIRST
    starts = np.flatnonzero(is_start)
    # Each frame's run goes up to the next start, of the same row or the first of the next one
    products = np.multiply.reduceat(probs.ravel(), starts) if len(starts) else np.ones(0)
    return Words(
        ids=ids[is_start][is_char],
        probs=products[is_char],
        lengths=(is_start & (ids != FIRST)).sum(1),
        ends=np.where(ids == FIRST, probs, 1.0).prod(1),
        has_end=np.ones(len(ids), dtype=bool),
    )


def runs_of(ids: Sequence[int]) -> list[tuple[int, int]]:
    """First and last frame of each character of a CTC path; ids (L,)."""
    runs = [list(run) for _, run in groupby(range(len(ids)), key=lambda frame: ids[frame])]
    return [(run[0], run[-1]) for run in runs if ids[run[0]] != FIRST]


RULES: dict[str, Callable[[np.ndarray, np.ndarray], Words]] = {'attention': read_attention, 'ctc': read_ctc}
