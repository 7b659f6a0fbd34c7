"""The command line of `strhub convert`: which sets there are, what each needs, and the conversion itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from textwrap import indent

from strhub.charset import PRINTABLE
from strhub.data.commandline import add_overwrite, add_workers, check_charset, spellings, word_bar
from strhub.data.convert import all_sets
from strhub.data.convert.base import Option, SetInfo
from strhub.terminal import plain, say

HOW_TO_START = '`strhub convert --list` shows all sets and what to download, `strhub convert SET --help` one of them'
METAVARS: dict[type, str] = {str: 'TEXT', int: 'N', float: 'X'}


def describe(name: str, info: SetInfo, *, with_options: bool = True) -> str:
    """All that a user needs to know to convert a set."""
    facts = {
        'download': '\n'.join(info.download),
        'from': info.home,
        'licence': info.licence,
        'layout': info.layout,
        'counts': info.counts,
        'language': info.language,
        'options': '\n'.join(map(_option_line, info.options)) if with_options else '',
        'example': f'strhub convert {name} {info.example}',
    }
    lines = [f'{name}: {info.title}']
    lines += [f'  {key:<10}' + indent(fact, ' ' * 12).lstrip() for key, fact in facts.items() if fact]
    return '\n'.join(lines)


def _option_line(option: Option) -> str:
    among = f' ({", ".join(option.choices)})' if option.choices else ''
    return f'--{option.name}: {option.help}{among}{_default(option)}'


def _default(option: Option) -> str:
    return '' if option.default in ('', False) else f' (default: {option.default})'


def make_parser(sets: dict[str, SetInfo]) -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog='strhub convert',
        description='Writes an LMDB of labelled words, which loads fast and travels as one file.',
        epilog=HOW_TO_START + '.',
    )
    main_parser.add_argument(
        '--list', nargs='?', const='', metavar='SET', dest='listed', help='what to download for a set, or for each'
    )
    commands = main_parser.add_subparsers(dest='set', metavar='SET')
    for name, info in sets.items():
        command = commands.add_parser(
            name,
            help=info.title.replace('%', '%%'),
            description=describe(name, info, with_options=False),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_arguments(command, info)
    return main_parser


def _add_arguments(command: argparse.ArgumentParser, info: SetInfo) -> None:
    command.add_argument('source', type=Path, metavar='SRC')
    command.add_argument('target', type=Path, metavar='DST', help='the LMDB to make')
    add_overwrite(command)
    command.add_argument(
        '--crop',
        choices=('auto', 'box'),
        default='auto',
        help='auto: words at an angle are turned upright; box: all are cut out along the axes (default: auto)',
    )
    command.add_argument('--lossless', action='store_true', help='store parts of JPEG pictures as PNG, twice as large')
    command.add_argument(
        *spellings('min_size'),
        type=int,
        default=1,
        metavar='N',
        help='skip words with a side shorter than N pixels',
    )
    command.add_argument(*spellings('max_label_length'), type=int, default=0, metavar='N', help='skip longer labels')
    charset = command.add_mutually_exclusive_group()
    charset.add_argument('--charset', metavar='CHARS', help='skip labels with others, apart from spaces')
    charset.add_argument(
        '--ascii',
        action='store_const',
        dest='charset',
        const=PRINTABLE,
        help='--charset of the 94 printable characters',
    )
    add_workers(command)
    own = command.add_argument_group('options of this set')
    for option in info.options:
        _add_option(own.add_argument, option)


def _add_option(add_argument: Callable[..., object], option: Option) -> None:
    flags = spellings(option.name)
    purpose = (option.help + _default(option)).replace('%', '%%')
    if isinstance(option.default, bool):
        action = argparse.BooleanOptionalAction if option.default else 'store_true'
        add_argument(*flags, action=action, default=option.default, help=purpose)
        return
    kind, choices = type(option.default), option.choices or None
    metavar = None if choices else METAVARS[kind]
    add_argument(*flags, type=kind, default=option.default, choices=choices, metavar=metavar, help=purpose)


def main(argv: Sequence[str] | None = None) -> None:
    """Lists the sets, or converts one and prints what was kept, and what was not and why."""
    sets = all_sets()
    arguments = make_parser(sets).parse_args(argv)
    if arguments.listed is not None:
        print(listing(sets, arguments.listed))
    elif arguments.set is None:
        raise ValueError(f'no set was named: {HOW_TO_START}')
    else:
        convert(sets[arguments.set], arguments)


def listing(sets: dict[str, SetInfo], name: str = '') -> str:
    """What `--list` prints: one set, or all."""
    if name and name not in sets:
        near = get_close_matches(name, sets, n=1)
        hint = f'did you mean {near[0]}?' if near else f'there are {", ".join(sets)}'
        raise ValueError(f'{name} is not a set that can be converted: {hint}')
    return '\n\n'.join(describe(key, info) for key, info in sets.items() if name in ('', key))


def convert(info: SetInfo, arguments: argparse.Namespace) -> None:
    """Converts as the command line says."""
    from strhub.data.convert.cutter import Rules
    from strhub.data.convert.write import write_words

    for name, least in (('workers', 1), ('min_size', 0), ('max_label_length', 0)):
        if getattr(arguments, name) < least:
            raise ValueError(f'--{name} is {getattr(arguments, name)}: give at least {least}')
    check_charset(arguments.charset)
    source, target = arguments.source, arguments.target
    if info.searched and target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f'{target} is in {source}, where it would be taken for a part of the set: give another DST')
    rules = Rules(**{field.name: getattr(arguments, field.name) for field in fields(Rules)})
    options = {option.name: getattr(arguments, option.name) for option in info.options}
    words = info.convert(source, **options)
    try:
        with word_bar(info.words) as progress:
            report = write_words(
                words,
                target,
                rules=rules,
                settings={'set': arguments.set, 'source': str(source), **options},
                overwrite=arguments.overwrite,
                workers=arguments.workers,
                progress=progress,
            )
    except KeyboardInterrupt:
        print('\nwhat is done is kept: the same command goes on from there', file=sys.stderr)
        raise
    say(f'{plain(target)}: {report}')
