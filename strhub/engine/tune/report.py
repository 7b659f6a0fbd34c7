"""What comes out of a search: a table of trials, a picture, the command that trains with the best values."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from strhub.engine.configure import key_of, quote, quoted
from strhub.engine.results import write
from strhub.engine.tune import records
from strhub.engine.tune.options import Options
from strhub.engine.tune.records import Record
from strhub.engine.tune.space import spell


def best_record(trials: Sequence[Record], metric: str) -> Record | None:
    return next(iter(ranked(trials, metric)), None)


def ranked(trials: Sequence[Record], metric: str) -> list[Record]:
    """Those that have reported and did not break down, the best one first."""
    judged = [(records.merit(trial.best, metric), trial) for trial in trials if trial.best and not trial.failed]
    return [trial for _, trial in sorted(judged, key=lambda pair: pair[0], reverse=True)]


def table(trials: Sequence[Record], options: Options) -> str:
    """All trials, the best one first."""
    keys = [dimension.key for dimension in options.space]
    rows = [['trial', *keys, *records.METRICS, 'at step', 'steps', 'why it ended']]
    good = ranked(trials, options.metric)
    for trial in [*good, *(trial for trial in trials if trial not in good)]:
        values = [spell(trial.params[key]) if key in trial.params else '-' for key in keys]
        best = trial.best
        numbers = ['-'] * 4 if best is None else [*(f'{best[name]:.4g}' for name in records.METRICS), str(best['step'])]
        steps = str(trial.reports[-1]['step']) if trial.reports else '-'
        rows.append([str(trial.number), *values, *numbers, steps, trial.ended])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        '| ' + ' | '.join(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)) + f' | {row[-1]} |'
        for row in rows
    ]
    lines.insert(1, '|' + '|'.join('-' * (width + 1) + ':' for width in widths[:-1]) + '|---|')
    return '\n'.join(lines)


def command(words: Sequence[str], best: dict[str, Any], program: str, workers: int = 1) -> str:
    """The training with the user's own words and the best values, in as many processes as the trials had."""
    dropped = {*best, *(['trainer.devices'] if workers > 1 else [])}
    kept = [word for word in words if not is_of_search(word) and key_of(word) not in dropped]
    found = [f'{key}={spell_override(value)}' for key, value in best.items()]
    if workers > 1 and (cluster := os.environ.get('RAY_ADDRESS')) is not None:
        found += ['launcher=ray', quote(f'launcher.address={cluster}'), f'launcher.num_workers={workers}']
    elif workers > 1:
        found.append(f'trainer.devices={workers}')
    return f'{program} {shlex.join([*map(quote, kept), *found])}'


def is_of_search(word: str) -> bool:
    key = key_of(word)
    return key in ('', 'tune') or key.startswith(('tune.', 'hydra.'))


def spell_override(value: Any) -> str:
    """A value exactly, and so that Hydra reads it as what it is."""
    if isinstance(value, str):
        return quoted(value)
    return repr(value) if isinstance(value, float) else spell(value)


def save(folder: Path, trials: Sequence[Record], options: Options, train: str | None) -> None:
    best = best_record(trials, options.metric)
    content = {
        'metric': options.metric,
        'mode': records.METRICS[options.metric],
        'space': {dimension.key: str(dimension) for dimension in options.space},
        'best': None if best is None else {'trial': best.trial_id, 'params': best.params, **(best.best or {})},
        'command': train,
        'trials': [asdict(trial) for trial in trials],
        'versions': {name: version(name) for name in ('torch', 'lightning', 'ray', 'optuna')},
    }
    write(folder / 'results.json', json.dumps(content, indent=1))
    write(folder / 'trials.md', table(trials, options) + '\n')
    if train is not None:
        write(folder / 'train.sh', f'{train}\n')


def plot(path: Path, trials: Sequence[Record], options: Options) -> None:
    """The best metric over the first hyper-parameter, and the curves of all trials by step."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    first = options.space[0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5))
    colours = plt.get_cmap('viridis')

    def place_of(trial: Record) -> float:
        value = trial.params[first.key]
        return first.options.index(value) if first.form == 'choice' else value

    judged = [trial for trial in trials if trial.best is not None and not trial.failed]
    for trial in trials:
        if trial.failed and first.key in trial.params:
            left.axvline(place_of(trial), color='red', linestyle=':')
    for place, trial in enumerate(judged):
        colour = colours(place / max(1, len(judged) - 1))
        best = trial.best or {}
        marker = 'o' if trial.ended == records.FINISHED else 'x'
        left.plot(place_of(trial), best[options.metric], marker, color=colour)
        steps = [report['step'] for report in trial.reports]
        values = [report[options.metric] for report in trial.reports]
        right.plot(steps, values, '.-', color=colour, label=f'{trial.number}: {spell(trial.params[first.key])}')
    if first.form == 'loguniform':
        left.set_xscale('log')
    if first.form == 'choice':
        left.set_xticks(range(len(first.options)), map(spell, first.options))
    left.set(xlabel=first.key, ylabel=f'best {options.metric}', title='o all steps done, x ended early, dotted: failed')
    right.set(xlabel='step', ylabel=options.metric, title='trials in the order of their start')
    if 0 < len(judged) <= 20:  # more would hide the curves
        right.legend(title=first.key, fontsize='small')
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
