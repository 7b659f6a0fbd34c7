"""The command line of `strhub data`."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from strhub.data.commandline import add_overwrite, add_workers, check_charset, spellings, word_bar
from strhub.data.summary import counted
from strhub.data.tools.arrange import merge, split
from strhub.data.tools.export import export
from strhub.data.tools.filter import Criteria, Likeness, filter_words
from strhub.data.tools.likeness import MAX_DISTANCE
from strhub.data.tools.records import Words
from strhub.data.tools.stats import measure_all
from strhub.data.tools.verify import open_for_verifying, verify
from strhub.terminal import plain, say

WRONG = 1  # exit status of verify

EXAMPLES = """\
examples:
  strhub data merge data/train/real/* all
  strhub data filter all clean --min_size 8 --max_length 25 --not_match '#'
  strhub data filter all honest --unlike data/test --report left-out.tsv
  strhub data split all train val --share 0.05 --together
  strhub data stats data/train --json
  strhub data verify downloaded --clean whole
  strhub data export all folder

A source is an LMDB, a labelled folder, a label file, or a tree of them. It is only read from, and what is made appears
when it is complete. `strhub data COMMAND --help` explains a command."""

FILTER_HELP = """\
Criteria for labels count the label as it is stored. --match finds its expression (Python's) anywhere in a label; ^ and
$ tie it to the ends. --unlike and --unique compare pictures by a perceptual hash of 128 bits, of which 20
(--distance) may differ: that finds copies of other size, quality or light, and with a box that is a little different;
25 find more. With --same_label the labels have to agree in their letters and digits, too. For --unique in millions of
words take --same_label or a distance of 7: a longer one compares very many."""

SPLIT_HELP = 'DST_B gets the share, DST_A all the others; the same seed makes the same sets.'
VERIFY_HELP = 'The exit status is 0 if all is whole, 1 if something is wrong, 2 if none of SRC is a data set.'
EXPORT_HELP = """\
Pictures keep their bytes; `strhub convert folder DIR LMDB` makes the same records of them. Labels go to labels.tsv, or
to labels.jsonl if one of them holds a line break."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='strhub data',
        description='Works on data sets as a whole.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)

    def add(
        name: str, purpose: str, do: Callable[[argparse.Namespace], None], more: str = ''
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=purpose,
            description=f'{purpose[0].upper()}{purpose[1:]}.',
            epilog=more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(do=do)
        return command

    command = add('merge', 'several sets as one LMDB, in their order', _merge)
    command.add_argument('sources', type=Path, nargs='+', metavar='SRC')
    _add_target(command)
    command = add('filter', 'an LMDB of the words that meet all criteria', _filter, FILTER_HELP)
    _add_source(command)
    _add_target(command)
    _add_criteria(command)
    add_workers(command)
    command = add('split', 'two LMDBs of one set, by chance', _split, SPLIT_HELP)
    _add_source(command)
    _add_target(command, 'DST_A')
    _add_target(command, 'DST_B')
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument('--share', type=float, metavar='X', help='for DST_B, as a part of 1')
    size.add_argument('--count', type=int, metavar='N', help='of words for DST_B')
    command.add_argument('--seed', type=int, default=0, metavar='N', help='another one, another split (default: 0)')
    command.add_argument('--together', action='store_true', help='words of one label go to the same set')
    command = add('stats', 'what is stored: labels, characters, sizes, formats', _stats)
    command.add_argument('sources', type=Path, nargs='+', metavar='SRC')
    command.add_argument('--json', action='store_true', help='for programs')
    add_workers(command)
    command = add('verify', 'decodes all pictures and checks all keys', _verify, VERIFY_HELP)
    command.add_argument('sources', type=Path, nargs='+', metavar='SRC')
    command.add_argument('--clean', type=Path, metavar='DST', help='write what is whole to this LMDB')
    add_overwrite(command)
    add_workers(command)
    command = add('export', 'a folder of pictures with a label file', _export, EXPORT_HELP)
    _add_source(command)
    command.add_argument('target', type=Path, metavar='DIR', help='the folder to make')
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument('sources', type=Path, nargs=1, metavar='SRC')


def _add_target(command: argparse.ArgumentParser, name: str = 'DST') -> None:
    command.add_argument(name.lower(), type=Path, metavar=name, help='the LMDB to make')
    if name != 'DST_B':
        add_overwrite(command, name[:3])


def _add_criteria(command: argparse.ArgumentParser) -> None:
    def add(name: str, **options: Any) -> None:
        command.add_argument(*spellings(name), **options)

    add('min_size', type=int, metavar='N', help='pixels that each side has at least')
    add('max_size', type=int, metavar='N', help='pixels that each side has at most')
    add('min_aspect', type=float, metavar='X', help='least width / height')
    add('max_aspect', type=float, metavar='X', help='greatest width / height')
    add('min_length', type=int, metavar='N', help='characters that a label has at least')
    add('max_length', type=int, metavar='N', help='characters that a label has at most')
    add('charset', metavar='CHARS', help='the only characters that a label may have')
    add('match', metavar='REGEX', help='a regular expression for labels to keep')
    add('not_match', metavar='REGEX', help='a regular expression for labels to leave out')
    add('unlike', type=Path, action='append', default=[], metavar='OTHER', help='leave out pictures like one of OTHER')
    add('unique', action='store_true', help='of pictures that look alike keep the first')
    add(
        'distance', type=int, default=Likeness.distance, metavar='N', help='bits that may differ (default: %(default)s)'
    )
    add('same_label', action='store_true', help='alike are only pictures whose labels agree')
    add('report', type=Path, metavar='FILE', help='list what looked like what (TSV)')


def main(argv: Sequence[str] | None = None) -> None:
    """Does what the command line says and prints what was kept, and what was not and why."""
    arguments = make_parser().parse_args(argv)
    if getattr(arguments, 'workers', 1) < 1:
        raise ValueError(f'--workers is {arguments.workers}: give at least 1')
    arguments.do(arguments)


def _merge(arguments: argparse.Namespace) -> None:
    words = Words(arguments.sources)
    with word_bar(len(words)) as progress:
        report = merge(words, arguments.dst, overwrite=arguments.overwrite, progress=progress)
    say(f'{plain(arguments.dst)}: {report}')


def _filter(arguments: argparse.Namespace) -> None:
    criteria = Criteria(**{field.name: getattr(arguments, field.name) for field in fields(Criteria)})
    likeness = Likeness(tuple(arguments.unlike), arguments.unique, arguments.distance, arguments.same_label)
    _check(criteria, likeness, arguments.report)
    words = Words(arguments.sources)
    with word_bar(len(words) * (2 if likeness else 1)) as progress:
        report, likes = filter_words(
            words,
            arguments.dst,
            criteria,
            likeness,
            note=arguments.report,
            overwrite=arguments.overwrite,
            workers=arguments.workers,
            progress=progress,
        )
    say(f'{plain(arguments.dst)}: {report}')
    if arguments.report:
        say(f'{plain(arguments.report)}: {counted(len(likes), "word")} left out for likeness, and to what')


def _check(criteria: Criteria, likeness: Likeness, report: Path | None) -> None:
    for name in ('min_size', 'max_size', 'min_aspect', 'max_aspect', 'min_length', 'max_length'):
        value = getattr(criteria, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f'--{name} is {value}: give a number, 0 or more')
    check_charset(criteria.charset)
    if criteria == Criteria() and not likeness:
        raise ValueError('there is no criterion: give at least one, such as --min_size 8 or --unique (see --help)')
    if not 0 <= likeness.distance <= MAX_DISTANCE:
        raise ValueError(f'--distance is {likeness.distance}: give a number of bits from 0 to {MAX_DISTANCE}')
    if report and not likeness:
        raise ValueError('--report lists what looks alike: give --unlike OTHER or --unique with it')
    if report and report.is_dir():
        raise ValueError(f'--report is {report}, a folder: give the name of a file')
    for name, expression in (('match', criteria.match), ('not_match', criteria.not_match)):
        try:
            re.compile(expression or '')
        except re.error as error:
            raise ValueError(f'--{name} is no regular expression ({error}): {expression}') from None


def _split(arguments: argparse.Namespace) -> None:
    if arguments.share is not None and not 0 < arguments.share < 1:
        raise ValueError(f'--share is {arguments.share}: give a number between 0 and 1')
    words = Words(arguments.sources)
    with word_bar(2 * len(words)) as progress:
        report, second = split(
            words,
            (arguments.dst_a, arguments.dst_b),
            share=arguments.share,
            count=arguments.count,
            seed=arguments.seed,
            together=arguments.together,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    for target, count in ((arguments.dst_a, report.kept - second), (arguments.dst_b, second)):
        say(f'{plain(target)}: {counted(count, "word")}')
    say(report)


def _stats(arguments: argparse.Namespace) -> None:
    words = Words(arguments.sources)
    with word_bar(len(words)) as progress:
        stats = measure_all(words, workers=arguments.workers, progress=progress)
    if arguments.json:
        print(json.dumps({'sets': list(map(str, words.sets)), **stats.as_dict()}, ensure_ascii=False, indent=1))
    else:
        say(*map(plain, words.sets), *stats.lines())


def _verify(arguments: argparse.Namespace) -> None:
    words = open_for_verifying(arguments.sources)
    with word_bar(len(words)) as progress:
        report = verify(
            words, arguments.clean, overwrite=arguments.overwrite, workers=arguments.workers, progress=progress
        )
    say(report if report.skipped else f'{counted(report.kept, "word")}, all whole')
    if arguments.clean:
        say(f'{plain(arguments.clean)}: {counted(report.kept, "word")}')
    if report.skipped:
        sys.exit(WRONG)


def _export(arguments: argparse.Namespace) -> None:
    words = Words(arguments.sources)
    with word_bar(2 * len(words)) as progress:
        report = export(words, arguments.target, progress=progress)
    say(f'{plain(arguments.target)}: {report}')
