"""`strhub render`: an LMDB of rendered words, made by all cores, and gone on with after an interruption."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageFont

from strhub.charset import PRINTABLE
from strhub.cores import cores
from strhub.data.commandline import add_overwrite, check_sheet, word_bar
from strhub.data.jobs import check_settings, ordered_map
from strhub.data.picture import MAX_PIXELS
from strhub.data.summary import counted
from strhub.data.synth.fonts import FontBook
from strhub.data.synth.words import WordSource, characters_of
from strhub.terminal import plain, say

CHUNK = 64  # words that a worker draws at a time
QUALITY = 92  # of JPEG: twice as small as 98, and nothing to be seen
SETTINGS = 'render.json'  # lies beside the records and says how they were made
ON_SHEET = 96
SETTINGS_OF_WORDS = ('seed', 'charset', 'max_length', 'difficulty', 'words', 'vertical', 'words_per_line')

EXAMPLES = """\
examples:
  strhub render --count 100000 --out data/train/synth/rendered
  strhub render --count 2000 --seed 7 --out data/val/rendered --sheet words.png
  strhub render --count 50000 --out plates --words plates.txt --charset 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ
  strhub render --count 50000 --out greek --words greek.txt --fonts my/greek/fonts --sheet greek.png
  strhub render --count 50000 --out random --charset αβγδεζηθικλμνξοπρστυφχψω --fonts my/greek/fonts

Ctrl-C keeps what is done; the same command goes on from there."""


class Painter:
    """Draws and encodes words by number; travels to the workers."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from strhub.data.synth.plan import choose

        self.settings = settings
        self.words = WordSource(
            settings['charset'],
            max_length=settings['max_length'],
            path=settings['words'],
            words_per_line=settings['words_per_line'],
        )
        self.fonts = FontBook(settings['charset'], folder=settings['fonts'])
        choose(self.words, self.fonts, Random(0), settings['difficulty'])  # before anything is written

    def __call__(self, numbers: range) -> list[tuple[bytes, str]]:
        from strhub.data.synth.render import render_word

        done = []
        for number in numbers:
            image, label = render_word(
                self.settings['seed'],
                number,
                difficulty=self.settings['difficulty'],
                words=self.words,
                fonts=self.fonts,
                vertical=self.settings['vertical'],
            )
            if size := self.settings['size']:
                image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
            stream = BytesIO()
            image.save(stream, 'JPEG', quality=QUALITY)
            done.append((stream.getvalue(), label))
        return done


def render(
    out: Path,
    *,
    count: int,
    settings: dict[str, Any],
    jobs: int = 1,
    overwrite: bool = False,
) -> None:
    """Writes `count` rendered words to the LMDB `out`.

    It goes on where an interrupted run with equal settings and of as many words has stopped.
    """
    from strhub.data.lmdb import LmdbWriter

    for name, value in (('count', count), ('jobs', jobs)):
        if value < 1:
            raise ValueError(f'--{name} is {value}: give at least 1')
    painter = Painter(settings)
    writer = LmdbWriter(out, overwrite=overwrite, resume=True)
    note = writer.partial / SETTINGS
    described = {**settings, 'count': count, 'words': _digest(settings['words'])}
    if writer.partial.exists():
        check_settings(note, described)
    with writer:
        note.write_text(json.dumps(described, indent=1))
        chunks = [range(first, min(first + CHUNK, count)) for first in range(writer.count, count, CHUNK)]
        with word_bar(count) as progress, ordered_map(painter, min(jobs, len(chunks))) as results:
            progress(writer.count)
            for words in results(chunks):
                for image, label in words:
                    writer.write(image, label)
                progress(len(words))


def _digest(words: str | None) -> str | None:
    return None if words is None else sha256(Path(words).read_bytes()).hexdigest()


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition('x')
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'{text!r} is not HEIGHTxWIDTH, e.g. 32x128')
    if int(height) * int(width) > MAX_PIXELS:
        raise argparse.ArgumentTypeError(f'{text!r} is more than {MAX_PIXELS} pixels, which no command would read')
    return int(height), int(width)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='strhub render',
        description='Renders words into an LMDB to train or test with; nothing is downloaded.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--count', type=int, required=True, metavar='N', help='how many words')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the LMDB to make')
    add_overwrite(parser, 'DIR')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='another seed gives other words (default: 0)')
    parser.add_argument(
        '--jobs', type=int, default=cores(), metavar='N', help=f'processes (default: {cores()}, all cores)'
    )
    parser.add_argument('--words', metavar='FILE', help='words to draw, one a line, instead of ours')
    parser.add_argument('--fonts', metavar='DIR', help='fonts to draw with (.ttf, .otf, .ttc), instead of ours')
    parser.add_argument(
        '--charset', help='characters that may occur (default: those of --words, else 94 printable ASCII)'
    )
    parser.add_argument(
        '--max_length', '--max-length', type=int, default=25, metavar='N', help='of a label (default: 25)'
    )
    parser.add_argument(
        '--size', type=_size, metavar='HxW', help='of all pictures, e.g. 32x128 (default: as words come)'
    )
    parser.add_argument(
        '--difficulty', type=float, default=1.0, metavar='D', help='0 clean ... 1 everything (default: 1)'
    )
    parser.add_argument(
        '--vertical', type=float, default=0.0, metavar='SHARE', help='of words that stand in a column (default: 0)'
    )
    parser.add_argument(
        '--words_per_line',
        '--words-per-line',
        type=int,
        metavar='N',
        help='at most, joined by blanks (default: 3 if the charset has the blank, 1 with --words)',
    )
    parser.add_argument('--sheet', type=Path, metavar='FILE', help=f'also save a sheet of {ON_SHEET} of them')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    arguments = make_parser().parse_args(argv)
    if not 0 <= arguments.difficulty <= 1:
        raise ValueError(f'--difficulty is {arguments.difficulty}: give a number from 0 to 1')
    if not 0 <= arguments.vertical <= 1:
        raise ValueError(f'--vertical is {arguments.vertical}: give a number from 0 to 1')
    if arguments.sheet:
        check_sheet(arguments.sheet)
    if arguments.charset is None:
        arguments.charset = characters_of(arguments.words) if arguments.words else PRINTABLE
    settings = {name: getattr(arguments, name) for name in SETTINGS_OF_WORDS}
    settings['fonts'] = arguments.fonts and str(Path(arguments.fonts).resolve())
    settings['size'] = arguments.size and list(arguments.size)
    try:
        render(
            arguments.out,
            count=arguments.count,
            settings=settings,
            jobs=arguments.jobs,
            overwrite=arguments.overwrite,
        )
    except KeyboardInterrupt:
        print('\nwhat is done is kept: the same command goes on from there', file=sys.stderr)
        raise
    say(f'{plain(arguments.out)}: {counted(arguments.count, "word")}')
    if arguments.sheet:
        _save_sheet(arguments.out, arguments.sheet, settings)


def _save_sheet(words: Path, sheet: Path, settings: dict[str, Any]) -> None:
    from strhub.data.dataset import open_set
    from strhub.data.inspect import contact_sheet
    from strhub.data.labels import LabelRules

    def font_of(label: str, size: int) -> ImageFont.FreeTypeFont | None:
        return next((face.at(size) for face in fonts.faces if face.covers(label)), None)

    fonts = FontBook(settings['charset'], folder=settings['fonts'])
    rules = LabelRules(settings['charset'], settings['max_length'], remove_whitespace=False, normalize_unicode=False)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    rendered = open_set(words, rules)
    contact_sheet([rendered], count=ON_SHEET, font_of=font_of).save(sheet)
    say(f'{plain(sheet)}: {min(ON_SHEET, len(rendered))} of them')
