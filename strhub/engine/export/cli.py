"""The door of `strhub export`: a checkpoint -> a file of another runtime that reads as it does."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from strhub.engine.commandline import Parser
from strhub.engine.errors import door
from strhub.engine.export.check import BATCHES, TOLERANCE, Picture, first_difference, opened, rendered
from strhub.engine.export.formats import SUFFIXES, Run, load, write
from strhub.engine.images import find_some
from strhub.models.reader import Recogniser
from strhub.models.utils import parse_model_args
from strhub.models.zoo import load_reader
from strhub.runtime.session import is_exported

EXAMPLES = """\
  strhub export pretrained=parseq --format onnx --out parseq.onnx
  strhub export last.ckpt --format onnx --out fast.onnx --int8 --set data/test/IIIT5k
  strhub export last.ckpt --format openvino --out model.xml --images words/ decode_ar=false refine_iters=2"""

NEEDED = {
    'onnx': ('onnx', 'onnxscript', 'onnxruntime'),
    'torchscript': (),
    'openvino': ('onnx', 'onnxscript', 'openvino'),
}
DIFFERS = 1  # exit status


def _parser() -> Parser:
    parser = Parser(
        description='Writes a network as a file that reads without it, and tries that file: all texts must be the '
        f'same, and logits within {TOLERANCE:g}. Exit status: 0 they are, 1 they are not and no file is left.',
        examples=EXAMPLES,
        without=('batch_size', 'device', 'precision', 'compile', 'rotation'),  # it is exported as it is
    )
    parser.add_argument('--format', choices=SUFFIXES, required=True, help='the runtime')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help=', '.join(SUFFIXES.values()))
    parser.add_argument('--overwrite', action='store_true', help='replace a file that is there')
    parser.add_argument('--images', nargs='+', metavar='PATH', help='compare on these instead of rendered words')
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument('--int8', action='store_true', help='weights of 8 bits (onnx); tells which texts change')
    precision.add_argument('--fp16', action='store_true', help='half precision; tells which texts change')
    parser.add_argument(
        '--set',
        nargs='+',
        metavar='PATH',
        help='of --int8 and --fp16: labelled sets, for the accuracy of both',
    )
    return parser


def _check(parser: Parser, arguments: Namespace) -> None:
    """Refuses what cannot be before anything takes time."""
    out, suffix = arguments.out, SUFFIXES[arguments.format]
    if arguments.int8 and arguments.format != 'onnx':
        parser.error(f'--int8 is for --format onnx, not {arguments.format}')
    if arguments.set and not (arguments.int8 or arguments.fp16):
        parser.error('--set goes with --int8 or --fp16: a file of full precision has the accuracy of the checkpoint')
    if is_exported(arguments.checkpoint):
        raise ValueError(f'{arguments.checkpoint} is exported already: give the checkpoint it was made of')
    if out.suffix.lower() != suffix:
        raise ValueError(f'--out is {out}, but a file of {arguments.format} ends in {suffix}')
    written = [out, out.with_suffix('.bin')] if arguments.format == 'openvino' else [out]
    for file in written:
        if file.is_dir():
            raise IsADirectoryError(f'{file} is a folder, where a file is to be written: give another --out')
        if file.exists() and not arguments.overwrite:
            raise FileExistsError(f'{file} is there already: --overwrite replaces it')
    for package in NEEDED[arguments.format]:
        import_module(package)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _beside(out).cleanup()
    except FileExistsError:
        raise NotADirectoryError(f'{out.parent} is no folder: give another --out') from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f'{out} cannot be written ({reason}): give another --out') from None


def _beside(out: Path) -> TemporaryDirectory[str]:
    """For what is written until it has been tried."""
    return TemporaryDirectory(dir=out.parent, prefix='.strhub-export-')


def export(system: Recogniser, arguments: Namespace) -> bool:
    """Writes beside, tries the file, renames; False if it does not read as the system does."""
    out, rounded = arguments.out, arguments.int8 or arguments.fp16
    with _beside(out) as folder:
        path = Path(folder) / out.name
        _say(f'writing {system.hparams["name"]} for {arguments.format}; this may take a minute')
        write(deepcopy(system), path, arguments.format, fp16=arguments.fp16, int8=arguments.int8)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        run = load(path, arguments.format)
        _say('comparing')
        if rounded:
            _tell_changes(system, run, arguments)
        else:
            count, difference = first_difference(system, run, _pictures(system, arguments))
            if difference:
                print(f'{out} was not written: {difference}', file=sys.stderr)
                return False
            sizes = ', '.join(map(str, BATCHES))
            print(f'{count} texts are those of the checkpoint, in batches of {sizes}; logits within {TOLERANCE:g}')
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == out.name):  # what is named comes last
            file.replace(out.with_name(file.name))
    print(f'{out}: {size / 1e6:.1f} MB')
    return True


def _pictures(system: Recogniser, arguments: Namespace) -> Iterator[Picture]:
    return opened(system, find_some(arguments.images)) if arguments.images else rendered(system)


def _tell_changes(system: Recogniser, run: Run, arguments: Namespace) -> None:
    from strhub.engine.export.rounding import changed, changed_in_sets

    if arguments.images or not arguments.set:
        where = 'pictures' if arguments.images else 'rendered words'
        print(f'{where}: {changed(system, run, _pictures(system, arguments))}')
    for line in changed_in_sets(system, run, arguments.set or []):
        print(line, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@door
def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse(argv)
    _check(parser, arguments)
    if arguments.images:
        find_some(arguments.images)
    system = load_reader(arguments.checkpoint, **parse_model_args(arguments.overrides)).eval()
    if not export(system, arguments):
        sys.exit(DIFFERS)
