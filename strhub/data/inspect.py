"""`strhub inspect`: what a data set holds, in numbers and as a sheet of pictures."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from strhub.charset import PRINTABLE
from strhub.data import summary
from strhub.data.base import WordDataset
from strhub.data.commandline import check_sheet
from strhub.data.dataset import TreeDataset, find_sets, open_set
from strhub.data.labels import LabelRules, tally
from strhub.data.picture import UnreadablePictureError
from strhub.terminal import plain, say

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PICTURE, LINE = (160, 48), 16  # pixels of a picture on the sheet, and of the label below it
COLUMNS = 8

EXAMPLES = """\
examples:
  strhub inspect data/train/real
  strhub inspect my/words/labels.tsv --charset 0123456789 --sheet words.png
  strhub inspect data/val --no-normalize_unicode --pictures 200"""


def summarise(sets: Sequence[WordDataset], *, sizes: int = 10_000) -> Iterator[str]:
    """The lines of the report; sizes are those of at most `sizes` pictures of each set, evenly spread."""
    roots = [plain(dataset.root) for dataset in sets]
    width = max(map(len, roots))
    for root, dataset in zip(roots, sets, strict=True):
        left_out = f', left out: {tally(dataset.dropped)}' if dataset.dropped else ''
        yield f'{root:<{width}} {summary.counted(len(dataset), "word", width=9)}{left_out}'
    if len(sets) > 1:
        yield f'{"all":<{width}} {summary.counted(sum(map(len, sets)), "word", width=9)}'

    lengths: Counter[int] = Counter()
    outside: Counter[str] = Counter()
    known = set(sets[0].rules.charset)
    for dataset in sets:
        for _, label in dataset.raw_labels():
            if label is not None:
                lengths[len(label)] += 1
                outside.update(c for c in label if c not in known)
    yield '\nlength of the labels as written'
    yield from summary.bars(lengths)
    yield f'\ncharacters outside the charset: {sum(outside.values())} of {len(outside)} kinds'
    yield from summary.characters(outside)
    found = [dataset.size(int(i)) for dataset in sets for i in _spread(len(dataset), sizes)]
    readable = np.array([size for size in found if size is not None]).reshape(-1, 2)
    yield from summary.sizes(readable, len(found) - len(readable))


def _spread(length: int, count: int) -> np.ndarray:
    """`count` different indices, evenly spread."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int)


def contact_sheet(
    sets: Sequence[WordDataset], *, count: int = 96, font_of: Callable[[str, int], Font | None] | None = None
) -> Image.Image:
    """Pictures from all sets, evenly spread, with their labels after the rules; what cannot be read is marked.

    Args:
        font_of: (label, size) -> what to write a label with which Pillow's own font has no letters for, or None.
    """
    words = TreeDataset(sets)
    chosen = _spread(len(words), count)
    own = ImageFont.load_default(LINE - 4)
    rows = max(1, -(-len(chosen) // COLUMNS))
    cell = PICTURE[0] + 4, PICTURE[1] + LINE + 4
    sheet = Image.new('RGB', (COLUMNS * cell[0], rows * cell[1]), 'white')
    draw = ImageDraw.Draw(sheet)
    for place, index in enumerate(map(int, chosen)):
        left, top = place % COLUMNS * cell[0] + 2, place // COLUMNS * cell[1] + 2
        label, colour = words.label(index), 'black'
        try:
            picture = words.picture(index)
            scale = min(PICTURE[0] / picture.width, PICTURE[1] / picture.height)
            size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
            sheet.paste(picture.resize(size, Image.Resampling.BICUBIC), (left, top))
        except UnreadablePictureError:
            label, colour = f'unreadable: {label}', 'red'
        font = (font_of and not label.isascii() and font_of(label, LINE - 4)) or own
        # at the line that letters stand on: some fonts have much room above it
        draw.text((left, top + PICTURE[1] + LINE - 4), _cut(label, font), colour, font=font, anchor='ls')
    return sheet


def _cut(text: str, font: Font) -> str:
    """As much of a text as fits below a picture."""
    if font.getlength(text) <= PICTURE[0]:
        return text
    return max((text[:i] + '...' for i in range(len(text)) if font.getlength(text[:i] + '...') <= PICTURE[0]), key=len)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the report and saves the sheet."""
    parser = argparse.ArgumentParser(
        prog='strhub inspect',
        description='Shows what is in an LMDB, a labelled folder, a label file, or a tree of them.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('path', type=Path, metavar='PATH')
    parser.add_argument('--charset', default=PRINTABLE, help='the characters to learn (default: 94 printable ASCII)')
    parser.add_argument('--max_label_length', '--max-label-length', type=int, default=25, metavar='N')
    parser.add_argument('--min_image_dim', '--min-image-dim', type=int, default=0, metavar='N')
    parser.add_argument('--normalize_unicode', action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument('--remove_whitespace', action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        '--sheet', type=Path, metavar='FILE', help='where to save it (default: outputs/inspect/PATH.png)'
    )
    parser.add_argument('--pictures', type=int, default=96, metavar='N', help='on the sheet (default: 96)')
    arguments = parser.parse_args(argv)
    for name, least in (('pictures', 1), ('min_image_dim', 0)):
        if getattr(arguments, name) < least:
            raise ValueError(f'--{name} is {getattr(arguments, name)}: give at least {least}')
    if arguments.sheet:
        check_sheet(arguments.sheet)
    logging.getLogger('strhub.data').setLevel(logging.WARNING)  # the report says the rest

    rules = LabelRules(
        arguments.charset,
        arguments.max_label_length,
        remove_whitespace=arguments.remove_whitespace,
        normalize_unicode=arguments.normalize_unicode,
    )
    sets = [open_set(path, rules, min_image_dim=arguments.min_image_dim) for path in find_sets(arguments.path)]
    say(*summarise(sets))
    if rules.warning:
        say(f'\n{rules.warning}')
    if not any(map(len, sets)):
        raise ValueError(f'{arguments.path}: no word is usable, so there is no sheet to save')
    target = arguments.sheet or Path('outputs', 'inspect', f'{arguments.path.resolve().stem}.png')
    target.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(sets, count=arguments.pictures).save(target)
    say(f'\n{plain(target)}: pictures and labels side by side')
