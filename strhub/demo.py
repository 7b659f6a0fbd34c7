"""`strhub demo [CHECKPOINT …]`: a page to try models on pictures, in the browser; needs no internet."""

from __future__ import annotations

import argparse
import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from strhub.engine.commandline import HelpFormatter, Parser, load_system, split_overrides
from strhub.engine.devices import pick_device
from strhub.engine.errors import door
from strhub.engine.trial import Models, warm_up
from strhub.models.reader import Recogniser
from strhub.models.zoo import BOXED

RUNS = Path('outputs')
EXAMPLES = Path(__file__).resolve().parents[1] / 'demo_images'  # of a checkout
RENDERED = 8
USE = """\
examples:
  strhub demo                                    the newest run below outputs/, or else strhub's own weights
  strhub demo last.ckpt model.onnx --port 8080   models to choose from
  strhub demo pretrained=parseq pretrained=crnn"""


def newest_run() -> str:
    """The last checkpoint of the run below outputs/ that was written to most lately, else the weights in the box."""
    found = [path for path in RUNS.glob('**/checkpoints/last.ckpt') if path.is_file()]
    return str(max(found, key=lambda path: path.stat().st_mtime)) if found else BOXED


def example_pictures() -> list[str]:
    """Those of the checkout, or, as a wheel brings none, rendered words."""
    if EXAMPLES.is_dir():
        return [str(path) for path in sorted(EXAMPLES.glob('*.jpg'))]
    from strhub.data.synth.render import render_word

    folder = Path(tempfile.mkdtemp(prefix='strhub-demo-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = [str(folder / f'{number}.png') for number in range(RENDERED)]
    for number, name in enumerate(names):
        render_word(1, number, difficulty=0.4)[0].save(name)
    return names


class DemoParser(argparse.ArgumentParser):
    """Complains in one sentence, as the doors that take one checkpoint do."""

    error = Parser.error  # type: ignore[assignment]


def make_parser() -> argparse.ArgumentParser:
    parser = DemoParser(
        prog='strhub demo', description=__doc__, epilog=USE, formatter_class=HelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add('checkpoints', nargs='*', metavar='CHECKPOINT', help='checkpoints, exported files, or pretrained=NAME')
    add('--host', default='127.0.0.1', help='address to listen on; 0.0.0.0: all of this machine')
    add('--port', type=int, metavar='N', help='default: the first that is free from 7860 on')
    add('--device', default='auto', help='cpu, cuda, cuda:1, mps; auto takes the fastest there is')
    return parser


def load(source: str, overrides: Sequence[str], device: str) -> Recogniser:
    arguments = argparse.Namespace(
        checkpoint=source, overrides=list(overrides), device=device, precision='32', compile=False
    )
    system = load_system(arguments, device=pick_device(device))
    warm_up(system)
    return system


def make_models(sources: Sequence[str], overrides: Sequence[str], device: str) -> Models:
    """The models that were asked for, the first of them loaded."""
    chosen = list(dict.fromkeys(sources)) or [newest_run()]
    loaders: dict[str, Callable[[], Recogniser]] = {
        source: partial(load, source, overrides, device) for source in chosen
    }
    models = Models(loaders)
    models.decoding(chosen[0])
    return models


@door
def main(argv: Sequence[str] | None = None) -> None:
    words, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
    arguments = make_parser().parse_args(words)

    from strhub.engine.page import launch, make_page  # of Gradio, which takes seconds to be imported

    models = make_models(arguments.checkpoints, overrides, arguments.device)
    page = make_page(models, example_pictures())
    address = launch(page, host=arguments.host, port=arguments.port)
    print(f'{", ".join(models.names)}: open {address} in a browser; Ctrl-C ends it', flush=True)
    page.block_thread()
