"""Several data sets of words as one, each with its exact share: whose turn it is at each key."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from torch.utils.data import Dataset

from strhub.data.base import WordDataset
from strhub.data.dataset import TreeDataset, items_of
from strhub.data.labels import tally
from strhub.data.sampler import permuted
from strhub.data.summary import counted

if TYPE_CHECKING:
    from strhub.data.synth import RenderedDataset

    Part: TypeAlias = WordDataset | TreeDataset | RenderedDataset

BLOCK = 1000  # keys within which the sources are shuffled: a few batches


def source_seed(seed: int, name: str) -> int:
    """Of a source's own order and words, which other sources coming or going leaves alone."""
    return seed + zlib.crc32(name.encode())


def has_records(part: Part) -> TypeGuard[WordDataset | TreeDataset]:
    """Whether its words lie somewhere, as opposed to being rendered."""
    return isinstance(part, WordDataset | TreeDataset)


class MixtureDataset(Dataset):
    """Words of several data sets, each of which has its exact share.

    `mixture[key]` depends on (seed, key) alone, whoever asks for it and in whichever order, so that workers, ranks and
    resumed runs see one series. Keys are to be asked for in sequence: they are shuffled already. Of each source, every
    word comes once before any comes again, in an order that is new each time; rendered words come in theirs, from easy
    to hard.

    Args:
        parts: the data sets, by name.
        weights: the shares, relative to each other; None shares by size.
        count: what `len` says: the keys of an epoch; by default as many as the parts have.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        weights: Mapping[str, float] | None = None,
        *,
        seed: int = 0,
        count: int | None = None,
    ) -> None:
        if empty := [name for name, part in parts.items() if not len(part)]:
            raise ValueError(f'{empty[0]} has no words to mix: leave it out')
        if count is not None and (type(count) is not int or count < 1):
            raise ValueError(f'data.mix_count is {count!r}: give a whole number, at least 1, or null')
        self.parts = dict(parts)
        self.seed = seed
        sizes = {name: len(part) for name, part in parts.items()}
        self.count = sum(sizes.values()) if count is None else count
        # as they are written: 0.1 is a tenth, and not the nearest binary number
        exact = {name: Fraction(str(weight)) for name, weight in (weights or sizes).items()}
        self.shares = {name: exact[name] / sum(exact.values()) for name in self.parts}
        self._names = list(self.parts)
        self._plan: tuple[int, np.ndarray, np.ndarray] | None = None  # of the block last asked for

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        return (self[key] for key in range(len(self)))

    def __getitem__(self, key: int) -> tuple[Any, str]:
        name, index = self.locate(key)
        part = self.parts[name]
        return part.item(index, key) if has_records(part) else part[index]

    def __getitems__(self, keys: Sequence[int]) -> list[tuple[Any, str]]:
        """`self[key]` of each key, sooner."""
        located = [(self.parts[name], index) for name, index in map(self.locate, keys)]
        read = [(part, index, key) for (part, index), key in zip(located, keys, strict=True) if has_records(part)]
        items = iter(items_of(read))
        return [next(items) if has_records(part) else part[index] for part, index in located]

    def drawn(self, keys: int) -> list[int]:
        """How many words of each source are among the first `keys`.

        Whole numbers whose sum is `keys` and none of which ever falls: of what the sources before it leave, each takes
        its share, rounded down. So each is off by less than there are sources, however long the training.
        """
        left, counts, rest = keys, [], Fraction(1)
        for share in self.shares.values():
            counts.append(math.floor(left * share / rest))
            left -= counts[-1]
            rest -= share
        return counts

    def locate(self, key: int) -> tuple[str, int]:
        """Which source's turn it is, and which of its records it gives (rendered: which word of the series)."""
        block, at = divmod(key, BLOCK)
        plan = self._plan
        if plan is None or plan[0] != block:
            plan = self._plan = (block, *self._lay_out(block))
        _, turns, indices = plan
        return self._names[turns[at]], int(indices[at])

    def _lay_out(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """For each key of a block, the place of its source among the sources, and the record."""
        first, end = self.drawn(block * BLOCK), self.drawn((block + 1) * BLOCK)
        turns = np.repeat(np.arange(len(first)), np.subtract(end, first))
        np.random.default_rng((self.seed, block)).shuffle(turns)
        indices = np.empty(BLOCK, dtype=np.int64)
        for place, (name, part) in enumerate(self.parts.items()):
            draws = np.arange(first[place], end[place], dtype=np.int64)
            if has_records(part):
                draws = permuted(draws, len(part), seed=source_seed(self.seed, name))
            indices[turns == place] = draws
        return turns, indices

    def summary(self, name: str) -> str:
        """What the log says of a source."""
        part, share = self.parts[name], self.shares[name]
        words = float(share * self.count)
        if not has_records(part):
            return f'rendered, {float(share):.1%} of all words, {words:.0f} in an epoch'
        times = words / len(part)
        plain = f'{times:.0f}' if times >= 10 else np.format_float_positional(times, 2, fractional=False, trim='-')
        return (
            f'{counted(len(part), "word")}, {float(share):.1%} of all words, each {plain} times in an epoch, '
            f'left out: {tally(part.dropped) or "none"}'
        )

    # What the parts know, by the mixture's keys

    def name_of(self, key: int) -> str:
        name, index = self.locate(key)
        part = self.parts[name]
        return part.name_of(index) if has_records(part) else f'{name}#{index}'

    def is_unreadable(self, key: int) -> bool:
        name, index = self.locate(key)
        part = self.parts[name]
        return has_records(part) and part.is_unreadable(index)

    @property
    def unreadable(self) -> list[str]:
        return [name for part in self.parts.values() if has_records(part) for name in part.unreadable]

    @property
    def dropped(self) -> Counter[str]:
        return sum((part.dropped for part in self.parts.values() if has_records(part)), Counter())
