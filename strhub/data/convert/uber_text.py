"""Uber-Text: a text file of polygons for each picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from strhub.data.convert.base import Option, SetInfo, Skipped
from strhub.data.convert.parsing import Pictures, read_lines
from strhub.data.convert.regions import AS_STORED, Page, Region, pages

NUMBER = re.compile(r'[-+]?\d+(?:\.\d+)?')
UNREAD = re.compile(r'[*#\s]+')


@pages
def uber_text(root: Path, *, category: str = '') -> Iterator[Page | Skipped]:
    """The texts of every `truth_img_*.txt` below `root`, with the picture beside it."""
    files = sorted(root.rglob('truth_img_*.txt')) if root.is_dir() else []
    if not files:
        raise FileNotFoundError(f'{root} holds no truth_img_*.txt: `strhub convert --list uber_text` shows the layout')
    pictures = Pictures(files[0].parent)
    for file in files:
        if pictures.folder != file.parent:
            pictures = Pictures(file.parent)
        name = file.stem.removeprefix('truth_')
        try:
            lines = list(read_lines(file))
        except ValueError:  # one of 100,000 files
            yield Skipped('annotations broken', str(file))
            continue
        regions = [_region(line, category) for _, line in lines]
        yield Page(pictures(name), str(file), regions)


def _region(line: str, category: str) -> Region:
    place, _, rest = line.partition('\t')
    text, _, kind = rest.partition('\t')
    ruled_out = ''
    if category and kind.strip().casefold() != category.casefold():
        ruled_out = f'category {kind.strip() or "unknown"}'
    elif UNREAD.fullmatch(text):
        ruled_out = 'illegible'
    # whichever way the points are written, their numbers are in the same order
    return Region(text, NUMBER.findall(place), ruled_out=ruled_out)


SETS = {
    'uber_text': SetInfo(
        uber_text,
        title='Uber-Text, street views of cities in the United States',
        download=('Uber-Text.zip (197 GB), or its parts',),
        home='https://s3-us-west-2.amazonaws.com/uber-common-public/ubertext/index.html',
        licence='CC BY-SA 4.0',
        layout="""\
SRC/train/1Kx1K/truth_img_1.txt    polygon<TAB>text<TAB>category; a text of nothing but * or # counts as illegible
SRC/train/1Kx1K/img_1.jpg
SRC/val/4Kx4K/…                    or SRC is any of these folders""",
        counts='over 110,000 pictures with 4.84 texts each on average, unreadable ones included',
        language='English',
        options=(Option('category', '', 'keep only texts of this category, e.g. "business name"'), AS_STORED),
        example='Uber-Text/train data/train/real/Uber',
    ),
}
