"""What the commands that make or measure data sets share: options, and the bar that counts words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from strhub.cores import cores


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
