"""What parsers of annotations share: reading files with one clear sentence where they are broken, numbers, finding."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from strhub.data.convert.base import Box, Polygon

T = TypeVar('T')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp')
MARKS = ((b'\xef\xbb\xbf', 'utf-8'), (b'\xff\xfe', 'utf-16-le'), (b'\xfe\xff', 'utf-16-be'))  # of byte order


def find_file(root: Path, *names: str) -> Path:
    """The first of these files or folders that is below `root`.

    Raises:
        FileNotFoundError: there is none.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'{root} is not a folder: give the one with the unpacked download')
    for name in names:
        if (root / name).exists():
            return root / name
    wanted = names[0] if len(names) == 1 else f'any of {", ".join(names)}'
    raise FileNotFoundError(f'{root} does not hold {wanted}: `strhub convert --list` shows what belongs there')


def find_parts(root: Path, files: dict[str, str], folders: Sequence[str] = ('.',)) -> list[Path]:
    """The files of all parts, named as `--split` names them, in the first of the folders below `root` that has any.

    Raises:
        FileNotFoundError: one is missing.
    """
    places = [root / folder for folder in folders if any((root / folder / file).exists() for file in files.values())]
    folder = places[0] if places else find_file(root, *files.values()).parent
    there = [part for part, file in files.items() if (folder / file).exists()]
    if missing := [file for part, file in files.items() if part not in there]:
        raise FileNotFoundError(
            f'{folder} does not hold {", ".join(missing)}: put what is missing there, too, or take a part alone with '
            f'{" or ".join(f"--split {part}" for part in there)}'
        )
    return [folder / file for file in files.values()]


def read_text(path: Path, encodings: Sequence[str] = ('utf-8',)) -> str:
    """The text of a file, in the encoding of its byte order mark or else the first of `encodings` that fits.

    Raises:
        ValueError: none fits.
    """
    content = path.read_bytes()
    for mark, encoding in MARKS:
        if content.startswith(mark):
            content, encodings = content.removeprefix(mark), (encoding,)
            break
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError(f'{path} is not text in {" or ".join(encodings).upper()}: download or unpack it again')


def read_lines(path: Path, encodings: Sequence[str] = ('utf-8',)) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers; ended by any of \\n, \\r\\n and \\r."""
    # str.splitlines would also split at characters that may stand in a label
    for number, line in enumerate(StringIO(read_text(path, encodings), newline=None), 1):
        line = line.removesuffix('\n')
        if line.strip():
            yield number, line


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A parquet file, pyarrow's ParquetFile.

    Raises:
        ValueError: it is not one, or is found to be damaged before it is closed.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError) as error:
        raise ValueError(f'{path} cannot be read as parquet ({error}): download it again') from None


def unquoted(text: str) -> str:
    """A text without blanks and quotes around it; what it quotes itself stays."""
    text = text.strip()
    return text[1:-1].replace('\\"', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def parse_json(text: str, name: str) -> Any:
    """The value of a JSON text; `name` is what the error calls it.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f'{name} is not valid JSON (nested too deep)') from None
    except ValueError as error:
        raise ValueError(f'{name} is not valid JSON ({error}): download or unpack it again') from None


def read_json(path: Path, kind: type[T] = object) -> T:  # type: ignore[assignment]
    """The value in a JSON file, which must be of type `kind` (dict, list).

    Raises:
        ValueError: it is not JSON, or another value.
    """
    return check_kind(parse_json(read_text(path), str(path)), kind, str(path))


def check_kind(value: Any, kind: type[T], name: str) -> T:
    """`value`, if it is a `kind`.

    Raises:
        ValueError: it is not; the message calls it `name`.
    """
    if not isinstance(value, kind):
        raise ValueError(f'{name} is {_describe(value)} where {NOUNS.get(kind, kind.__name__)} was expected')
    return value


def member(data: dict[str, Any], key: str, kind: type[T], path: Path) -> T:
    """`data[key]`, which a file cannot do without.

    Raises:
        ValueError: there is none, or it is not a `kind`.
    """
    if key not in data:
        raise ValueError(f'{path} has no {key!r}: it is not an annotation file of this set')
    return check_kind(data[key], kind, f'{key!r} of {path}')


NOUNS: dict[type, str] = {dict: 'an object', list: 'a list', str: 'a text', int: 'a number', float: 'a number'}


def _describe(value: object) -> str:
    return 'null' if value is None else NOUNS.get(type(value), type(value).__name__)


def numbers(values: Any, count: int | None = None) -> tuple[float, ...] | None:
    """A list of finite numbers, also of such as are texts ('12'), as floats; None if it is anything else.

    Args:
        count: how many there must be.
    """
    if isinstance(values, str | bytes | dict) or not hasattr(values, '__iter__'):
        return None
    values = list(values)
    if count is not None and len(values) != count:
        return None
    try:
        found = tuple(float(value) for value in values if not isinstance(value, bool))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == len(values) and all(map(math.isfinite, found)) else None


def polygon(values: Any) -> Polygon | None:
    """Points from [x1, y1, x2, y2, …] or [[x1, y1], [x2, y2], …]; None unless they are 3 or more, of finite numbers."""
    if isinstance(values, str | bytes | dict) or not hasattr(values, '__iter__'):
        return None
    values = list(values)
    if values and all(isinstance(point, list | tuple) for point in values):
        points = [numbers(point, 2) for point in values]
        if None in points:
            return None
        values = [number for point in points if point for number in point]
    flat = numbers(values)
    if flat is None or len(flat) < 6 or len(flat) % 2:
        return None
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def box_xywh(values: Any) -> Box | None:
    """A box from [left, top, width, height]; None if these are not 4 finite numbers."""
    found = numbers(values, 4)
    if found is None:
        return None
    left, top, width, height = found
    return left, top, left + width, top + height


class Pictures:
    """Finds pictures of one folder by name or by stem; lists it once, for calls of `stat` add up on a network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208  (names alone, for many thousands of files)
        except OSError:
            names = []
        self._by_name = {name.lower(): name for name in names} | {name: name for name in names}

    def __call__(self, name: str, suffixes: Sequence[str] = SUFFIXES) -> Path | None:
        """The picture called `name`, or `name` with one of `suffixes`, in whatever case; None if there is none."""
        for candidate in (name, *(name + suffix for suffix in suffixes)):
            found = self._by_name.get(candidate) or self._by_name.get(candidate.lower())
            if found:
                return self.folder / found
        return None
