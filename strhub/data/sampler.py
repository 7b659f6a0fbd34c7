"""The order of an epoch: the same for the same seed, shared out among processes, from any place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

ROUNDS = 8  # of mixing: four for each half of the bits


def permuted(draws: np.ndarray, length: int, *, seed: int) -> np.ndarray:
    """The record at each draw (an int64 array): `length` draws in a row, from a multiple of it, are each record once.

    Each such cycle has an order of its own. The order is computed and not stored (a Feistel network over the bits of a
    record; what falls beyond the last record is sent through again), so that 15 million records cost no memory.
    """
    cycle, places = np.divmod(draws, length)
    bits = max(2, (length - 1).bit_length())
    keys = _scatter(cycle.astype(np.uint64) ^ _scatter(np.array([seed % 2**64], dtype=np.uint64)))
    records = _feistel(places.astype(np.uint64), keys, bits)
    while len(beyond := np.flatnonzero(records >= length)):
        records[beyond] = _feistel(records[beyond], keys[beyond], bits)
    return records.astype(np.int64)


def _feistel(places: np.ndarray, keys: np.ndarray, bits: int) -> np.ndarray:
    """One to one on numbers of `bits` bits: the high and the low ones change in turn, as the others say."""
    low = bits // 2
    high_mask, low_mask = 2 ** (bits - low) - 1, 2**low - 1
    highs, lows = places >> low, places & low_mask
    for number in range(ROUNDS):
        if number % 2:
            highs = highs ^ _scatter(lows + keys + number) & high_mask
        else:
            lows = lows ^ _scatter(highs + keys + number) & low_mask
    return (highs << low) | lows


def _scatter(values: np.ndarray) -> np.ndarray:
    """64 bits, each of which hangs on all those of the value; multiplying wraps around."""
    for odd in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
        values = (values ^ (values >> 32)) * odd
    return values ^ (values >> 32)


class EpochSampler(Sampler[int]):
    """Global keys, epoch * length + index, of one epoch: in the order that (seed, epoch) decides, or in sequence.

    Args:
        length: of the data set.
        shuffle: whether the order is random.
        rank, world: this process has every `world`-th key, beginning with the `rank`-th.
        equal: give all processes equally many keys, some of them twice, as training in step needs it.
        turns: how many processes this one stands for, who together get what `turns` times `world` of them would.
        start: epoch -> how many keys of it were used by an earlier run and are skipped; `len` stays the same.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        equal: bool = True,
        turns: int = 1,
        start: Callable[[int], int] | None = None,
    ) -> None:
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.world = rank, world
        self.equal = equal
        self.turns = turns
        self.start = start
        self.epoch = 0
        self._first = 0  # where the iteration that was begun last began
        self._again: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def go_on_after(self, count: int) -> None:
        """The next iteration begins `count` keys behind where the last one did."""
        self._again = self._first + count

    def __len__(self) -> int:
        behind = 0 if self.equal else self.rank
        return max(0, -(-(self.length - behind) // (self.world * self.turns))) * self.turns

    def __iter__(self) -> Iterator[int]:
        first, self._again = self._again, None
        self._first = first if first is not None else self.start(self.epoch) if self.start else 0
        order = np.arange(self.length, dtype=np.int32 if self.length < 2**31 else np.int64)
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        places = self.rank + self.world * np.arange(len(self), dtype=np.int64)
        order = order.take(places, mode='wrap')[self._first :]
        offset = self.epoch * self.length
        for at in range(0, len(order), 65536):  # as Python's numbers, a million records at once would take 60 MB
            yield from (offset + order[at : at + 65536].astype(np.int64)).tolist()


class BatchesInTurn(Sampler[list[int]]):
    """The batches of the processes that `sampler.turns` stands for: the first one of each, then the second one of each.

    They are what those processes would get, the shorter ones at the end of an epoch too.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self._first = 0  # which turn the iteration that was begun last began with
        self._again = 0

    def go_on_after(self, count: int) -> None:
        """The next iteration begins `count` keys, which are whole batches, behind where the last one did."""
        rounds, self._again = divmod(self._first + count // self.batch_size, self.sampler.turns)
        self.sampler.go_on_after(rounds * self.sampler.turns * self.batch_size)

    def __len__(self) -> int:
        turns = self.sampler.turns
        return turns * -(-(len(self.sampler) // turns) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        self._first, self._again = self._again, 0
        keys, turns, first = iter(self.sampler), self.sampler.turns, self._first
        while chunk := list(islice(keys, turns * self.batch_size)):
            yield from (chunk[turn::turns] for turn in range(first, turns))
            first = 0
