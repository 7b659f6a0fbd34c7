"""What all data sets of labelled pictures share: keys, label rules, and what is done about unreadable pictures.

A data set is indexed by a global key: `dataset[key]` is the record `key % len(dataset)`, and whatever is random about
it comes from (seed, key) alone. With key = epoch * len(dataset) + index each epoch sees each picture differently, and a
run that resumes sees what it would have seen.
"""

from __future__ import annotations

import logging
import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

from strhub.data.labelindex import Selection
from strhub.data.labels import LabelRules, tally
from strhub.data.picture import UnreadablePictureError, image_size, open_image

logger = logging.getLogger(__name__)

Transform = Callable[[Image.Image, np.random.Generator], Any]
TOGETHER = 16  # pictures that are in one step of the way to an item: more gain nothing
LARGE = 4_000_000  # bytes or pixels of a picture
MAX_WORKERS = 256  # whose pictures in work are known
MAX_REPLACEMENTS = 20  # unreadable pictures in a row: by then the set, not the picture, is broken


class WordDataset(Dataset, ABC):
    """Words of one place on the disk, after the label rules.

    An unreadable picture is named once in the log. In training (`replace_unreadable`) another record takes its place;
    otherwise it becomes a blank picture, and `is_unreadable(index)` then says that whatever was read in it is wrong.
    Workers and the process that started them share that knowledge.

    Args:
        root: an LMDB, a folder of pictures with labels, or a label file.
        rules: which labels to keep, in which form.
        transform: (picture, generator) -> item; None leaves PIL pictures. One that has an `open` is given what that
            makes of the encoded picture, one with a `together` several at once (see WordTransform). The generator is
            set to another key once the item is made.
        min_image_dim: pictures with a side shorter than this are left out.
        seed: decides, with the key, what augmentation does.
    """

    def __init__(
        self,
        root: str | Path,
        rules: LabelRules,
        transform: Transform | None = None,
        *,
        min_image_dim: int = 0,
        seed: int = 0,
        replace_unreadable: bool = False,
    ) -> None:
        self.root = Path(root)
        self.rules = rules
        self.transform = transform
        self.seed = seed
        self.replace_unreadable = replace_unreadable
        self.min_image_dim = min_image_dim
        self._random = KeyedRandom(seed)
        self._selection = self._select()
        self._unreadable = _shared(torch.zeros(len(self), dtype=torch.bool))
        # by worker: its process and the picture that it decodes, or -1
        self._in_work = _shared(torch.full((MAX_WORKERS, 2), -1))
        logger.info('%s: %d words, left out: %s', self.root, len(self), tally(self.dropped) or 'none')

    @abstractmethod
    def raw_labels(self) -> Iterable[tuple[int, str | None]]:
        """All (record, label as written); None for a label that cannot be read."""

    @abstractmethod
    def _select(self) -> Selection:
        """Which records are kept, in order, and how many are not, by reason; uses `_reason`."""

    @abstractmethod
    def encoded(self, record: int) -> bytes | Path:
        """The picture of a record, encoded, or where it lies."""

    @abstractmethod
    def raw_label(self, record: int) -> str:
        """The label of a record as written."""

    @abstractmethod
    def name_of(self, index: int) -> str:
        """What a reader would call the picture: its path, or its key in the LMDB."""

    def _reason(self, record: int, label: str | None) -> str | None:
        """Why a record is left out; None if it is kept."""
        if label is None:
            return 'label not UTF-8'
        reason = self.rules.judge(label)[1]
        if reason is None and self.min_image_dim > 0:
            size = image_size(self.encoded(record))
            if size is not None and min(size) < self.min_image_dim:
                return f'picture with a side under {self.min_image_dim} pixels'
        return reason

    @property
    def dropped(self) -> Counter[str]:
        """How many records are left out, by reason."""
        return self._selection.dropped

    @property
    def records(self) -> np.ndarray:
        return self._selection.records

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        return (self[index] for index in range(len(self)))  # keys never end, so iteration must

    def __getitem__(self, key: int) -> tuple[Any, str]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[tuple[Any, str]]:
        """`self[key]` of each key, by which PyTorch's loaders ask for a batch."""
        if not len(self):
            raise IndexError(f'{self.root} has no usable words')
        return self.items([(key % len(self), key) for key in keys])

    def item(self, index: int, key: int) -> tuple[Any, str]:
        """The picture and label of `index`, with the randomness of (seed, key)."""
        return self.items([(index, key)])[0]

    def items(self, places: Sequence[tuple[int, int]]) -> list[tuple[Any, str]]:
        """`item(index, key)` of each pair, in a third less time: several are read, then all decoded, then transformed.

        So what the processor needs for a step stays in its caches while it is done again and again.
        """
        items: list[tuple[Any, str]] = []
        for at in range(0, len(places), TOGETHER):
            few, opened = places[at : at + TOGETHER], []
            for (index, key), (encoded, label) in zip(few, self.read([index for index, _ in few]), strict=True):
                opened.append((self._open(index, encoded), label, key))
                if _size(opened[-1][0]) > LARGE:  # not to hold several of these
                    items += self._finish(opened)
                    opened.clear()
            items += self._finish(opened)
        return items

    def read(self, indices: Sequence[int]) -> list[tuple[bytes | Path, str]]:
        """The encoded picture, or its path, and the label as written of each index."""
        records = self.records[indices].tolist()
        return [(self.encoded(record), self.raw_label(record)) for record in records]

    def _open(self, index: int, encoded: bytes | Path) -> Any:
        """The picture as the transform takes it; None if it cannot be read and another is to take its place."""
        open_picture = getattr(self.transform, 'open', open_image)  # one that need not be exact may do it faster
        if not self._unreadable[index]:  # it may have hung or ended a worker
            try:
                with self._at_work(index):
                    return open_picture(encoded, name=self.name_of(index))
            except UnreadablePictureError as error:
                self._note_unreadable(index, error)
        return None if self.replace_unreadable else Image.new('RGB', (64, 16), 'white')

    @contextmanager
    def _at_work(self, index: int) -> Iterator[None]:
        worker = get_worker_info()
        if worker is None or worker.id >= MAX_WORKERS:
            yield
            return
        row = self._in_work[worker.id]
        row[1], row[0] = index, os.getpid()
        try:
            yield
        finally:
            row[0] = -1

    def in_work(self) -> dict[int, int]:
        """The picture that each process is decoding, or was when it died."""
        return {process: index for process, index in self._in_work.tolist() if process >= 0}

    def give_up(self, index: int, why: str) -> None:
        """From now on the picture counts as unreadable."""
        self._note_unreadable(index, UnreadablePictureError(f'{self.name_of(index)} {why}'))

    def _finish(self, words: Sequence[tuple[Any, str, int]]) -> list[tuple[Any, str]]:
        """(picture, label as written, key) -> items."""
        there = [(picture, key) for picture, _, key in words if picture is not None]
        made = iter(self._transformed([picture for picture, _ in there], (self._random.at(key) for _, key in there)))
        return [
            self._replacement(key) if picture is None else (next(made), self.rules.judge(label)[0])
            for picture, label, key in words
        ]

    def _transformed(self, pictures: Sequence[Any], rngs: Iterable[np.random.Generator]) -> Sequence[Any]:
        if self.transform is None or not pictures:
            return pictures
        if together := getattr(self.transform, 'together', None):
            return together(pictures, rngs)
        return [self.transform(picture, rng) for picture, rng in zip(pictures, rngs, strict=True)]

    def _replacement(self, key: int) -> tuple[Any, str]:
        rng = self._random.at(key)
        for _ in range(MAX_REPLACEMENTS):
            index = int(rng.integers(len(self)))
            encoded, label = self.read([index])[0]
            picture = self._open(index, encoded)
            if picture is not None:
                return self._transformed([picture], [rng])[0], self.rules.judge(label)[0]
        raise ValueError(
            f'{self.root}: {MAX_REPLACEMENTS} pictures in a row cannot be read, among them {self.name_of(index)}'
        )

    def picture(self, index: int) -> Image.Image:
        """The picture itself, RGB and upright; raises UnreadablePictureError."""
        return open_image(self.encoded(int(self.records[index])), name=self.name_of(index))

    def label(self, index: int) -> str:
        """The label after the rules."""
        return self.rules.judge(self.raw_label(int(self.records[index])))[0]

    def size(self, index: int) -> tuple[int, int] | None:
        """Width and height as the picture's header has them; None if it has none."""
        return image_size(self.encoded(int(self.records[index])))

    def is_unreadable(self, index: int) -> bool:
        """True once the picture was asked for, by any worker, and could not be read."""
        return bool(self._unreadable[index])

    @property
    def unreadable(self) -> list[str]:
        """The names of all pictures found unreadable so far."""
        return [self.name_of(int(index)) for index in self._unreadable.nonzero()]

    def _note_unreadable(self, index: int, error: UnreadablePictureError) -> None:
        if not self._unreadable[index]:
            self._unreadable[index] = True
            logger.warning(
                '%s: %s', error, 'another one takes its place' if self.replace_unreadable else 'counts as wrong'
            )


class KeyedRandom:
    """One generator, set to (seed, key): to make one takes longer than all that augmentation draws of it."""

    def __init__(self, seed: int) -> None:
        # its bits have no other name: NumPy 1 unpickles a generator with bits of its own
        self._rng = np.random.Generator(np.random.Philox(key=0))
        self._start: Any = self._rng.bit_generator.state
        self._seed = seed % 2**64

    def at(self, key: int) -> np.random.Generator:
        """The generator, until the next call."""
        self._start['state']['key'][:] = self._seed, key % 2**64
        self._rng.bit_generator.state = self._start
        return self._rng


def _size(picture: Any) -> int:
    size = getattr(picture, 'size', 0)
    return size if isinstance(size, int) else math.prod(size)


def _shared(notes: torch.Tensor) -> torch.Tensor:
    """Moves notes to memory that workers share whether they are forked or spawned."""
    try:
        return notes.share_memory_()
    except (RuntimeError, OSError) as error:  # no room in /dev/shm: each worker then knows only what it saw itself
        logger.debug('notes on unreadable pictures are not shared (%s)', error)
        return notes
