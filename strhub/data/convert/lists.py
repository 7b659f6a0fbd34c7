"""Lists of pictures and labels in the forms of JSON and plain text that published sets come in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strhub.data.convert.base import Skipped, Word
from strhub.data.convert.parsing import parse_json, read_json, unquoted
from strhub.data.convert.regions import inside
from strhub.data.labelformats import LABEL_COLUMNS, PICTURE_COLUMNS

PICTURE_KEYS = (*PICTURE_COLUMNS, 'img_path')


def labelled(file: Path) -> Iterator[tuple[str, str] | Skipped]:
    """Pictures as the file names them, with their labels.

    .json     {"picture": "label"}, [{"filename": "picture", "text": "label"}], or MMOCR's {"data_list": [{"img_path":
              "picture", "instances": [{"text": "label"}]}]}
    .jsonl    {"filename": "picture", "text": "label"} on each line
    other     picture<TAB>label, picture, "label" or picture label on each line
    """
    if file.suffix == '.json':
        items: Any = read_json(file)
        if isinstance(items, dict):
            items = items.get('data_list', items)
        pairs = items.items() if isinstance(items, dict) else map(_pair, items if isinstance(items, list) else ())
        found = ((f'entry {number}', pair) for number, pair in enumerate(pairs, 1))
    else:
        parse = _json_line if file.suffix == '.jsonl' else _text_line
        found = ((f'line {number}', parse(line)) for number, line in _lines(file))
    for where, pair in found:
        if pair is None or not all(isinstance(text, str) for text in pair):
            yield Skipped('entry without a picture and its label', f'{file} {where}')
        else:
            yield pair


def place(folder: Path, name: str, label: str) -> Word | Skipped:
    """The word of an entry whose picture is named relative to a folder."""
    picture = inside(folder, name)
    return Skipped('picture outside the folder', name) if picture is None else Word(picture, label)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, one after the other, for there may be millions."""
    with file.open(encoding='utf-8-sig') as lines:
        try:
            yield from ((number, line.rstrip('\n')) for number, line in enumerate(lines, 1) if line.strip())
        except UnicodeDecodeError:
            raise ValueError(f'{file} is not text in UTF-8: download or unpack it again') from None


def _json_line(line: str) -> tuple[Any, Any] | None:
    try:
        return _pair(parse_json(line, 'a line'))
    except ValueError:
        return None


def _pair(item: Any) -> tuple[Any, Any] | None:
    if not isinstance(item, dict):
        return None
    texts = item.get('instances')
    if isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], dict):
        item = texts[0] | item
    picture = next((item[key] for key in PICTURE_KEYS if key in item), None)
    return picture, next((item[key] for key in LABEL_COLUMNS if key in item), None)


def _text_line(line: str) -> tuple[str, str] | None:
    picture, separator, label = line.partition('\t' if '\t' in line else ' ')
    if not separator:
        return None
    if separator == ' ' and picture.endswith(','):
        picture, label = picture[:-1], unquoted(label)
    return picture, label
