"""The pictures that a command line names: found one by one, opened ahead of the reading."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from glob import glob, has_magic
from itertools import chain, islice
from pathlib import Path

from PIL import Image
from torch import Tensor

from strhub.data.labelfile import is_picture_name
from strhub.data.picture import UnreadablePictureError, open_image
from strhub.engine.errors import sentence

LOADERS = 4  # threads; opening a picture mostly waits or runs outside the interpreter's lock


def natural_key(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts 2.png before 10.png."""
    parts = re.split(r'(\d+)', str(path))
    return [(part.isdecimal(), int(part), '') if part.isdecimal() else (False, 0, part) for part in parts]


def find_images(sources: Iterable[str]) -> Iterator[Path]:
    """The pictures that `--images` names, one by one: files, folders (searched in depth), globs, `-` for stdin.

    A file that is named is taken whatever its suffix, and even if it does not exist: reading it tells.
    """
    for source in sources:
        path = Path(source)
        if source == '-':
            yield from (Path(name) for line in sys.stdin if (name := line.rstrip('\r\n')))
        elif path.is_dir():
            yield from _pictures_in(path)
        elif has_magic(source) and not path.exists():
            names = glob(source, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
            matches = sorted(map(Path, names), key=natural_key)
            for match in matches:
                yield from _pictures_in(match) if match.is_dir() else [match]
            if not matches:
                yield path
        else:
            yield path


def _pictures_in(folder: Path) -> list[Path]:
    """In natural order; the folder itself if it holds none, so that reading it tells."""
    found = (path for path in folder.rglob('*') if is_picture_name(path.name) and path.is_file())
    return sorted(found, key=natural_key) or [folder]


def find_some(sources: Sequence[str]) -> Iterator[Path]:
    """`find_images`, but known to hold at least one file: asked before a model is loaded.

    Raises:
        FileNotFoundError: there is not one.
    """
    paths = find_images(sources)
    missing: list[Path] = []
    for path in paths:
        if path.exists() and not path.is_dir():
            return chain(missing, [path], paths)
        missing.append(path)
    raise FileNotFoundError(
        f'no picture was found in {", ".join(sources)}: give files, folders, globs, or - for names on stdin'
    )


def open_named(path: Path) -> Image.Image:
    """Opens what `find_images` found; raises UnreadablePictureError."""
    if path.is_dir():
        raise UnreadablePictureError(f'{path} is a folder without a picture')
    if has_magic(str(path)) and not path.exists():
        raise UnreadablePictureError(f'no file matches {path}')
    return open_image(path)


Loaded = list[tuple[Path, Tensor | UnreadablePictureError]]


def load_batches(
    paths: Iterable[Path], load: Callable[[Path], Tensor], *, batch_size: int, threads: int = LOADERS
) -> Iterator[Loaded]:
    """Loads pictures in batches, each while the one before is being read; what cannot be loaded is its error."""
    waiting: deque[list[tuple[Path, Future[Tensor | UnreadablePictureError]]]] = deque()

    def attempt(path: Path) -> Tensor | UnreadablePictureError:
        try:
            return load(path)
        except UnreadablePictureError as error:
            return error
        except Exception as error:  # whatever it was, it must not stop the other pictures
            return UnreadablePictureError(f'{path} cannot be read ({sentence(error)})')

    def results() -> Loaded:
        return [(path, future.result()) for path, future in waiting.popleft()]

    rest = iter(paths)
    pool = ThreadPoolExecutor(threads)
    try:
        while chunk := list(islice(rest, batch_size)):
            waiting.append([(path, pool.submit(attempt, path)) for path in chunk])
            if len(waiting) > 1:
                yield results()
        while waiting:
            yield results()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for the rest
