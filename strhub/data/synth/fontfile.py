"""What a font file says about itself before it is opened: how many faces it holds and which characters they have.

Only the headers and the `cmap` table are read (https://learn.microsoft.com/typography/opentype/spec/cmap): to draw
each of the thousands of characters of a Chinese charset with each font, only to see whether it can, takes minutes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

COLLECTION = b'ttcf'
MAX_FACES = 256  # of a collection
MAX_TABLES = 256
MAX_CMAP = 8 << 20  # bytes; the largest in use take under 1 MiB
MAX_ENCODINGS = 64
MAX_POINTS = 0x110000  # of Unicode
UNICODE_ENCODINGS = {(3, 10), (3, 1), (0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 6)}  # (platform, encoding)


def count_faces(path: Path) -> int:
    """1 but for collections (.ttc); also 1 for what is no font, which is found out when it is opened."""
    with path.open('rb') as file:
        head = file.read(12)
    return min(struct.unpack('>L', head[8:])[0], MAX_FACES) if head[:4] == COLLECTION and len(head) == 12 else 1


def characters_of(path: Path, index: int = 0) -> frozenset[int] | None:
    """The code points for which a face has a glyph; None where it does not say so by Unicode.

    Raises:
        ValueError: if the file is broken.
    """
    try:
        with path.open('rb') as file:
            table = _cmap(file, index)
        return None if table is None else _code_points(table)
    except (struct.error, IndexError):
        raise ValueError(f'{path} cannot be read as a font (its character table is broken): remove it') from None


def _cmap(file: BinaryIO, index: int) -> bytes | None:
    start = 0
    if file.read(4) == COLLECTION:
        file.seek(12 + 4 * index)
        (start,) = struct.unpack('>L', file.read(4))
    file.seek(start + 4)
    (tables,) = struct.unpack('>H6x', file.read(8))
    for _ in range(min(tables, MAX_TABLES)):
        tag, offset, length = struct.unpack('>4s4xLL', file.read(16))
        if tag == b'cmap':
            file.seek(offset)
            return file.read(min(length, MAX_CMAP))
    return None


def _code_points(table: bytes) -> frozenset[int] | None:
    """All that the Unicode subtables have: a face may keep the characters beyond U+FFFF in a second one."""
    (count,) = struct.unpack_from('>H', table, 2)
    offsets = set()
    for number in range(min(count, MAX_ENCODINGS)):
        platform, encoding, offset = struct.unpack_from('>HHL', table, 4 + 8 * number)
        if (platform, encoding) in UNICODE_ENCODINGS:
            offsets.add(offset)
    found: set[int] = set()
    readable = False
    for offset in offsets:
        (kind,) = struct.unpack_from('>H', table, offset)
        if kind in READERS:
            readable = True
            found.update(READERS[kind](table[offset:]).tolist())
    return frozenset(found) if readable else None


def _segments(table: bytes) -> np.ndarray:
    """Format 4: runs of 16-bit code points, whose glyph is the point plus a delta, or stands in an array."""
    (doubled,) = struct.unpack_from('>H', table, 6)
    count = doubled // 2
    words = np.frombuffer(table[: len(table) // 2 * 2], '>u2').astype(np.int64)
    ends, starts, deltas, ranges = (words[at : at + count] for at in (7, 8 + count, 8 + 2 * count, 8 + 3 * count))
    if len(ranges) < count:
        raise IndexError('the table ends too early')
    _check_runs(starts, ends)
    points = [np.zeros(0, np.int64)]
    for number in range(count):
        run = np.arange(starts[number], ends[number] + 1)
        if ranges[number]:
            place = 8 + 3 * count + number + ranges[number] // 2 + (run - starts[number])
            run, place = run[place < len(words)], place[place < len(words)]
            glyphs = np.where(words[place] > 0, (words[place] + deltas[number]) % 65536, 0)
        else:
            glyphs = (run + deltas[number]) % 65536
        points.append(run[glyphs > 0])
    return np.concatenate(points)


def _trimmed(table: bytes) -> np.ndarray:
    """Format 6: one run of code points."""
    first, count = struct.unpack_from('>HH', table, 6)
    glyphs = np.frombuffer(table[10 : 10 + 2 * count], '>u2')
    return first + np.flatnonzero(glyphs)


def _groups(table: bytes) -> np.ndarray:
    """Format 12: runs of 32-bit code points with successive glyphs."""
    (count,) = struct.unpack_from('>L', table, 12)
    runs = np.frombuffer(table[16 : 16 + 12 * min(count, MAX_CMAP // 12)], '>u4').reshape(-1, 3).astype(np.int64)
    _check_runs(runs[:, 0], runs[:, 1])
    points = [np.arange(first, last + 1)[int(glyph == 0) :] for first, last, glyph in runs]
    return np.concatenate([np.zeros(0, np.int64), *points])


def _check_runs(starts: np.ndarray, ends: np.ndarray) -> None:
    """A broken table must not fill the memory."""
    if np.clip(ends - starts + 1, 0, None).sum() > MAX_POINTS:
        raise IndexError('the runs overlap')


READERS = {4: _segments, 6: _trimmed, 12: _groups}
