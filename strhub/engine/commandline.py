"""What the doors that run a checkpoint share: their parser, overrides of the model's parameters."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from strhub.cores import cores
from strhub.engine.compile import compile_parts
from strhub.engine.errors import USAGE
from strhub.engine.exported import load_exported
from strhub.models.reader import Recogniser
from strhub.models.utils import parse_model_args
from strhub.models.zoo import load_reader
from strhub.runtime.session import is_exported
from strhub.terminal import plain

OVERRIDE = re.compile(r'[A-Za-z_]\w*(:[A-Za-z]+)?=')
FILE_SUFFIX = re.compile(r'\.[A-Za-z]\w*$')

# Options that may be written as in training: name -> value -> what is meant, '' for what is so anyway.
SWITCHES = {'compile': {'true': '--compile', 'false': ''}, 'precision': {'32-true': '--precision=32'}}

OVERRIDES_HELP = 'parameters of the model, e.g. refine_iters=2 or decode_ar:bool=false; they may stand anywhere'


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of the examples and tells the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        is_silent = action.default in (None, False, argparse.SUPPRESS) or not action.option_strings
        if text is None or is_silent or '%(default)' in text:
            return text
        return text + ' (default: %(default)s)'


class Parser(argparse.ArgumentParser):
    """A parser that complains in one sentence and takes --data-root for --data_root."""

    def __init__(self, *, description: str, examples: str, without: Collection[str] = ()) -> None:
        """`without`: names of the options below that the door does not take."""
        super().__init__(
            description=description,
            epilog=f'examples:\n{examples}',
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            'checkpoint',
            help='a checkpoint, pretrained=NAME for weights by name; to read, test or serve also an exported .onnx',
        )
        self.add_argument('overrides', nargs='*', metavar='name=value', help=OVERRIDES_HELP)

        def add(name: str, **how: Any) -> None:
            if name not in without:
                self.add_argument(f'--{name}', **how)

        add('batch_size', type=positive, default=512, metavar='N', help='pictures in one step')
        add('device', default='auto', help='cpu, cuda, cuda:1, mps; auto takes the fastest there is')
        add('precision', choices=('32', 'bf16'), default='32', help='bf16 is faster where the device computes in it')
        add('compile', action='store_true', help='the network first, which takes a minute (torch.compile)')
        add('rotation', type=finite, default=0, metavar='DEGREES', help='turn each picture first')

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parses `argv` (default: the command line); `.overrides` are those of the model, wherever they stood."""
        words, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
        switches = [word for word in overrides if word.partition('=')[0] in SWITCHES]
        overrides = [word for word in overrides if word not in switches]
        words += [
            SWITCHES[name].get(value, f'--{name}={value}') for name, _, value in (w.partition('=') for w in switches)
        ]
        arguments = self.parse_intermixed_args([canonical(word) for word in words if word])
        # What else stands among the positionals is no override, so say so in our own words.
        if arguments.overrides:
            self.error(
                f'{arguments.overrides[0]} is not understood: one checkpoint is expected, and parameters as name=value'
            )
        arguments.overrides = overrides
        return arguments

    def error(self, message: str) -> NoReturn:
        print(f'error: {plain(message)}; --help tells what is accepted', file=sys.stderr)
        sys.exit(USAGE)


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is not a whole number above 0')
    return int(text)


def not_negative(text: str) -> int:
    """The type of an option that counts something and may be 0."""
    return positive(text) if text.strip('0') or not text else 0


def finite(text: str) -> float:
    """The type of an option that is a number."""
    try:
        if math.isfinite(number := float(text)):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'{text} is not a number')


def default_workers() -> int:
    """One a core, and no more than a disk can serve."""
    return min(4, cores())


def canonical(word: str) -> str:
    """--data-root -> --data_root; what is not the name of an option stays."""
    if not word.startswith('--'):
        return word
    name, equals, value = word.partition('=')
    name = '--' + name[2:].replace('-', '_')
    return (name.replace('--no_', '--no-', 1) if name.startswith('--no_') else name) + equals + value


def split_overrides(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Parts a command line in words for the parser and overrides of the model's parameters.

    An override is `name=value` or `name:type=value`. A file that exists is none, nor, without a type, is a name that
    ends like a file's.
    Parting comes first because `--images` and `--sets` would take what follows them; so would they take
    `pretrained=NAME`, which therefore goes to the front.
    """
    checkpoint, rest, overrides = [], [], []
    for word in words:
        if word.startswith('pretrained='):
            checkpoint.append(word)
        elif _is_override(word):
            overrides.append(word)
        else:
            rest.append(word)
    return checkpoint + rest, overrides


def _is_override(word: str) -> bool:
    match = OVERRIDE.match(word)
    is_file_name = match is not None and not match[1] and FILE_SUFFIX.search(word)
    return match is not None and not is_file_name and not Path(word).exists()


def load_system(arguments: argparse.Namespace, *, device: torch.device) -> Recogniser:
    """The model that the arguments of a `Parser` name, on `device`, ready to read; an ONNX file on ONNX Runtime."""
    if is_exported(arguments.checkpoint):
        return load_exported(arguments)
    reader = load_reader(arguments.checkpoint, **parse_model_args(arguments.overrides))
    reader.bf16 = arguments.precision == 'bf16'
    reader.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if arguments.compile:
        compile_parts(reader, device, only_reads=True)
    return reader
