"""The door of `./bench.py`: a command line -> measurements, tables, files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from strhub.engine.bench import compare, report
from strhub.engine.bench.counts import Counts, count
from strhub.engine.bench.options import CONFIG, MODES, Options, check_added, read_options
from strhub.engine.bench.subjects import (
    build_compared,
    build_system,
    check_lengths,
    pictures,
    prepare,
)
from strhub.engine.bench.timing import Timing, measure, measure_in_turns, reading
from strhub.engine.bench.training import measure_steps
from strhub.engine.configure import key_of, run
from strhub.engine.errors import door
from strhub.models.base import BaseSystem
from strhub.terminal import plain, say

if TYPE_CHECKING:
    from omegaconf import DictConfig

T = TypeVar('T')
Settings = dict[str, Any]


def bench(config: DictConfig, words: Sequence[str] = ()) -> dict[str, Any]:
    """Measures what the configuration asks for, prints the tables and returns all numbers; see configs/bench.yaml.

    Args:
        words: the overrides that `config` was composed with.

    Raises:
        ValueError, FileNotFoundError: something in the configuration is wrong.
    """
    from omegaconf import OmegaConf

    settings: Settings = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    options = read_options(settings, words)
    if options.compared:
        models = bench_compared(settings, words, options)
    elif options.trains:
        models = bench_training(settings, words, options)
    else:
        models = bench_reading(settings, words, options)
    content = report.record(models, options)
    if options.json is not None:
        report.save(options.json, content)
        say(f'\nAll numbers: {options.json}')
    return content


def bench_reading(settings: Settings, words: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """One model, at each size of batch, number of threads, length of words."""
    system = build_system(settings, words, options)
    check_lengths(system, options)
    images = pictures(system, options)
    name = system.hparams['name']
    say(report.heading(name, options))
    counts = count_of(system, options)
    say(report.count_line(counts), '' if options.sweeps_length else f'\n{counts.table}\n')
    prepare(system, options)
    longest = system.hparams['max_label_length']
    lengths = range(1, longest + 1) if options.sweeps_length else [options.max_length]
    cases = options.cases(lengths)
    timings = [measure(reading(system, images, case, options), case, options) for case in progress(cases)]
    say(report.timing_table(timings, by_length=options.sweeps_length))
    say_unsteady(timings)
    return [report.model_record(name, counts, readings=[timing.as_record() for timing in timings])]


def bench_compared(settings: Settings, words: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """Several models in turns."""
    systems = build_compared(settings, words, options)
    images = {}
    for name, system in systems.items():
        check_lengths(system, options)
        images[name] = pictures(system, options)
    say(report.heading(', '.join(systems), options), '')
    counts = {name: count_of(system, options) for name, system in systems.items()}
    for system in systems.values():
        prepare(system, options)
    timings: dict[str, list[Timing]] = {name: [] for name in systems}
    for case in progress(options.cases([options.max_length])):
        reads = {name: reading(system, images[name], case, options) for name, system in systems.items()}
        for name, timing in measure_in_turns(reads, case, options).items():
            timings[name].append(timing)
    say(report.compare_table(counts, timings))
    say_unsteady([timing for own in timings.values() for timing in own])
    draw(counts, timings, options)
    return [
        report.model_record(name, counts[name], readings=[timing.as_record() for timing in own])
        for name, own in timings.items()
    ]


def draw(counts: dict[str, Counts], timings: dict[str, list[Timing]], options: Options) -> None:
    """The plot, where there is what draws it."""
    if options.plot is None:
        return
    try:
        compare.plot(options.plot, counts, timings, title=report.heading('Reading', options))
        say(f'\nThe same as a picture: {options.plot}')
    except ModuleNotFoundError:
        print(
            '\nThere is no picture of it, for matplotlib is not installed: pip install strhub[bench]', file=sys.stderr
        )


def bench_training(settings: Settings, words: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """Training steps of one model, at each size of batch and number of threads."""
    name = settings['model']['name']
    say(report.heading(f'training {name}', options))
    steps = []
    for case in progress(options.cases([None])):
        steps.append(measure_steps(settings, words, case, options))
        say('', report.step_line(steps[-1], options), '', report.step_table(steps[-1]))
    return [report.model_record(name, None, steps=[step.as_record() for step in steps])]


def count_of(system: BaseSystem, options: Options) -> Counts:
    return count(system.model, pictures(system, options)[:1], max_length=options.max_length, depth=options.depth)


def say_unsteady(timings: Sequence[Timing]) -> None:
    if sentence := report.unsteady(timings):
        print(plain(sentence), file=sys.stderr)


def progress(cases: Sequence[T]) -> Iterable[T]:
    """A bar over several measurements, for those who watch."""
    return tqdm(cases, leave=False, disable=len(cases) < 2 or not sys.stderr.isatty(), file=sys.stderr)


def start(config: DictConfig, words: Sequence[str]) -> None:
    logging.getLogger('strhub').setLevel(logging.INFO)
    bench(config, words)


def spelled(words: Sequence[str]) -> list[str]:
    """The words for Hydra: +train=true means train=true, and compared models may have keys that the default has not."""
    words = [word.removeprefix('+') if key_of(word) in MODES else word for word in words]
    if not any(key_of(word) == 'compare' for word in words):
        return words
    return ['++' + word if word.startswith('model.') else word for word in words]


@door
def main(argv: Sequence[str] | None = None) -> None:
    """`./bench.py [model=NAME] [key=value …]`"""
    words = spelled(sys.argv[1:] if argv is None else argv)
    check_added(words)
    run(partial(start, words=words), words, CONFIG)
