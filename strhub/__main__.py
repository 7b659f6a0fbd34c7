"""`strhub COMMAND …`: one door to every command; the module of a command is imported only when it is chosen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from strhub.engine.errors import USAGE, door

COMMANDS = {  # name -> the module whose main(argv) does it, what it does
    'quickstart': ('strhub.quickstart', 'render, train, test and read, in ten minutes'),
    'train': ('strhub.engine.fit', 'train a model on real, synthetic or rendered words'),
    'test': ('strhub.engine.evaluate', 'measure a checkpoint on the benchmark, or on sets of your own'),
    'read': ('strhub.engine.read', 'read the words in pictures'),
    'demo': ('strhub.demo', 'try models on pictures, in the browser'),
    'serve': ('strhub.engine.serve.cli', 'read pictures for others, over HTTP'),
    'export': ('strhub.engine.export.cli', 'a file for ONNX Runtime, TorchScript or OpenVINO, which is tried'),
    'bench': ('strhub.engine.bench.cli', 'measure how fast and how large a model is'),
    'tune': ('strhub.engine.tune.cli', 'find the learning rate and other hyper-parameters'),
    'package': ('strhub.engine.package', 'make a folder of a checkpoint that can be shared, with a model card'),
    'render': ('strhub.data.synth.cli', 'make a data set of rendered words'),
    'convert': ('strhub.data.convert.cli', 'turn public data sets and folders of pictures into LMDB'),
    'inspect': ('strhub.data.inspect', 'show what a data set holds'),
    'data': ('strhub.data.tools.cli', 'merge, filter, split, measure, verify or export data sets'),
}


def usage() -> str:
    commands = '\n'.join(f'  {name:<11} {purpose}' for name, (_, purpose) in COMMANDS.items())
    return (
        'usage: strhub COMMAND [arguments]\n\n'
        'Scene text recognition: from a picture of a word to its text.\n\n'
        f'commands:\n{commands}\n\n'
        '`strhub COMMAND --help` explains a command, `strhub --version` prints the version;\n'
        'STRHUB_DEBUG=1 shows the traceback of an error.'
    )


def installed_version() -> str:
    try:
        return version('strhub')
    except PackageNotFoundError:
        return 'unknown (run from a checkout that is not installed)'


@door
def run(command: str, argv: Sequence[str] | None = None) -> None:
    """Runs a command; its module is imported behind the door, so that a missing package is one sentence too."""
    import_module(COMMANDS[command][0]).main(argv)


@door
def main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        print(usage(), file=sys.stderr)
        sys.exit(USAGE)
    name, *rest = argv
    if name in ('-h', '--help', 'help'):
        print(usage())
    elif name in ('-V', '--version'):
        print(f'strhub {installed_version()}')
    elif name in COMMANDS:
        sys.argv = [f'strhub {name}', *rest]  # the command's own usage line shows how it was reached
        run(name, rest)
    else:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f'did you mean {near[0]}?' if near else 'strhub --help explains them'
        raise ValueError(f'{name} is not a command of strhub ({", ".join(COMMANDS)}): {hint}')


if __name__ == '__main__':
    main()
