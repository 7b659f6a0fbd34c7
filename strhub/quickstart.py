"""The first ten minutes with strhub: read pictures; then render words, train a small recogniser, test and use it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strhub.engine.errors import USAGE, door

if TYPE_CHECKING:
    from omegaconf import DictConfig

TEST_WORDS = 1000
TEST_SEED = 1_000_003  # training renders other words, with seed 0
UNTIMED_STEPS, TIMED_STEPS = 10, 30


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='strhub quickstart', description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=['demo_images'],
        metavar='PATH',
        help='pictures and folders to read, at first and at the end',
    )
    parser.add_argument('--minutes', type=float, default=9.5, help='how long to train')
    parser.add_argument('--out', type=Path, default=Path('outputs/quickstart'), metavar='DIR', help='for all results')
    parser.add_argument(
        '--experiment', default='auto', metavar='NAME', help='what to train; auto: crnn-tiny on a CPU, else parseq-tiny'
    )
    return parser


def show(title: str, name: str, words: Sequence[object]) -> list[str]:
    """Shows a command as a user would type it, and returns its arguments."""
    argv = [str(word) for word in words]
    print(f'\n== {title}\n$ strhub {name} {shlex.join(argv)}', flush=True)
    return argv


def run(main: Callable[[list[str]], Any], argv: list[str]) -> int:
    """Runs a command to its exit status: a picture that cannot be read does not end the tour."""
    try:
        main(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def steps_in(minutes: float, config: DictConfig, folder: Path) -> int:
    """How many steps of the training that `config` describes this machine does in `minutes`, measured on the first."""
    import time

    import lightning.pytorch as pl
    from omegaconf import OmegaConf

    from strhub.engine import fit
    from strhub.engine.devices import share_cores

    class Stopwatch(pl.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, *_: Any) -> None:
            self.ends.append(time.monotonic())

    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    settings['trainer'] |= {
        'max_steps': UNTIMED_STEPS + TIMED_STEPS,
        'limit_val_batches': 0,
        'enable_progress_bar': False,
        'enable_checkpointing': False,
        'logger': False,
    }
    fit.quieten()
    share_cores(settings)
    stopwatch = Stopwatch()
    trainer = fit.build_trainer(settings, folder, [stopwatch])
    data = fit.build_data(settings)
    data.start_batch = len(data.train_dataloader()) // 2  # words of full difficulty take longer to render
    trainer.fit(fit.build_system(settings), datamodule=data)
    seconds = (stopwatch.ends[-1] - stopwatch.ends[UNTIMED_STEPS - 1]) / TIMED_STEPS
    return max(UNTIMED_STEPS, round(60 * minutes / seconds))


@door
def main(argv: Sequence[str] | None = None) -> None:
    arguments = make_parser().parse_args(sys.argv[1:] if argv is None else argv)
    out: Path = arguments.out
    if not 0 < arguments.minutes < float('inf'):
        raise ValueError(f'--minutes is {arguments.minutes}: give more than 0')

    from strhub.engine.fit import exiting

    with exiting('./train.py'):
        tour(arguments, out)


def tour(arguments: argparse.Namespace, out: Path) -> None:
    """Reads with the weights that strhub brings; then renders, trains, tests and reads."""
    from strhub.data.synth import cli as render
    from strhub.engine import evaluate, read
    from strhub.engine.configure import compose
    from strhub.engine.devices import pick_device
    from strhub.engine.fit import fit
    from strhub.models.zoo import BOXED

    argv = show('Reading pictures with weights that strhub brings', 'read', [BOXED, '--images', *arguments.images])
    if run(read.main, argv) == USAGE:  # as when there are no pictures
        sys.exit(USAGE)

    words = out / 'words'
    argv = show('Rendering words to test with', 'render', ['--count', TEST_WORDS, '--seed', TEST_SEED, '--out', words])
    if run(render.main, argv):
        sys.exit(2)

    experiment = arguments.experiment
    if experiment == 'auto':
        experiment = 'crnn-tiny' if pick_device('auto').type == 'cpu' else 'parseq-tiny'
    overrides = [f'+experiment={experiment}', 'dataset=rendered', 'trainer.max_epochs=-1']
    print('\nmeasuring how fast this machine trains …', flush=True)
    steps = steps_in(arguments.minutes, compose(overrides), out)
    overrides.append(f'trainer.max_steps={steps}')
    show(f'Training {experiment} on rendered words for about {arguments.minutes:g} minutes', 'train', overrides)
    checkpoint = fit(compose(overrides), run_dir=out / 'run')

    run(evaluate.main, show('Testing it', 'test', [checkpoint, '--sets', words]))
    run(read.main, show('Reading the pictures with it', 'read', [checkpoint, '--images', *arguments.images]))
    print(
        f'\nThe checkpoint: {checkpoint}\n'
        'What to type next:\n'
        f'  ./read.py {BOXED} --images YOUR_PICTURES     a picture holds one word\n'
        f'  ./read.py {checkpoint} --images YOUR_PICTURES     the same with what was just trained\n'
        f'  ./test.py {checkpoint} --sets YOUR_LABELLED_FOLDER\n'
        f'  ./train.py {BOXED} +experiment=crnn-small data.train_dir=YOUR_LABELLED_FOLDER data.val_dir=…   fine-tune\n'
        '  ./train.py --help                              train longer, or another model'
    )
