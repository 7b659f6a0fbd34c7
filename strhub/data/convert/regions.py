"""Pictures with a list of marked texts each: the shape that most public sets share, judged here and nowhere else.

A parser yields a `Page` for each picture, with regions as the file has them; `pages` makes a converter of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any

from strhub.data.convert.base import Box, Converter, Option, Skipped, Word
from strhub.data.convert.parsing import Pictures, find_file, polygon
from strhub.data.labelformats import is_outside

ILLEGIBLE = '###'  # the mark of all ICDAR challenges

AS_STORED = Option('as_stored', False, 'coordinates count the pixels of the file, before the turn that EXIF asks for')
LANGUAGE = Option('language', '', 'keep only texts marked so; several with commas between them')


@dataclass(frozen=True)
class Region:
    """A text in a picture.

    Attributes:
        text: as the file has it, None where there is none.
        shape: points [x1, y1, x2, …] or [[x1, y1], …] as the file has them; where it has none the box counts.
        ruled_out: why the annotations say that it is no word to learn from.
        ordered: the points begin at the upper left of the text as it is read; otherwise the text is taken for level.
        whole: the picture shows nothing else.
    """

    text: Any
    shape: Any = None
    box: Box | None = None
    language: str = ''
    ruled_out: str = ''
    ordered: bool = True
    whole: bool = False


@dataclass(frozen=True)
class Page:
    """A picture, None if there is none, under the name that annotations give it, with its texts."""

    picture: Path | None
    name: str
    regions: Sequence[Region]


def pages(parse: Callable[..., Iterator[Page | Skipped]]) -> Converter:
    """Makes a converter of a parser, which gives it the options AS_STORED and LANGUAGE."""

    @wraps(parse)
    def convert(root: Path, *, as_stored: bool = False, language: str = '', **options: Any) -> Iterator[Word | Skipped]:
        wanted = {name.strip().casefold() for name in language.split(',') if name.strip()}
        for page in parse(root, **options):
            if isinstance(page, Skipped):
                yield page
            elif page.picture is None and page.regions:
                yield Skipped('picture missing', page.name, len(page.regions))
            elif page.picture is not None:
                for number, region in enumerate(page.regions, 1):
                    yield _judge(page.picture, f'{page.name} text {number}', region, wanted, as_stored)

    return convert


def _judge(picture: Path, where: str, region: Region, wanted: set[str], as_stored: bool) -> Word | Skipped:
    if region.ruled_out:
        return Skipped(region.ruled_out, where)
    if wanted and region.language.casefold() not in wanted:
        return Skipped(f'language {region.language or "unknown"}', where)
    if not isinstance(region.text, str):
        return Skipped('no text', where)
    if region.text.strip() == ILLEGIBLE:
        return Skipped('illegible', where)
    if region.whole:
        return Word(picture, region.text)
    if region.shape is None and region.box is not None:
        return Word(picture, region.text, box=region.box, as_stored=as_stored)
    points = polygon(region.shape)
    if points is None:
        return Skipped('broken polygon', where)
    return Word(picture, region.text, polygon=points, as_stored=as_stored, ordered=region.ordered)


def inside(folder: Path, name: str) -> Path | None:
    """The path of a picture that annotations name, None if that is none inside the folder; names may begin with it."""
    if not name or '\0' in name or is_outside(name):
        return None
    path = PurePosixPath(name.replace('\\', '/'))
    if path.parts[:1] == (folder.name,) and not (folder / folder.name).is_dir():
        return folder.parent / path
    return folder / path


class Gallery:
    """Finds pictures by name or stem in those of several folders that exist.

    Raises:
        FileNotFoundError: none exists.
    """

    def __init__(self, root: Path, *folders: str) -> None:
        find_file(root, *folders)
        self._folders = [Pictures(root / folder) for folder in folders if (root / folder).is_dir()]

    def __call__(self, name: str) -> Path | None:
        return next((found for pictures in self._folders if (found := pictures(name))), None)
