"""The door of `./tune.py`: a command line -> trials -> a table, a picture and the command to train with."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strhub.engine.configure import key_of, quote, quoted, run, value_of
from strhub.engine.errors import INTERRUPTED, door
from strhub.engine.fit import build_data, build_system, check, new_run_dir
from strhub.engine.tune import records, report
from strhub.engine.tune.options import Options, read_options, steps_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG = 'tune'
RESUME = 'tune.resume_dir'
SPACE = 'tune.space.'
AFTER_A_KILL = (RESUME, 'tune.gpus_per_trial', 'tune.cpus_per_trial')  # what may differ in a resumed search


def tune(config: DictConfig, words: Sequence[str] = (), resume_dir: Path | None = None) -> None:
    """Searches as `config` says, prints what was found and writes it to the folder of the search.

    Args:
        words: the overrides that `config` was composed with, for the command that trains with the best values.
        resume_dir: the folder of a search to go on with.

    Raises:
        ValueError, FileNotFoundError: something in the configuration is wrong, or every trial failed.
    """
    from omegaconf import OmegaConf

    from strhub.engine.tune.search import save_search, search  # Ray takes seconds to import: mistakes come first

    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    check(settings)
    options = read_options(settings)
    build_system(settings)
    data = build_data({**settings, 'data': {**settings['data'], 'num_workers': 0}})
    steps = steps_of(settings, len(data.train_dataset))  # type: ignore[arg-type]
    len(data.val_dataset)  # type: ignore[arg-type]  # opened now, for it may be missing
    grace = round(settings['model']['warmup_pct'] * steps)
    folder = (resume_dir or new_run_dir(settings['model']['name'])).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    if resume_dir is None:
        save_search(folder, {'words': list(words), 'config': plain, 'steps': steps})
    print(describe(options, folder, steps, grace), flush=True)
    trained = {key: value for key, value in plain.items() if key not in ('tune', 'hydra')}
    is_started = (folder / 'tuner.pkl').exists()  # else it was killed before its first trial
    errors = search(folder, trained, options, grace=grace, resumes=is_started)
    conclude(folder, options, words, errors)


def describe(options: Options, folder: Path, steps: int, grace: int) -> str:
    space = '\n'.join(f'  {dimension.key} in {dimension}' for dimension in options.space)
    return (
        f'searching in {shown(folder)}\n{space}\n'
        f'{options.num_samples} trials of {steps} steps, the first {options.initial_points} spread evenly; '
        f'each has {options.cpus:g} of the CPU cores, GPUs: {options.gpus:g}, processes: {options.workers}; '
        f'none is ended before step {max(grace, 1)}'
    )


def conclude(folder: Path, options: Options, words: Sequence[str], errors: dict[str, str]) -> None:
    """The last words of a search, whether it came to its end or not."""
    trials = records.read_records(folder, options.metric, errors)
    best = report.best_record(trials, options.metric)
    program = './train.py' if sys.argv[0].endswith('.py') else 'strhub train'
    train = None if best is None else report.command(words, best.params, program, options.workers)
    report.save(folder, trials, options, train)
    if trials:
        print(f'\n{report.table(trials, options)}\n')
    if best is not None:
        try:
            report.plot(folder / 'search.png', trials, options)
            print(f'Picture:   {shlex.quote(str(shown(folder / "search.png")))}')
        except ModuleNotFoundError:
            print('There is no picture, for matplotlib is not installed: pip install strhub[bench]', file=sys.stderr)
        print(f'Numbers:   {shlex.quote(str(shown(folder / "results.json")))}')
        print(f'Train with the best values:\n{train}')
    ended = [trial for trial in trials if trial.ended != records.UNFINISHED]
    if len(ended) < options.num_samples:
        program = './tune.py' if sys.argv[0].endswith('.py') else 'strhub tune'
        print(
            f'\nStopped; {len(ended)} of {options.num_samples} trials have ended\n'
            f'Go on:  {program} {RESUME}={shlex.quote(str(shown(folder)))}',
            flush=True,
        )
        sys.exit(INTERRUPTED)
    if best is None:
        raise ValueError(f'every trial failed: {next(iter(errors.values()), "none has reported a number")}')


def shown(path: Path) -> Path:
    """A path as short as it can be given."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def spelled(words: Sequence[str]) -> list[str]:
    """The words for Hydra, which takes `uniform(0,0.3)` for a function of its own, and new keys only with a +."""
    spelt = []
    for word in words:
        key, value = key_of(word), word.partition('=')[2]
        if not key.startswith(SPACE) or '=' not in word or word.startswith('~'):
            spelt.append(word)
        else:
            is_plain = value in ('null', '') or value.startswith(('"', "'"))
            spelt.append(f'++{key}={value if is_plain else quoted(value)}')
    return spelt


def resume_dir_of(words: Sequence[str]) -> Path | None:
    """The folder to go on in.

    Raises:
        ValueError: other words go with it, which would make it another search.
    """
    given = value_of(words, RESUME)
    if given is None:
        return None
    for word in words:
        if key_of(word) not in AFTER_A_KILL and '=' in word:
            raise ValueError(f'{word} does not go with {RESUME}, which goes on as the search was started: leave it out')
    return Path(given)


def start(config: DictConfig, words: Sequence[str]) -> None:
    logging.getLogger('strhub').setLevel(logging.WARNING)
    tune(config, words)


def resume(config: DictConfig, words: Sequence[str], folder: Path) -> None:
    """Goes on with the saved configuration, whatever has become of configs/ since."""
    from omegaconf import OmegaConf

    from strhub.engine.tune.search import load_search

    saved = load_search(folder)
    merged = OmegaConf.create(saved['config'])
    for key in {key_of(word) for word in words} & set(AFTER_A_KILL[1:]):
        OmegaConf.update(merged, key, OmegaConf.select(config, key))
    logging.getLogger('strhub').setLevel(logging.WARNING)
    tune(merged, saved['words'], folder)


@door
def main(argv: Sequence[str] | None = None) -> None:
    """`./tune.py [+experiment=NAME] [tune.KEY=VALUE] [key=value …]`"""
    words = list(sys.argv[1:] if argv is None else argv)
    folder = resume_dir_of(words)
    spelt = spelled(words)
    if folder is None:
        run(partial(start, words=words), spelt, CONFIG)
    else:
        if not folder.is_dir():
            raise FileNotFoundError(f'{RESUME}={folder}: there is no such folder')
        own = [quote(f'hydra.run.dir={folder}'), 'hydra.output_subdir=null']
        run(partial(resume, words=words, folder=folder), [*spelt, *own], CONFIG)
