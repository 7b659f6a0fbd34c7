"""Words of any source, LMDB or labelled folder, as one sequence in small parts that other processes can read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

from strhub.data.convert.base import Skipped
from strhub.data.convert.report import Report
from strhub.data.lmdb import LmdbReader, LmdbWriter, decode, is_lmdb

CHUNK = 256  # words a process takes at a time


class StoredWord(NamedTuple):
    """A picture, encoded, and its label, both as they are stored."""

    name: str
    image: bytes
    label: str


Item: TypeAlias = StoredWord | Skipped


@dataclass(frozen=True)
class LmdbChunk:
    """Neighbouring records of an LMDB."""

    path: Path
    records: range

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Item]:
        reader = LmdbReader(self.path)
        for record in self.records:
            yield _read(reader, record)

    def __getitem__(self, at: int) -> Item:
        return _read(LmdbReader(self.path), self.records[at])


def _read(reader: LmdbReader, record: int) -> Item:
    name = f'{reader.path}#image-{record:09d}'
    try:
        image, encoded = reader.image(record), reader.encoded_label(record)
    except ValueError:
        return Skipped('record damaged', name)
    if not image:
        return Skipped('picture missing', name)
    label = None if encoded is None else decode(encoded)
    if label is None:
        return Skipped('label missing' if encoded is None else 'label not UTF-8', name)
    return StoredWord(name, image, label) if label.strip() else Skipped('empty label', name)


@dataclass(frozen=True)
class FolderChunk:
    """Neighbouring words of a labelled folder."""

    folder: Path
    pictures: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Item]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> Item:
        path = self.folder / self.pictures[at]
        try:
            image = path.read_bytes()
        except FileNotFoundError:
            return Skipped('picture missing', str(path))
        except OSError:
            return Skipped('picture unreadable', str(path))
        if not self.labels[at].strip():
            return Skipped('empty label', str(path))
        return StoredWord(str(path), image, self.labels[at])


Chunk: TypeAlias = LmdbChunk | FolderChunk


class Words:
    """All words of the sets at or below the given paths, in order; nothing is read before it is asked for.

    Args:
        count: how many records an LMDB has, by its path; default: as many as it says.
    """

    def __init__(self, sources: Iterable[Path], *, count: Callable[[Path], int] | None = None) -> None:
        from strhub.data.dataset import find_sets  # brings torch, for which worker processes need not wait

        self.sets = [path for source in sources for path in find_sets(source)]
        self.faults: list[Skipped] = []  # lines of label files which name no word
        self.chunks: list[Chunk] = []
        for path in self.sets:
            if is_lmdb(path):
                end = 1 + (count(path) if count else len(LmdbReader(path)))
                self.chunks += [LmdbChunk(path, range(at, min(at + CHUNK, end))) for at in range(1, end, CHUNK)]
            else:
                self.chunks += self._open_folder(path)
        self._ends = list(accumulate(map(len, self.chunks)))

    @property
    def items(self) -> Iterator[Item]:
        """The words, and before them the lines that name none."""
        return chain(self.faults, self)

    def _open_folder(self, path: Path) -> Iterator[Chunk]:
        from strhub.data.labelfile import read_folder

        found = read_folder(path)
        self.faults += [Skipped(reason, str(found.source), count) for reason, count in found.faults.items()]
        for start in range(0, len(found.labels), CHUNK):
            part = slice(start, start + CHUNK)
            yield FolderChunk(found.folder, tuple(found.pictures[part]), tuple(found.labels[part]))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self.chunks)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = bisect_right(self._ends, index)
        return self.chunks[at][index - (self._ends[at - 1] if at else 0)]


def check_targets(words: Words, *targets: Path) -> None:
    """Refuses a target that is one of the sources, which would be gone if the result is not what was wanted."""
    places = [path.resolve() for path in words.sets]
    for target in targets:
        if target.resolve() in places:
            raise ValueError(f'{target} is one of the sources, or named twice: give another name')
        places.append(target.resolve())  # nor may another target be there


def write(
    items: Iterable[Item], writer: LmdbWriter, *, progress: Callable[[int], object] = lambda done: None
) -> Report:
    """Writes the words among `items`; the LMDB appears only when it is complete.

    Raises:
        ValueError: there is none; the message counts the reasons.
    """
    report = Report()
    with writer:
        for item in items:
            if isinstance(item, Skipped):
                report.skip(item)
            else:
                writer.write(item.image, item.label)
                report.kept += 1
            progress(1)
        if not report.kept:
            from strhub.data.labels import tally

            why = tally(report.skipped) or 'there are no words'
            raise ValueError(f'no word is left, so {writer.path} was not made: {why}')
    return report
