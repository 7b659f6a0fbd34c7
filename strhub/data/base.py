"""What all data sets of labelled pictures share: keys, label rules, and what is done about unreadable pictures.

A data set is indexed by a global key: `dataset[key]` is the record `key % len(dataset)`, and whatever is random about
it comes from (seed, key) alone. With key = epoch * len(dataset) + index each epoch sees each picture differently, and a
run that resumes sees what it would have seen.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from strhub.data.labelindex import Selection
from strhub.data.labels import LabelRules, tally
from strhub.data.transforms import UnreadablePictureError, image_size, open_image

logger = logging.getLogger(__name__)

Transform = Callable[[Image.Image, np.random.Generator], Any]
MAX_REPLACEMENTS = 20  # unreadable pictures in a row: by then the set, not the picture, is broken


class WordDataset(Dataset, ABC):
    """Words of one place on the disk, after the label rules.

    An unreadable picture is named once in the log. In training (`replace_unreadable`) another record takes its place;
    otherwise it becomes a blank picture, and `is_unreadable(index)` then says that whatever was read in it is wrong.
    Workers and the process that started them share that knowledge.

    Args:
        root: an LMDB, a folder of pictures with labels, or a label file.
        rules: which labels to keep, in which form.
        transform: (picture, generator) -> item; None leaves PIL pictures.
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
        self._selection = self._select()
        self._unreadable = _shared_flags(len(self))
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
    def _records(self) -> np.ndarray:
        return self._selection.records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        return (self[index] for index in range(len(self)))  # keys never end, so iteration must

    def __getitem__(self, key: int) -> tuple[Any, str]:
        if not len(self):
            raise IndexError(f'{self.root} has no usable words')
        return self.item(key % len(self), key)

    def item(self, index: int, key: int) -> tuple[Any, str]:
        """The picture and label of `index`, with the randomness of (seed, key)."""
        rng = np.random.default_rng((self.seed, key % 2**64))
        for _ in range(MAX_REPLACEMENTS):
            try:
                image = self.picture(index)
            except UnreadablePictureError as error:
                self._note_unreadable(index, error)
                if not self.replace_unreadable:
                    image = Image.new('RGB', (64, 16), 'white')
                else:
                    index = int(rng.integers(len(self)))
                    continue
            return (image if self.transform is None else self.transform(image, rng)), self.label(index)
        raise ValueError(
            f'{self.root}: {MAX_REPLACEMENTS} pictures in a row cannot be read, among them {self.name_of(index)}'
        )

    def picture(self, index: int) -> Image.Image:
        """The picture itself, RGB and upright; raises UnreadablePictureError."""
        return open_image(self.encoded(int(self._records[index])), name=self.name_of(index))

    def label(self, index: int) -> str:
        """The label after the rules."""
        return self.rules.judge(self.raw_label(int(self._records[index])))[0]

    def size(self, index: int) -> tuple[int, int] | None:
        """Width and height as the picture's header has them; None if it has none."""
        return image_size(self.encoded(int(self._records[index])))

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


def _shared_flags(count: int) -> torch.Tensor:
    """One flag a record, in memory that workers share whether they are forked or spawned."""
    flags = torch.zeros(count, dtype=torch.bool)
    try:
        return flags.share_memory_()
    except (RuntimeError, OSError) as error:  # no room in /dev/shm: each worker then knows only what it saw itself
        logger.debug('flags of unreadable pictures are not shared (%s)', error)
        return flags
