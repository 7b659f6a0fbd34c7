"""Labels of a folder of pictures: those of a label file, in a format of strhub.data.labelformats, or the files' names.

A label in a name is the name without its ending and without `_123` behind it, or else without `123_` before it:
`Exit_7.png` and `7_Exit.png` both say `Exit`; so does `Exit.png`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from strhub.data.labelformats import PARSERS, Fault, parse
from strhub.data.labels import tally

LABEL_FILES = ('labels.tsv', 'labels.csv', 'labels.jsonl', 'gt.txt')
PICTURE_SUFFIXES = {
    *('.avif', '.bmp', '.gif', '.ico', '.jfif', '.jp2', '.jpeg', '.jpg', '.pbm', '.pgm', '.png', '.pnm', '.ppm'),
    *('.tga', '.tif', '.tiff', '.webp'),
}
MAX_NAMED = 3  # faults told by line; of the others the count is enough

NUMBER_BEHIND = re.compile(r'(.+)_\d+', re.DOTALL)
NUMBER_BEFORE = re.compile(r'\d+_(.+)', re.DOTALL)


@dataclass
class LabelledFolder:
    """Pictures (relative to `folder`) with their labels, and what is wrong with what was said of them."""

    source: Path  # the label file, or the folder where names are the labels
    folder: Path
    pictures: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)  # there is no such picture
    faults: Counter[str] = field(default_factory=Counter)  # lines left out, by reason
    examples: list[str] = field(default_factory=list)  # `line 7: …`, the first few of the faults and missing pictures

    def note(self, fault: Fault) -> None:
        """Keeps a fault to be told as an example, if there is room."""
        if len(self.examples) < MAX_NAMED:
            detail = fault.detail[:80].encode(errors='replace').decode()
            self.examples.append(f'line {fault.line}: {fault.reason}' + (f' ({detail!r})' if detail else ''))

    def summary(self) -> str:
        """The faults in one sentence; empty if there are none."""
        reasons = self.faults + Counter({'picture missing': sum(self.missing)})  # adding leaves out what is 0
        if not reasons:
            return ''
        total = len(self.labels) + sum(self.faults.values())
        more = '; …' if sum(reasons.values()) > len(self.examples) else ''
        return f'{self.source}: of {total} lines {tally(reasons)} ({"; ".join(self.examples)}{more})'


def is_picture_name(name: str) -> bool:
    return not name.startswith('.') and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122


def label_of_name(name: str) -> str:
    """The label that a file's name holds; see the top of this file."""
    stem = os.path.splitext(name)[0]  # noqa: PTH122  (half of pathlib's price, for millions of names)
    match = NUMBER_BEHIND.fullmatch(stem) or NUMBER_BEFORE.fullmatch(stem)
    return match[1] if match else stem


def read_folder(path: str | Path) -> LabelledFolder:
    """Reads the labels of a folder, or those of a label file given by its path.

    Of several label files in a folder the first of `LABEL_FILES` counts.

    Raises:
        FileNotFoundError: there is no such path, or the folder holds neither labels nor pictures.
        ValueError: more lines are broken than are not, or the names of the files are no labels.
    """
    path = Path(path)
    if path.is_dir():
        file = next((path / name for name in LABEL_FILES if (path / name).is_file()), None)
        return read_label_file(file) if file else read_names(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: give a folder of pictures or its label file')
    return read_label_file(path)


def read_label_file(path: Path) -> LabelledFolder:
    """Reads a label file of any format; lines that cannot be used are counted and the first ones named."""
    suffix = path.suffix.lower()
    if suffix not in PARSERS:
        raise ValueError(f'{path} is not a label file: accepted are {", ".join(PARSERS)}')
    found = LabelledFolder(path, path.parent)
    present = _Presence(path.parent)
    try:
        for entry in parse(path.read_bytes(), suffix):
            if isinstance(entry, Fault):
                found.faults[entry.reason] += 1
                found.note(entry)
                continue
            there = present(entry.picture)
            found.pictures.append(there or entry.picture)
            found.labels.append(entry.label)
            found.missing.append(there is None)
            if there is None:
                found.note(Fault(entry.line, 'picture missing', entry.picture))
    except ValueError as error:
        raise ValueError(f'{path} {error}') from None
    if not found.labels and not found.faults:
        raise ValueError(f'{path} is empty: expected a picture and its label on each line')
    if sum(found.faults.values()) > len(found.labels) or all(found.missing):
        raise ValueError(
            f'most lines cannot be used: {found.summary()}; see `strhub convert folder --help` for the formats'
        )
    return found


def read_names(folder: Path) -> LabelledFolder:
    """Takes the labels from the names of the pictures in `folder` itself."""
    names = sorted(name for name in _files_in(folder) if is_picture_name(name))
    if not names:
        raise FileNotFoundError(
            f'{folder} holds no pictures and none of {", ".join(LABEL_FILES)}: give a folder with labelled pictures, '
            'or make data with `strhub convert folder SRC DST` or `strhub render`'
        )
    labels = [label_of_name(name) for name in names]
    # word_1.png, word_2.png … and 0001.png, 0002.png … are numbered, not labelled: to learn them would be nonsense.
    if len(names) > 2 and (len(set(labels)) == 1 or all(os.path.splitext(name)[0].isdigit() for name in names)):  # noqa: PTH122
        files = (path for place in (folder, folder.parent) for path in sorted(place.iterdir()))
        other = next((p for p in files if p.suffix in PARSERS and p.stem.startswith(('label', 'gt'))), None)
        remedy = f'there is {other}: give that path' if other else 'write a label file'
        raise ValueError(
            f'{folder} has no label file ({", ".join(LABEL_FILES)}) and its pictures are numbered, not named after '
            f'their labels: {names[0]}, {names[1]} …; {remedy}'
        )
    return LabelledFolder(folder, folder, names, labels, [False] * len(names))


class _Presence:
    """Finds pictures below a folder, listing each folder once: a million calls of `stat` take minutes on a network."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, set[str]] = {}

    def __call__(self, picture: str) -> str | None:
        """The picture's path with the slashes of this world, None if it is not there."""
        for path in (picture, picture.replace('\\', '/')):
            folder, _, name = path.rpartition('/')
            if folder not in self._names:
                self._names[folder] = self._list(folder)
            if name in self._names[folder]:
                return path
        return None

    def _list(self, folder: str) -> set[str]:
        try:
            return set(_files_in(self.root / folder))
        except OSError:
            return set()


def _files_in(folder: Path) -> Iterator[str]:
    for entry in os.scandir(folder):
        with suppress(OSError):  # a link that leads to itself
            if entry.is_file():
                yield entry.name
