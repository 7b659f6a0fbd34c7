"""`strhub convert`: public and private data sets -> LMDB.

A converter is one function, `def name(root: Path) -> Iterator[Word | Skipped]`, that reads annotations, judges, and
yields; it opens no picture and writes no file. To add one: write the function in a file of its own and name it below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from strhub.cores import cores
from strhub.data.convert.base import Converter, Skipped, Word, write_words
from strhub.data.convert.folder import folder

CONVERTERS: dict[str, tuple[Converter, str]] = {
    'folder': (folder, 'a folder of pictures with labels, a tree of such folders, or a label file'),
}

FORMATS = """\
labels, all UTF-8, with pictures relative to the folder of the file and below it:
  labels.tsv     picture<TAB>label
  labels.csv     picture,label; a first row may name the columns (image, label)
  labels.jsonl   {"image": "picture", "label": "label"} on each line
  gt.txt         picture, "label" as ICDAR writes it, or as labels.tsv
  no such file   the pictures' names: Exit_7.png, 7_Exit.png and Exit.png all say Exit

examples:
  strhub convert folder my/words data/train/real/mine
  strhub convert folder IC13/labels_857.tsv data/test/IC13_857 --min_size 8"""


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog='strhub convert', description='Writes an LMDB of labelled words, which loads fast and travels as one file.'
    )
    commands = main_parser.add_subparsers(dest='converter', metavar='SET', required=True)
    for name, (_, purpose) in CONVERTERS.items():
        command = commands.add_parser(
            name,
            help=purpose,
            description=f'From {purpose}.',
            epilog=FORMATS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument('source', type=Path, metavar='SRC')
        command.add_argument('target', type=Path, metavar='DST', help='the LMDB to make')
        command.add_argument('--overwrite', action='store_true', help='replace DST, if it is an LMDB, at the end')
        command.add_argument('--min_size', '--min-size', type=int, default=1, metavar='N', help='skip smaller pictures')
        workers = min(8, cores())
        command.add_argument('--workers', type=int, default=workers, metavar='N', help=f'threads (default: {workers})')
    return main_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Converts as the command line says and prints what was kept, and what was not and why."""
    arguments = parser().parse_args(argv)
    if arguments.workers < 1:
        raise ValueError(f'--workers is {arguments.workers}: give at least 1')
    converter, _ = CONVERTERS[arguments.converter]
    with tqdm(unit=' words', disable=not sys.stderr.isatty()) as bar:
        report = write_words(
            converter(arguments.source),
            arguments.target,
            overwrite=arguments.overwrite,
            min_size=arguments.min_size,
            workers=arguments.workers,
            progress=bar.update,
        )
    print(f'{arguments.target}: {report}')


__all__ = ['CONVERTERS', 'Converter', 'Skipped', 'Word', 'main', 'write_words']
