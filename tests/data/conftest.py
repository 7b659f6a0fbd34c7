"""Data sets of a few small pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pictures import encode, make_picture

from strhub.data.lmdb import LmdbWriter


@pytest.fixture
def make_lmdb() -> Callable[..., Path]:
    """(path, labels, broken) -> an LMDB, in which the pictures numbered in `broken` cannot be read."""

    def make(path: Path, labels: Sequence[str], broken: Sequence[int] = ()) -> Path:
        with LmdbWriter(path) as writer:
            for i, label in enumerate(labels):
                writer.write(b'broken' if i in broken else encode(make_picture(i)), label)
        return path

    return make


@pytest.fixture
def make_folder() -> Callable[..., Path]:
    """(path, labels, broken) -> a folder with images/0.png… and labels.tsv."""

    def make(path: Path, labels: Sequence[str], broken: Sequence[int] = ()) -> Path:
        (path / 'images').mkdir(parents=True)
        for i in range(len(labels)):
            content = b'broken' if i in broken else encode(make_picture(i))
            (path / 'images' / f'{i}.png').write_bytes(content)
        lines = [f'images/{i}.png\t{label}\n' for i, label in enumerate(labels)]
        (path / 'labels.tsv').write_text(''.join(lines), encoding='utf-8')
        return path

    return make
