"""docTR's labels.json, for recognition and for whole pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strhub.data.convert.base import Option, SetInfo, Skipped
from strhub.data.convert.parsing import find_file, numbers, read_json
from strhub.data.convert.regions import AS_STORED, Page, Region, inside, pages

TEXT_KEYS = ('value', 'text', 'transcription', 'label')
SHAPE_KEYS = ('geometry', 'polygon', 'points', 'box')


@pages
def doctr(root: Path, *, images: str = '') -> Iterator[Page | Skipped]:
    """The words of a labels.json; `root` is the file, or the folder that holds it and images/."""
    file = root if root.is_file() else find_file(root, 'labels.json')
    labels = read_json(file, dict)
    folder = Path(images) if images else file.parent / 'images'
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder: give the one with the pictures as --images')
    for name, label in labels.items():
        picture = inside(folder, name)
        if isinstance(label, str):
            yield Page(picture, name, [Region(label, whole=True)])
        elif isinstance(label, dict) and isinstance(texts := label.get('typed_words', label.get('polygons')), list):
            yield Page(picture, name, [_region(text) for text in texts])
        else:
            yield Skipped('neither a label nor typed_words nor polygons', name)


def _region(text: Any) -> Region:
    if not isinstance(text, dict):  # for detection alone there are polygons without their texts
        return Region(None)
    found = next((text[key] for key in TEXT_KEYS if key in text), None)
    shape = next((text[key] for key in SHAPE_KEYS if key in text), None)
    box = numbers(shape, 4)
    if _is_relative(shape):
        return Region(found, ruled_out='place relative to the size of the picture')
    if box is not None:
        return Region(found, box=(box[0], box[1], box[2], box[3]))
    return Region(found, shape)


def _is_relative(shape: Any) -> bool:
    """Whether all coordinates are from 0 to 1."""
    if isinstance(shape, list) and shape and isinstance(shape[0], list):
        return all(map(_is_relative, shape))
    flat = numbers(shape)
    return all(0 <= number <= 1 for number in flat) if flat else False


SETS = {
    'doctr': SetInfo(
        doctr,
        title="docTR's labels.json, of words or of whole pictures",
        download=('nothing: this is a file of your own',),
        home='your own',
        licence='your own',
        layout="""\
SRC/labels.json    {"1.jpg": "label"}, or of whole pictures
  {"1.jpg": {"typed_words": [{"value": "text", "geometry": [left, top, right, bottom] or [[x1, y1], …]}]}}
  {"1.jpg": {"polygons": [{"text": "text", "points": [[x1, y1], [x2, y2], [x3, y3], [x4, y4]]}]}}
  in pixels; polygons without a text, as for detection alone, are left out
SRC/images/1.jpg
or SRC is the file itself""",
        language='any',
        options=(Option('images', '', 'folder of the pictures (default: images beside labels.json)'), AS_STORED),
        example='mine data/train/real/mine',
    ),
}
