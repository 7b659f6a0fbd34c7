"""The order of an epoch: the same for the same seed, shared out among processes, from any place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Global keys, epoch * length + index, of one epoch: in the order that (seed, epoch) decides, or in sequence.

    Args:
        length: of the data set.
        shuffle: whether the order is random.
        rank, world: this process has every `world`-th key, beginning with the `rank`-th.
        equal: give all processes equally many keys, some of them twice, as training in step needs it.
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
        start: Callable[[int], int] | None = None,
    ) -> None:
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.world = rank, world
        self.equal = equal
        self.start = start
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        behind = 0 if self.equal else self.rank
        return max(0, -(-(self.length - behind) // self.world))

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.length, dtype=np.int32 if self.length < 2**31 else np.int64)
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        places = self.rank + self.world * np.arange(len(self), dtype=np.int64)
        order = order.take(places, mode='wrap')[self.start(self.epoch) if self.start else 0 :]
        first = self.epoch * self.length
        for at in range(0, len(order), 65536):  # as Python's numbers, a million records at once would take 60 MB
            yield from (first + order[at : at + 65536].astype(np.int64)).tolist()
