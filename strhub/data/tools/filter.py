"""`strhub data filter`: keeps the words that meet all criteria, and of pictures that look alike only one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from strhub.data.convert.base import Skipped
from strhub.data.convert.report import Report
from strhub.data.jobs import ordered_map
from strhub.data.lmdb import LmdbWriter
from strhub.data.picture import UnreadablePictureError, image_size, open_image
from strhub.data.tools.likeness import BITS, first_likes, label_hash, matches, picture_hash
from strhub.data.tools.records import Chunk, Item, StoredWord, Words, check_targets, write

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Criteria:
    """What a word has to be like; None asks for nothing. Labels count as they are stored."""

    min_size: int | None = None  # of either side, in pixels
    max_size: int | None = None
    min_aspect: float | None = None  # width / height
    max_aspect: float | None = None
    min_length: int | None = None  # of the label, in characters
    max_length: int | None = None
    charset: str | None = None
    match: str | None = None  # found anywhere in the label
    not_match: str | None = None

    @property
    def asks_for_pictures(self) -> bool:
        return any(value is not None for value in (self.min_size, self.max_size, self.min_aspect, self.max_aspect))

    def fault(self, record: StoredWord) -> str | None:
        """Why a record is left out; None if it is kept."""
        return self._fault_of_label(record.label) or (self._fault_of_size(record) if self.asks_for_pictures else None)

    def _fault_of_label(self, label: str) -> str | None:
        if self.min_length is not None and len(label) < self.min_length:
            return f'label shorter than {self.min_length} characters'
        if self.max_length is not None and len(label) > self.max_length:
            return f'label longer than {self.max_length} characters'
        if self.charset is not None and not set(self.charset).issuperset(label):
            return 'label with a character outside the charset'
        if self.match is not None and not re.search(self.match, label):
            return f'label without a match of {self.match}'
        if self.not_match is not None and re.search(self.not_match, label):
            return f'label with a match of {self.not_match}'
        return None

    def _fault_of_size(self, record: StoredWord) -> str | None:
        size = image_size(record.image)
        if size is None:
            return 'picture unreadable'
        if self.min_size is not None and min(size) < self.min_size:
            return f'picture with a side under {self.min_size} pixels'
        if self.max_size is not None and max(size) > self.max_size:
            return f'picture with a side over {self.max_size} pixels'
        if self.min_aspect is not None and size[0] / size[1] < self.min_aspect:
            return f'picture under {self.min_aspect:g} times as wide as high'
        if self.max_aspect is not None and size[0] / size[1] > self.max_aspect:
            return f'picture over {self.max_aspect:g} times as wide as high'
        return None


@dataclass(frozen=True)
class Likeness:
    """Which pictures count as the same, and where to look for them."""

    unlike: tuple[Path, ...] = ()  # sets in which none of the words may be
    unique: bool = False  # of the words themselves, only the first of those that look alike is kept
    distance: int = 20  # bits of the hash
    same_label: bool = False  # only where the labels agree, too

    def __bool__(self) -> bool:
        return bool(self.unlike) or self.unique


class Like(NamedTuple):
    """A word that is left out for its likeness to another."""

    word: str
    label: str
    other: str
    other_label: str
    bits: int


class Look:
    """Judges a chunk, and hashes what is kept of it; travels to the workers."""

    def __init__(self, criteria: Criteria, *, hashing: bool) -> None:
        self.criteria, self.hashing = criteria, hashing

    def __call__(self, chunk: Chunk) -> tuple[list[Skipped | None], np.ndarray, np.ndarray]:
        """Returns the verdicts, and the hashes of pictures and of labels where they are kept."""
        verdicts: list[Skipped | None] = []
        pictures, labels = [], []
        for item in chunk:
            verdict = item if isinstance(item, Skipped) else self._judge(item)
            if verdict is None and self.hashing:
                assert isinstance(item, StoredWord)
                try:
                    pictures.append(picture_hash(open_image(item.image)))
                    labels.append(label_hash(item.label))
                except UnreadablePictureError:
                    verdict = Skipped('picture unreadable', item.name)
            verdicts.append(verdict)
        return verdicts, np.array(pictures, np.uint16).reshape(-1, BITS // 16), np.array(labels, np.uint64)

    def _judge(self, record: StoredWord) -> Skipped | None:
        reason = self.criteria.fault(record)
        return None if reason is None else Skipped(reason, record.name)


class Looked:
    """All verdicts on some words, and the hashes of those that are kept so far."""

    def __init__(self, words: Words, look: Look, workers: int, progress: Progress) -> None:
        self.words = words
        self.verdicts: list[Skipped | None] = []
        pictures, labels = [np.empty((0, BITS // 16), np.uint16)], [np.empty(0, np.uint64)]
        with ordered_map(look, min(workers, len(words.chunks))) as work:
            for verdicts, some_pictures, some_labels in work(words.chunks):
                self.verdicts += verdicts
                pictures.append(some_pictures)
                labels.append(some_labels)
                progress(len(verdicts))
        self.pictures, self.labels = np.concatenate(pictures), np.concatenate(labels)
        self.places = np.array([at for at, verdict in enumerate(self.verdicts) if verdict is None], np.int64)

    def drop(self, at: int, other: Looked, other_at: int, bits: int, reason: str) -> Like:
        """Leaves out the word with the hash `at`, for the other's with the hash `other_at`."""
        word, like = self.words[self.places[at]], other.words[other.places[other_at]]
        assert isinstance(word, StoredWord)
        assert isinstance(like, StoredWord)
        self.verdicts[self.places[at]] = Skipped(reason, f'{word.name} ({like.name})')
        return Like(word.name, word.label, like.name, like.label, bits)

    def keep_only(self, kept: np.ndarray) -> None:
        """Forgets the hashes of all others."""
        self.pictures, self.labels, self.places = self.pictures[kept], self.labels[kept], self.places[kept]


def _save(likes: Sequence[Like], path: Path) -> None:
    """As a table, whose cells may hold tabs and line breaks, whole or not at all."""
    lines = ['\t'.join(Like._fields)]
    lines += [
        '\t'.join(json.dumps(cell, ensure_ascii=False)[1:-1] for cell in like[:-1]) + f'\t{like.bits}' for like in likes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text('\n'.join(lines) + '\n', encoding='utf-8', errors='backslashreplace')
    partial.replace(path)


def filter_words(
    words: Words,
    target: Path,
    criteria: Criteria,
    likeness: Likeness,
    *,
    note: Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = lambda done: None,
) -> tuple[Report, list[Like]]:
    """Writes the words that meet all criteria and look like none that they should not to the LMDB `target`.

    Args:
        note: where to list what looks like what, which is done even if no word is left to write.
        progress: called with the number of words done, once for each word looked at, and for each written or skipped.
    """
    check_targets(words, target)
    writer = LmdbWriter(target, overwrite=overwrite)  # refuses what it would not write before all are looked at
    look = Look(criteria, hashing=bool(likeness))
    likes: list[Like] = []
    if likeness:
        looked = Looked(words, look, workers, progress)
        for path in likeness.unlike:
            likes += _drop_unlike(
                looked, Looked(Words([path]), Look(Criteria(), hashing=True), workers, progress), path, likeness
            )
        if likeness.unique:
            likes += _drop_repeats(looked, likeness)
        if note:
            _save(likes, note)
        return write(_items(words, looked.verdicts), writer, progress=progress), likes
    with ordered_map(look, min(workers, len(words.chunks)) if criteria.asks_for_pictures else 1) as work:
        verdicts = chain.from_iterable(verdicts for verdicts, _, _ in work(words.chunks))
        return write(_items(words, verdicts), writer, progress=progress), likes


def _items(words: Words, verdicts: Iterator[Skipped | None] | Sequence[Skipped | None]) -> Iterator[Item]:
    yield from words.faults
    for item, verdict in zip(words, verdicts, strict=True):
        yield verdict or item


def _drop_unlike(looked: Looked, other: Looked, path: Path, likeness: Likeness) -> Iterator[Like]:
    groups = (looked.labels, other.labels) if likeness.same_label else None
    found = matches(looked.pictures, other.pictures, likeness.distance, groups)
    found = found[np.lexsort([found[:, 2], found[:, 0]])]  # of each word the nearest first
    _, firsts = np.unique(found[:, 0], return_index=True)
    for at, other_at, bits in found[firsts].tolist():
        yield looked.drop(at, other, other_at, bits, f'picture like one in {path}')
    looked.keep_only(np.setdiff1d(np.arange(len(looked.places)), found[:, 0]))


def _drop_repeats(looked: Looked, likeness: Likeness) -> Iterator[Like]:
    groups = looked.labels if likeness.same_label else None
    for at, (other_at, bits) in sorted(first_likes(looked.pictures, likeness.distance, groups).items()):
        yield looked.drop(at, looked, other_at, bits, 'picture like an earlier one')
