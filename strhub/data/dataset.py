"""Data sets of labelled pictures: LMDBs, folders, and trees of both, behind one interface (see strhub.data.base)."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from strhub.data.base import Transform, WordDataset
from strhub.data.labelfile import LABEL_FILES, is_picture_name, read_folder
from strhub.data.labelindex import MIN_RECORDS, Selection, identify, select
from strhub.data.labels import LabelRules, tally

logger = logging.getLogger(__name__)

HOW_TO_MAKE_DATA = (
    'put LMDBs or labelled folders there, make an LMDB with `strhub convert folder SRC DST`, '
    'render words with `strhub render`, or train without any data by dataset=rendered'
)


class LmdbDataset(WordDataset):
    """The words of an LMDB."""

    def __init__(self, root: str | Path, rules: LabelRules, transform: Transform | None = None, **options: Any) -> None:
        from strhub.data.lmdb import LmdbReader

        self._reader = LmdbReader(root)
        super().__init__(root, rules, transform, **options)
        self._reader.close()  # each process that reads opens it for itself

    def __getstate__(self) -> dict[str, Any]:
        # records that lie in a file do not travel: the other process opens the file
        return {**self.__dict__, '_selection': None} if self._selection.is_mapped else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._selection is None:
            self._selection = self._select()
            self._reader.close()
            if len(self) != len(self._unreadable):
                raise ValueError(f'{self.root} was changed while it was in use: start again')

    def _select(self) -> Selection:
        database = identify(self.root)
        if len(self._reader) < MIN_RECORDS:  # this opens it
            return self._scan()
        rules = {**self.rules.identity, 'min_image_dim': max(self.min_image_dim, 0)}
        return select(self.root, rules, self._scan, database=database)

    def _scan(self) -> Selection:
        """Reads every label; most are judged many at once."""
        from strhub.data.lmdb import decode

        records: list[np.ndarray] = []
        dropped: Counter[str] = Counter()
        for first, values in self._reader.encoded_labels():
            keep = self.rules.keep([value or b'' for value in values])
            for at in np.flatnonzero(~keep if self.min_image_dim < 1 else np.ones_like(keep)):
                value, record = values[at], first + int(at)
                reason = 'record without a label' if value is None else self._reason(record, decode(value))
                keep[at] = reason is None
                if reason is not None:
                    dropped[reason] += 1
            records.append(first + np.flatnonzero(keep).astype(np.uint32))
        return Selection(np.concatenate([*records, np.empty(0, np.uint32)]), dropped)

    def raw_labels(self) -> Iterator[tuple[int, str | None]]:
        return self._reader.labels()

    def encoded(self, record: int) -> bytes:
        return self._reader.image(record) or b''  # no bytes are no picture, which the decoder says

    def raw_label(self, record: int) -> str:
        return self._reader.label(record) or ''

    def read(self, indices: Sequence[int]) -> list[tuple[bytes | Path, str]]:
        from strhub.data.lmdb import decode, image_key, label_key

        records = self.records[indices].tolist()
        values = self._reader.values([*map(image_key, records), *map(label_key, records)])
        labels = [decode(value or b'') or '' for value in values[len(records) :]]
        return [(image or b'', label) for image, label in zip(values, labels, strict=False)]

    def name_of(self, index: int) -> str:
        return f'{self.root}#image-{self.records[index]:09d}'


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

    def _select(self) -> Selection:
        reasons = {record: self._reason(record, label) for record, label in self.raw_labels()}
        records = [record for record, reason in reasons.items() if reason is None]
        dropped = Counter(reason for reason in reasons.values() if reason is not None)
        missing = len(self._found.labels) - len(reasons)
        # adding leaves out what is 0
        return Selection(
            np.array(records, np.uint32), dropped + self._found.faults + Counter({'picture missing': missing})
        )

    def encoded(self, record: int) -> Path:
        return self._found.folder / self._found.pictures[record]

    def raw_label(self, record: int) -> str:
        return self._found.labels[record]

    def name_of(self, index: int) -> str:
        return str(self._found.folder / self._found.pictures[self.records[index]])


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
        return self.item(key % len(self), key)

    def __getitems__(self, keys: Sequence[int]) -> list[tuple[Any, str]]:
        return self.items([(key % len(self), key) for key in keys])

    def item(self, index: int, key: int) -> tuple[Any, str]:
        """The picture and label of `index`, with the randomness of (seed, key)."""
        part, index = self._locate(index)
        return part.item(index, key)

    def items(self, places: Sequence[tuple[int, int]]) -> list[tuple[Any, str]]:
        """`item(index, key)` of each pair."""
        located = [self._locate(index) for index, _ in places]
        return items_of([(part, index, key) for (part, index), (_, key) in zip(located, places, strict=True)])

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


def items_of(places: Sequence[tuple[WordDataset | TreeDataset, int, int]]) -> list[tuple[Any, str]]:
    """`part.item(index, key)` of each (part, index, key): those of a part together, which is quicker."""
    groups: dict[int, list[int]] = {}
    for at, (part, _, _) in enumerate(places):
        groups.setdefault(id(part), []).append(at)
    found: dict[int, tuple[Any, str]] = {}
    for group in groups.values():
        part = places[group[0]][0]
        found.update(zip(group, part.items([places[at][1:] for at in group]), strict=True))
    return [found[at] for at in range(len(places))]


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
