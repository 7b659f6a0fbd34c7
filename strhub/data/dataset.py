"""Data sets of labelled pictures: LMDBs, folders, and trees of both, behind one interface.

A data set is indexed by a global key: `dataset[key]` is the record `key % len(dataset)`, and whatever is random about
it comes from (seed, key) alone. With key = epoch * len(dataset) + index each epoch sees each picture differently, and a
run that resumes sees what it would have seen.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from strhub.data.labelfile import LABEL_FILES, is_picture_name, read_folder
from strhub.data.labels import LabelRules, tally
from strhub.data.transforms import UnreadablePictureError, image_size, open_image

logger = logging.getLogger(__name__)

Transform = Callable[[Image.Image, np.random.Generator], Any]
MAX_REPLACEMENTS = 20  # unreadable pictures in a row: by then the set, not the picture, is broken
HOW_TO_MAKE_DATA = (
    'put LMDBs or labelled folders there, make an LMDB with `strhub convert folder SRC DST`, '
    'render words with `strhub render`, or train without any data by dataset=rendered'
)


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
        self.dropped: Counter[str] = Counter()
        records = np.fromiter(self._select(min_image_dim), dtype=np.int64)
        self._records = records.astype(np.int32) if records.max(initial=0) < 2**31 else records
        self._unreadable = _shared_flags(len(records))
        if self.dropped:
            logger.info('%s: %d words, left out: %s', self.root, len(self), tally(self.dropped))
        else:
            logger.info('%s: %d words', self.root, len(self))

    @abstractmethod
    def raw_labels(self) -> Iterable[tuple[int, str | None]]:
        """All (record, label as written); None for a label that cannot be read."""

    @abstractmethod
    def absent(self, seen: int) -> Counter[str]:
        """What there should be beyond the `seen` records of `raw_labels`, by the reason why it is not."""

    @abstractmethod
    def encoded(self, record: int) -> bytes | Path:
        """The picture of a record, encoded, or where it lies."""

    @abstractmethod
    def raw_label(self, record: int) -> str:
        """The label of a record as written."""

    @abstractmethod
    def name_of(self, index: int) -> str:
        """What a reader would call the picture: its path, or its key in the LMDB."""

    def _select(self, min_image_dim: int) -> Iterator[int]:
        seen = 0
        for record, label in self.raw_labels():
            seen += 1
            reason = 'label not UTF-8' if label is None else self.rules.judge(label)[1]
            if reason is None and min_image_dim > 0:
                size = image_size(self.encoded(record))
                if size is not None and min(size) < min_image_dim:
                    reason = f'picture with a side under {min_image_dim} pixels'
            if reason is None:
                yield record
            else:
                self.dropped[reason] += 1
        self.dropped.update(self.absent(seen))

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


class LmdbDataset(WordDataset):
    """The words of an LMDB."""

    def __init__(self, root: str | Path, rules: LabelRules, transform: Transform | None = None, **options: Any) -> None:
        from strhub.data.lmdb import LmdbReader

        self._reader = LmdbReader(root)
        super().__init__(root, rules, transform, **options)
        self._reader.close()  # each process that reads opens it for itself

    def raw_labels(self) -> Iterator[tuple[int, str | None]]:
        return self._reader.labels()

    def absent(self, seen: int) -> Counter[str]:
        missing = len(self._reader) - seen
        return Counter({'record without a label': missing} if missing else {})

    def encoded(self, record: int) -> bytes:
        return self._reader.image(record) or b''  # no bytes are no picture, which the decoder says

    def raw_label(self, record: int) -> str:
        return self._reader.label(record) or ''

    def name_of(self, index: int) -> str:
        return f'{self.root}#image-{self._records[index]:09d}'


class FolderDataset(WordDataset):
    """The words of a folder of pictures: a label file, or labels in the files' names."""

    def __init__(self, root: str | Path, rules: LabelRules, transform: Transform | None = None, **options: Any) -> None:
        self._found = read_folder(root)
        if faults := self._found.summary():
            logger.warning('%s', faults)
        self._keeps_missing = not options.get('replace_unreadable', False)  # a test counts them as wrong
        super().__init__(root, rules, transform, **options)

    def raw_labels(self) -> Iterator[tuple[int, str | None]]:
        for record, (label, missing) in enumerate(zip(self._found.labels, self._found.missing, strict=True)):
            if self._keeps_missing or not missing:
                yield record, label

    def absent(self, seen: int) -> Counter[str]:
        missing = len(self._found.labels) - seen
        return self._found.faults + Counter({'picture missing': missing})  # adding leaves out what is 0

    def encoded(self, record: int) -> Path:
        return self._found.folder / self._found.pictures[record]

    def raw_label(self, record: int) -> str:
        return self._found.labels[record]

    def name_of(self, index: int) -> str:
        return str(self._found.folder / self._found.pictures[self._records[index]])


class TreeDataset(Dataset):
    """Several data sets as one, in order."""

    def __init__(self, parts: Sequence[WordDataset]) -> None:
        self.parts = list(parts)
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: int) -> tuple[Any, str]:
        part, index = self._locate(key % len(self))
        return part.item(index, key)

    def _locate(self, index: int) -> tuple[WordDataset, int]:
        at = bisect_right(self._ends, index)
        return self.parts[at], index - (self._ends[at - 1] if at else 0)

    @property
    def dropped(self) -> Counter[str]:
        return sum((part.dropped for part in self.parts), Counter())

    @property
    def unreadable(self) -> list[str]:
        return [name for part in self.parts for name in part.unreadable]

    def name_of(self, index: int) -> str:
        part, index = self._locate(index)
        return part.name_of(index)

    def is_unreadable(self, index: int) -> bool:
        part, index = self._locate(index)
        return part.is_unreadable(index)

    def picture(self, index: int) -> Image.Image:
        part, index = self._locate(index)
        return part.picture(index)

    def label(self, index: int) -> str:
        part, index = self._locate(index)
        return part.label(index)


def find_sets(root: str | Path) -> list[Path]:
    """Every LMDB, labelled folder and label file at or below `root`, sorted; what lies inside one is not searched.

    A folder whose pictures carry their labels in their names counts if it has no folders below it.

    Raises:
        FileNotFoundError: there is nothing, with the commands that would make something.
    """
    root = Path(root)
    if root.is_file():
        return [root.parent if root.name == 'data.mdb' else root]
    if not root.is_dir():
        raise FileNotFoundError(f'{root} does not exist: {HOW_TO_MAKE_DATA}')
    found: list[Path] = []
    seen: set[str] = set()
    for path, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(path)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith('.'))
        is_set = 'data.mdb' in files or any(name in files for name in LABEL_FILES)
        if real not in seen and (is_set or (not folders and any(map(is_picture_name, files)))):
            found.append(Path(path))
            folders.clear()
        seen.add(real)
    if not found and any(is_picture_name(entry.name) for entry in root.iterdir()):
        return [root]
    if not found:
        raise FileNotFoundError(f'{root} holds no LMDB and no folder of labelled pictures: {HOW_TO_MAKE_DATA}')
    return found


def open_set(path: Path, rules: LabelRules, transform: Transform | None = None, **options: Any) -> WordDataset:
    """One data set as `find_sets` lists it; `options` are those of WordDataset."""
    if (path / 'data.mdb').is_file():  # also where it has a label file, of which it was made
        return LmdbDataset(path, rules, transform, **options)
    return FolderDataset(path, rules, transform, **options)


def build_tree_dataset(
    root: str | Path, rules: LabelRules, transform: Transform | None = None, **options: Any
) -> WordDataset | TreeDataset:
    """All data sets at or below `root` as one; `options` are those of WordDataset.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: no word is usable; the message counts the reasons.
    """
    sets = [open_set(path, rules, transform, **options) for path in find_sets(root)]
    dropped: Counter[str] = sum((part.dropped for part in sets), Counter())
    parts = [part for part in sets if len(part)]
    if not parts:
        why = tally(dropped) or 'it holds no records'
        hint = f'; {rules.warning}' if rules.warning else ''
        raise ValueError(f'{root}: no word is usable ({why}){hint}')
    for part in sets:
        if not len(part):
            logger.warning('%s: no word is usable (%s)', part.root, tally(part.dropped) or 'it holds no records')
    return parts[0] if len(parts) == 1 else TreeDataset(parts)


def _shared_flags(count: int) -> torch.Tensor:
    """One flag a record, in memory that workers share whether they are forked or spawned."""
    flags = torch.zeros(count, dtype=torch.bool)
    try:
        return flags.share_memory_()
    except (RuntimeError, OSError) as error:  # no room in /dev/shm: each worker then knows only what it saw itself
        logger.debug('flags of unreadable pictures are not shared (%s)', error)
        return flags
