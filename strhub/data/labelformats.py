"""The text of a label file -> its entries: a picture and its label each, or what is wrong with the line.

    labels.tsv     picture<TAB>label; no quoting, a further tab belongs to the label
    labels.csv     picture,label; quoted as spreadsheets do; a first row may name the columns
    labels.jsonl   {"image": picture, "label": label} on each line
    gt.txt         picture, "label" with \\" for a quote (ICDAR), or as labels.tsv

All are UTF-8, with or without a byte order mark. Pictures are paths relative to the folder of the file, and below it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

PICTURE_COLUMNS = ('image', 'picture', 'path', 'file', 'filename', 'file_name', 'image_path', 'img', 'name')
LABEL_COLUMNS = ('label', 'text', 'word', 'words', 'transcription', 'gt')

ICDAR_QUOTE = re.compile(r',\s*"')
WINDOWS_DRIVE = re.compile(r'[A-Za-z]:[\\/]')


class Entry(NamedTuple):
    """A line that can be used."""

    line: int
    picture: str
    label: str


class Fault(NamedTuple):
    """A line that cannot, and why; `detail` is what it says."""

    line: int
    reason: str
    detail: str = ''


def parse(content: bytes, suffix: str) -> Iterator[Entry | Fault]:
    """The entries of a label file with that suffix, in order; empty lines are none.

    Raises:
        ValueError: the file as a whole cannot be read; the message goes on after its name.
    """
    if content.startswith((b'\xff\xfe', b'\xfe\xff')):
        raise ValueError('is UTF-16: save it as UTF-8')
    # What is not UTF-8 becomes lone surrogates, which show below which lines it is in.
    text = content.removeprefix(b'\xef\xbb\xbf').decode('utf-8', 'surrogateescape')
    for entry in PARSERS[suffix](text):
        yield _check(entry) if isinstance(entry, Entry) else entry


def _check(entry: Entry) -> Entry | Fault:
    line, picture, label = entry
    if not _is_utf8(picture) or not _is_utf8(label):
        return Fault(line, 'not UTF-8')
    if not picture or '\0' in picture:
        return Fault(line, 'no picture', picture)
    if is_outside(picture):
        return Fault(line, 'picture outside the folder', picture)
    if not label.strip():
        return Fault(line, 'empty label', picture)
    return entry


def is_outside(picture: str) -> bool:
    """True for a path that would leave the folder it is relative to."""
    slashed = picture.replace('\\', '/')
    return slashed.startswith('/') or '..' in slashed.split('/') or bool(WINDOWS_DRIVE.match(picture))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # ended by \n, \r\n or \r; str.splitlines would also split at characters that may stand in a label
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        line = line.removesuffix('\n')
        if line.strip():
            yield number, line


def _is_header(cells: list[str]) -> bool:
    names = [cell.strip().lower() for cell in cells]
    return any(name in PICTURE_COLUMNS for name in names) and any(name in LABEL_COLUMNS for name in names)


def _tsv(text: str) -> Iterator[Entry | Fault]:
    for number, line in _lines(text):
        picture, tab, label = line.partition('\t')
        if not tab:
            yield Fault(number, 'no tab between picture and label', line)
        elif number > 1 or not _is_header([picture, label]):
            yield Entry(number, picture.strip(), label)


def _icdar(text: str) -> Iterator[Entry | Fault]:
    for number, line in _lines(text):
        quote, end = ICDAR_QUOTE.search(line), line.rstrip()
        if quote and '\t' not in line[: quote.start()] and end.endswith('"') and len(end) > quote.end():
            label = re.sub(r'\\(["\\])', r'\1', end[quote.end() : -1])
            yield Entry(number, line[: quote.start()].strip(), label)
            continue
        picture, separator, label = line.partition('\t' if '\t' in line else ',')
        if not separator:
            yield Fault(number, 'neither `picture, "label"` nor a tab', line)
        else:
            yield Entry(number, picture.strip(), label if separator == '\t' else label.strip())


def _csv(text: str) -> Iterator[Entry | Fault]:
    reader = csv.reader(io.StringIO(text, newline=''), strict=True)
    picture_at, label_at = 0, 1
    try:
        for index, cells in enumerate(reader):
            if index == 0 and _is_header(cells):
                names = [cell.strip().lower() for cell in cells]
                picture_at = next(i for i, name in enumerate(names) if name in PICTURE_COLUMNS)
                label_at = next(i for i, name in enumerate(names) if name in LABEL_COLUMNS)
            elif len(cells) > max(picture_at, label_at):
                yield Entry(reader.line_num, cells[picture_at].strip(), cells[label_at])
            elif cells:
                yield Fault(reader.line_num, 'no comma between picture and label', ','.join(cells))
    except csv.Error as error:  # an open quote has swallowed the rest of the file
        raise ValueError(
            f'is not valid CSV at line {reader.line_num} ({error}): write a label that holds a quote or a comma in '
            'quotes, and its own quotes twice'
        ) from None


def _jsonl(text: str) -> Iterator[Entry | Fault]:
    for number, line in _lines(text):
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            yield Fault(number, 'not JSON', line)
            continue
        item = item if isinstance(item, dict) else {}
        picture = next((item[name] for name in PICTURE_COLUMNS if name in item), None)
        label = next((item[name] for name in LABEL_COLUMNS if name in item), None)
        if isinstance(picture, str) and isinstance(label, str):
            yield Entry(number, picture, label)
        else:
            yield Fault(number, 'not an object with the texts "image" and "label"', line)


PARSERS: dict[str, Callable[[str], Iterator[Entry | Fault]]] = {
    '.csv': _csv,
    '.jsonl': _jsonl,
    '.tsv': _tsv,
    '.txt': _icdar,
}
