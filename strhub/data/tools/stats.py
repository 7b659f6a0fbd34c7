"""`strhub data stats`: what is stored, before any rule; `strhub inspect` shows what training makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strhub.data import summary
from strhub.data.convert.base import Skipped
from strhub.data.jobs import ordered_map
from strhub.data.picture import image_header
from strhub.data.tools.records import Chunk, Words

MOST_LABELS = 10  # of those that occur most often


def _no_sizes() -> list[np.ndarray]:
    return [np.empty((0, 2), np.int32)]


@dataclass
class Stats:
    """What a set holds, or a part of one; parts add up."""

    words: int = 0
    bytes: int = 0  # of the pictures
    unreadable: int = 0  # pictures without a readable header
    faults: Counter[str] = field(default_factory=Counter)  # records that are no words, by reason
    formats: Counter[str] = field(default_factory=Counter)
    sizes: list[np.ndarray] = field(default_factory=_no_sizes)  # width and height
    labels: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Stats) -> Stats:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                mine += value  # a list grows in place
                setattr(self, name, mine)
        return self

    @property
    def lengths(self) -> Counter[int]:
        """Of the labels, in characters."""
        lengths: Counter[int] = Counter()
        for label, count in self.labels.items():
            lengths[len(label)] += count
        return lengths

    @property
    def characters(self) -> Counter[str]:
        characters: Counter[str] = Counter()
        for label, count in self.labels.items():
            for character in label:
                characters[character] += count
        return characters

    def as_dict(self) -> dict[str, Any]:
        """All counts, for JSON."""
        sizes = np.concatenate(self.sizes)
        spread = {}
        if len(sizes):
            rows = {'width': sizes[:, 0], 'height': sizes[:, 1], 'aspect': sizes[:, 0] / sizes[:, 1]}
            marks = {'smallest': 0, 'tenth': 10, 'median': 50, 'ninetieth': 90, 'largest': 100}
            spread = {
                name: {mark: float(np.percentile(row, percent)) for mark, percent in marks.items()}
                for name, row in rows.items()
            }
        return {
            'words': self.words,
            'picture_bytes': self.bytes,
            'faults': dict(self.faults.most_common()),
            'formats': dict(self.formats.most_common()),
            'unreadable_headers': self.unreadable,
            'sizes': spread,
            'label_lengths': dict(sorted(self.lengths.items())),
            'characters': dict(self.characters.most_common()),
            'different_labels': len(self.labels),
            'most_frequent_labels': dict(self.labels.most_common(MOST_LABELS)),
        }

    def lines(self) -> Iterator[str]:
        """The report for people."""
        yield f'{summary.counted(self.words, "word")}, {self.bytes / 1e6:.1f} MB of pictures'
        for reason, count in self.faults.most_common():
            yield f'  and {summary.counted(count, reason)}'
        yield 'formats: ' + (', '.join(f'{name} {count}' for name, count in self.formats.most_common()) or 'none')
        several = sum(count > 1 for count in self.labels.values())
        yield f'{summary.counted(len(self.labels), "different label")}, {several} of them several times'
        for label, count in self.labels.most_common(MOST_LABELS):
            yield f'  {count:>9} {label!r}'
        yield '\nlength of the labels'
        yield from summary.bars(self.lengths)
        characters = self.characters
        yield f'\ncharacters: {characters.total()} of {len(characters)} kinds'
        yield from summary.characters(characters, len(characters))
        yield from summary.sizes(np.concatenate(self.sizes), self.unreadable)


def measure(chunk: Chunk) -> Stats:
    """The numbers of some words."""
    stats = Stats()
    sizes = []
    for item in chunk:
        if isinstance(item, Skipped):
            stats.faults[item.reason] += item.count
            continue
        stats.words += 1
        stats.bytes += len(item.image)
        stats.labels[item.label] += 1
        header = image_header(item.image)
        if header is None:
            stats.unreadable += 1
        else:
            stats.formats[header[0]] += 1
            sizes.append(header[1])
    stats.sizes = [np.array(sizes, np.int32).reshape(-1, 2)]
    return stats


def measure_all(words: Words, *, workers: int = 1, progress: Callable[[int], object] = lambda done: None) -> Stats:
    """The numbers of all words."""
    stats = Stats()
    for fault in words.faults:
        stats.faults[fault.reason] += fault.count
    with ordered_map(measure, min(workers, len(words.chunks))) as work:
        for chunk, part in zip(words.chunks, work(words.chunks), strict=True):
            stats += part
            progress(len(chunk))
    return stats
