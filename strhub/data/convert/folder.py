"""Folders of pictures with labels, in any form that strhub.data.labelfile reads, and trees of such folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strhub.data.convert.base import Skipped, Word
from strhub.data.dataset import find_sets
from strhub.data.labelfile import read_folder


def folder(root: Path) -> Iterator[Word | Skipped]:
    """All words of the labelled folders at or below `root`, or of a label file."""
    for path in find_sets(root):
        if path.is_dir() and (path / 'data.mdb').is_file():
            raise ValueError(f'{path} is an LMDB already: give a folder of pictures')
        found = read_folder(path)
        for reason, count in found.faults.items():
            examples = [example for example in found.examples if reason in example]
            yield Skipped(reason, f'{found.source} {"; ".join(examples)}', count)
        for picture, label, missing in zip(found.pictures, found.labels, found.missing, strict=True):
            place = found.folder / picture
            yield Skipped('picture missing', str(place)) if missing else Word(place, label)
