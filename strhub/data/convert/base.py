"""What a converter says: words and where their pictures are, what it leaves out and why, and what the set itself is.

A converter is one function, `def name(root: Path) -> Iterator[Word | Skipped]`, that reads annotations, judges, and
yields; it opens no picture and writes no file. Words of one picture follow one another, so that it is opened once, and
the order is always the same, so that an interrupted run can be gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom
Polygon: TypeAlias = tuple[tuple[float, float], ...]  # (x, y) of its corners


@dataclass(frozen=True)
class Record:
    """A picture that is the value of a key of an LMDB."""

    lmdb: Path
    key: bytes

    def __str__(self) -> str:
        return f'{self.lmdb}#{self.key.decode(errors="replace")}'


@dataclass(frozen=True)
class Cell:
    """A picture of a parquet file, which is read once, in its order, as its groups of rows are decoded as a whole."""

    file: Path
    row: int  # counted from 0
    encoded: bytes | None = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f'{self.file}#{self.row}'


Picture: TypeAlias = Path | Record | Cell


@dataclass(frozen=True)
class Word:
    """A label and its picture: a whole one, or the part of one inside `box` or `polygon`.

    Coordinates are pixels of the picture as it is displayed, which is after the turn that its EXIF data ask for.

    Attributes:
        polygon: 4 points are a quad, which begins at the upper left of the text as it is read and goes on clockwise;
            text that runs uphill or downwards is turned upright by that. More points count as their bounding box.
        as_stored: coordinates are pixels as the file stores them, before the turn of EXIF.
        ordered: False: a quad begins at any corner, either way round; its text is taken for level as it is displayed.
    """

    picture: Picture
    label: str
    box: Box | None = None
    polygon: Polygon | None = None
    as_stored: bool = False
    ordered: bool = True


@dataclass(frozen=True)
class Skipped:
    """A word that the annotations themselves rule out, or a line that says nothing."""

    reason: str
    where: str = ''
    count: int = 1


Converter: TypeAlias = Callable[..., Iterator[Word | Skipped]]


@dataclass(frozen=True)
class Option:
    """A keyword-only argument of a converter; on the command line it is `--name`, of the type of its default."""

    name: str
    default: str | int | float | bool
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class SetInfo:
    """A set and all that is needed to make an LMDB of it.

    Attributes:
        title: what the set is, as a part of a sentence: `Total-Text, 1555 photographs with curved text`.
        download: the files to download, by name, each with a remark where it needs one.
        home: where they are.
        layout: what SRC looks like, as a short tree.
        counts: how many pictures and words to expect, by the set's own word.
        words: their number, for the progress bar; None if it is not known or depends on the options.
        example: what to add after `strhub convert NAME`.
        searched: all of SRC is searched for words, so that DST must not be in it.
    """

    convert: Converter
    title: str
    download: tuple[str, ...]
    home: str
    licence: str
    layout: str
    language: str
    counts: str = 'unknown'
    words: int | None = None
    options: tuple[Option, ...] = ()
    example: str = 'SRC DST'
    searched: bool = False
