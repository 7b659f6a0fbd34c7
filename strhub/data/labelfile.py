"""Labels of a folder of pictures: labels.tsv, labels.csv, labels.jsonl, ICDAR's gt.txt, or the names of the files.

    labels.tsv     picture<TAB>label; no quoting, a further tab belongs to the label
    labels.csv     picture,label; quoted as spreadsheets do; a first row may name the columns
    labels.jsonl   {"image": picture, "label": label} on each line
    gt.txt         picture, "label" with \\" for a quote (ICDAR), or as labels.tsv
    (no file)      the label is the picture's name without its ending and without `_123` behind it, or else without
                   `123_` before it: `Exit_7.png` and `7_Exit.png` both say `Exit`; so does `Exit.png`

All are UTF-8, with or without a byte order mark. Pictures are paths relative to the folder of the file, and below it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from strhub.data.labels import tally

LABEL_FILES = ('labels.tsv', 'labels.csv', 'labels.jsonl', 'gt.txt')
LABEL_SUFFIXES = {'.tsv', '.csv', '.jsonl', '.txt'}
PICTURE_SUFFIXES = {
    *('.avif', '.bmp', '.gif', '.ico', '.jfif', '.jp2', '.jpeg', '.jpg', '.pbm', '.pgm', '.png', '.pnm', '.ppm'),
    *('.tga', '.tif', '.tiff', '.webp'),
}
PICTURE_COLUMNS = ('image', 'picture', 'path', 'file', 'filename', 'file_name', 'image_path', 'img', 'name')
LABEL_COLUMNS = ('label', 'text', 'word', 'words', 'transcription', 'gt')
MAX_NAMED = 3  # faults told by line; of the others the count is enough

ICDAR_LINE = re.compile(r'([^\t]+?)\s*,\s*"(.*)"\s*', re.DOTALL)
NUMBER_BEHIND = re.compile(r'(.+)_\d+', re.DOTALL)
NUMBER_BEFORE = re.compile(r'\d+_(.+)', re.DOTALL)

Row = tuple[int, str, str]  # line, picture, label


class _FaultError(ValueError):
    """One line that cannot be used: (reason, what the line says)."""


@dataclass
class LabelledFolder:
    """What a label file says: pictures (relative to `folder`) with their labels, and what is wrong with it."""

    source: Path  # the label file, or the folder where names are the labels
    folder: Path
    pictures: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)  # there is no such picture
    faults: Counter[str] = field(default_factory=Counter)  # lines left out, by reason
    examples: list[str] = field(default_factory=list)  # `line 7: …`, the first few of the faults and missing pictures

    def note(self, line: int, reason: str, detail: str) -> None:
        if len(self.examples) < MAX_NAMED:
            self.examples.append(f'line {line}: {reason}' + (f' ({detail[:80]!r})' if detail else ''))

    def summary(self) -> str:
        """The faults in one sentence; empty if there are none."""
        reasons = self.faults.copy()
        if absent := sum(self.missing):
            reasons['picture missing'] += absent
        if not reasons:
            return ''
        total = len(self.labels) + sum(self.faults.values())
        more = '; …' if sum(reasons.values()) > len(self.examples) else ''
        return f'{self.source}: of {total} lines {tally(reasons)} ({"; ".join(self.examples)}{more})'


def find_label_file(folder: Path) -> Path | None:
    """The label file of a folder, if it has one; the first of `LABEL_FILES` if it has several."""
    return next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)


def is_picture_name(name: str) -> bool:
    return not name.startswith('.') and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122


def label_of_name(name: str) -> str:
    """The label that a file's name holds; see the top of this file."""
    stem = os.path.splitext(name)[0]  # noqa: PTH122  (half of pathlib's price, for millions of names)
    match = NUMBER_BEHIND.fullmatch(stem) or NUMBER_BEFORE.fullmatch(stem)
    return match[1] if match else stem


def read_folder(path: str | Path) -> LabelledFolder:
    """Reads the labels of a folder, or those of a label file given by its path.

    Raises:
        FileNotFoundError: there is no such path, or the folder holds neither labels nor pictures.
        ValueError: more lines are broken than are not, or the names of the files are no labels.
    """
    path = Path(path)
    if path.is_dir():
        file = find_label_file(path)
        return read_label_file(file) if file else read_names(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: give a folder of pictures or its label file')
    return read_label_file(path)


def read_label_file(path: Path) -> LabelledFolder:
    """Reads a label file of any of the four formats; lines that cannot be used are counted and the first ones named."""
    if path.suffix.lower() not in LABEL_SUFFIXES:
        raise ValueError(f'{path} is not a label file: accepted are {", ".join(sorted(LABEL_SUFFIXES))}')
    raw = path.read_bytes()
    if raw.startswith((b'\xff\xfe', b'\xfe\xff')):
        raise ValueError(f'{path} is UTF-16: save it as UTF-8')
    # What is not UTF-8 becomes lone surrogates, which show below which lines it is in.
    text = raw.removeprefix(b'\xef\xbb\xbf').decode('utf-8', 'surrogateescape')
    found = LabelledFolder(path, path.parent)
    present = _Presence(path.parent)
    for row in PARSERS[path.suffix.lower()](text, found):
        try:
            picture, label = _check(*row[1:])
        except _FaultError as fault:
            reason, detail = fault.args
            found.faults[reason] += 1
            found.note(row[0], reason, detail)
            continue
        there = present(picture)
        found.pictures.append(there or picture)
        found.labels.append(label)
        found.missing.append(there is None)
        if there is None:
            found.note(row[0], 'picture missing', picture)
    _judge(found)
    return found


def _judge(found: LabelledFolder) -> None:
    if not found.labels and not found.faults:
        raise ValueError(f'{found.source} is empty: expected a picture and its label on each line')
    if sum(found.faults.values()) > len(found.labels) or all(found.missing):
        raise ValueError(
            f'most lines cannot be used: {found.summary()}; see `strhub convert folder --help` for the formats'
        )


def read_names(folder: Path) -> LabelledFolder:
    """Takes the labels from the names of the pictures in `folder` itself."""
    names = sorted(entry.name for entry in os.scandir(folder) if is_picture_name(entry.name) and entry.is_file())
    if not names:
        raise FileNotFoundError(
            f'{folder} holds no pictures and none of {", ".join(LABEL_FILES)}: give a folder with labelled pictures, '
            'or make data with `strhub convert folder SRC DST` or `strhub render`'
        )
    labels = [label_of_name(name) for name in names]
    # word_1.png, word_2.png … and 0001.png, 0002.png … are numbered, not labelled: to learn them would be nonsense.
    if len(names) > 2 and (len(set(labels)) == 1 or all(os.path.splitext(name)[0].isdigit() for name in names)):  # noqa: PTH122
        files = (path for place in (folder, folder.parent) for path in sorted(place.iterdir()))
        other = next((p for p in files if p.suffix in LABEL_SUFFIXES and p.stem.startswith(('label', 'gt'))), None)
        hint = f'; there is {other}: give that path' if other else ''
        raise ValueError(
            f'{folder} has no label file ({", ".join(LABEL_FILES)}) and its pictures are numbered, not named after '
            f'their labels: {names[0]}, {names[1]} …{hint}'
        )
    return LabelledFolder(folder, folder, names, labels, [False] * len(names))


def _check(picture: str, label: str) -> tuple[str, str]:
    if not _is_utf8(picture) or not _is_utf8(label):
        raise _FaultError('not UTF-8', '')
    if not picture or '\0' in picture:
        raise _FaultError('no picture', picture)
    if (
        posixpath.isabs(picture)
        or '..' in picture.replace('\\', '/').split('/')
        or re.match(r'[A-Za-z]:[\\/]', picture)
    ):
        raise _FaultError('picture outside the folder', picture)
    if not label.strip():
        raise _FaultError('empty label', picture)
    return picture, label


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
            return {entry.name for entry in os.scandir(self.root / folder) if entry.is_file()}
        except OSError:
            return set()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # str.splitlines would also split at characters that may stand in a label
    for number, line in enumerate(text.split('\n'), 1):
        line = line.removesuffix('\r')
        if line.strip():
            yield number, line


def _is_header(cells: list[str]) -> bool:
    names = [cell.strip().lower() for cell in cells]
    return any(name in PICTURE_COLUMNS for name in names) and any(name in LABEL_COLUMNS for name in names)


def _reject(found: LabelledFolder, line: int, reason: str, detail: str) -> None:
    found.faults[reason] += 1
    found.note(line, reason, detail.encode('utf-8', 'replace').decode())


def _tsv(text: str, found: LabelledFolder) -> Iterator[Row]:
    for number, line in _lines(text):
        picture, tab, label = line.partition('\t')
        if not tab:
            _reject(found, number, 'no tab between picture and label', line)
        elif number > 1 or not _is_header([picture, label]):
            yield number, picture.strip(), label


def _icdar(text: str, found: LabelledFolder) -> Iterator[Row]:
    for number, line in _lines(text):
        if match := ICDAR_LINE.fullmatch(line):
            yield number, match[1].strip(), re.sub(r'\\(["\\])', r'\1', match[2])
            continue
        picture, separator, label = line.partition('\t' if '\t' in line else ',')
        if not separator:
            _reject(found, number, 'neither `picture, "label"` nor a tab', line)
        else:
            yield number, picture.strip(), label if separator == '\t' else label.strip()


def _csv(text: str, found: LabelledFolder) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=''), strict=True)
    picture_at, label_at = 0, 1
    try:
        for index, cells in enumerate(reader):
            if index == 0 and _is_header(cells):
                names = [cell.strip().lower() for cell in cells]
                picture_at = next(i for i, name in enumerate(names) if name in PICTURE_COLUMNS)
                label_at = next(i for i, name in enumerate(names) if name in LABEL_COLUMNS)
            elif len(cells) > max(picture_at, label_at):
                yield reader.line_num, cells[picture_at].strip(), cells[label_at]
            elif cells:
                _reject(found, reader.line_num, 'no comma between picture and label', ','.join(cells))
    except csv.Error as error:  # an open quote has swallowed the rest of the file
        raise ValueError(f'{found.source}, line {reader.line_num}: not valid CSV ({error})') from None


def _jsonl(text: str, found: LabelledFolder) -> Iterator[Row]:
    for number, line in _lines(text):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            _reject(found, number, 'not JSON', line)
            continue
        entry = entry if isinstance(entry, dict) else {}
        picture = next((entry[name] for name in PICTURE_COLUMNS if name in entry), None)
        label = next((entry[name] for name in LABEL_COLUMNS if name in entry), None)
        if isinstance(picture, str) and isinstance(label, str):
            yield number, picture, label
        else:
            _reject(found, number, 'not an object with the texts "image" and "label"', line)


PARSERS: dict[str, Callable[[str, LabelledFolder], Iterator[Row]]] = {
    '.tsv': _tsv,
    '.csv': _csv,
    '.jsonl': _jsonl,
    '.txt': _icdar,
}
