"""What the commands that make or measure data sets share: options, names of sheets, and the bar that counts words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from strhub.cores import cores

SHEETS = ('.png', '.jpg', '.jpeg', '.webp')


def check_sheet(path: Path) -> None:
    """Raises ValueError if a sheet of pictures cannot be saved under this name, before there is one to save."""
    if path.suffix.lower() not in SHEETS or path.is_dir():
        raise ValueError(f'--sheet is {path}: give the name of a file that ends in {", ".join(SHEETS)}')


def check_charset(charset: str | None) -> None:
    """Raises ValueError for a charset that no label would have, being empty or of blanks only; None is no charset."""
    if charset is not None and not charset.strip():
        raise ValueError('--charset is empty, so that no label would do: give the characters that labels may have')


def spellings(name: str) -> tuple[str, ...]:
    """`--like_this` and `--like-this`, each once."""
    return tuple(dict.fromkeys((f'--{name}', f'--{name.replace("_", "-")}')))


def add_overwrite(command: argparse.ArgumentParser, target: str = 'DST') -> None:
    command.add_argument('--overwrite', action='store_true', help=f'replace {target}, if it is an LMDB, at the end')


def add_workers(command: argparse.ArgumentParser) -> None:
    workers = min(8, cores())
    command.add_argument('--workers', type=int, default=workers, metavar='N', help=f'processes (default: {workers})')


@contextmanager
def word_bar(total: int | None) -> Iterator[Callable[[int], object]]:
    """Shows how many words are done, on a terminal; yields what to call with each further number of them."""
    with tqdm(total=total, unit=' words', disable=not sys.stderr.isatty()) as bar:
        yield bar.update
