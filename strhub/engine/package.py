"""`strhub package`: a checkpoint becomes a folder that can be shared: weights, hyper-parameters, a model card."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from strhub.data.summary import counted
from strhub.engine.commandline import Parser
from strhub.engine.errors import door
from strhub.engine.results import HEAD, aligned, results_path
from strhub.models.card import UNKNOWN, check_licence, model_card
from strhub.models.folder import check_target, save_folder
from strhub.models.utils import parse_model_args
from strhub.models.zoo import in_the_box, is_in_the_box, load_reader, published_name

EXAMPLES = """\
  strhub package outputs/crnn/last.ckpt --out my-crnn --license apache-2.0
  strhub package last.ckpt --out my-model --set my_words/ data/test/IIIT5k
  strhub package pretrained=parseq --out parseq --fp16"""

PUBLISHED_LICENCE = 'apache-2.0'  # of the published weights
# What makes the results of a test those of another model or of other pictures.
SPECIAL = 'rotation', 'min_image_dim', 'lexicon', 'try_rotations'
PLACES = 'hydra.run.dir=', 'ckpt_path='  # words of a command that say where, not what
UNITS = 'epoch', 'step'  # in which the length of a run is said
NUMBERS = 'samples', 'accuracy', 'one_minus_ned', 'confidence', 'label_length'


def find_results(checkpoint: str, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The latest results of each choice of sets and characters that the tests of a checkpoint left beside it.

    Those that are older than the checkpoint are of another, and those of a test with switches of its own tell of these.
    """
    path = results_path(checkpoint).with_suffix('.jsonl')
    if not path.is_file():
        return []
    name = published_name(checkpoint)
    path_of_weights = Path(checkpoint) if name is None else in_the_box().get(name.replace('_', '-'))
    written = 0.0 if path_of_weights is None else _newest(path_of_weights)
    latest: dict[str, dict[str, Any]] = {}
    for line in path.read_text('utf-8').splitlines():
        try:
            record = json.loads(line)
            is_newer = datetime.fromisoformat(record['date']).timestamp() >= int(written)
            is_plain = not any(record.get(key) for key in SPECIAL) and record.get('beam', 1) == 1
            if is_newer and is_plain and sorted(record['overrides']) == sorted(overrides):
                sets = {group: sorted(rows) for group, rows in record['results'].items()}
                latest[json.dumps([sets, record['charset']])] = record
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # not a line that a test wrote
    return list(latest.values())


def _newest(path: Path) -> float:
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    return max((file.stat().st_mtime for file in files), default=0.0)


def evaluation(records: Sequence[Mapping[str, Any]]) -> str:
    """Results as Markdown: for each test how it was judged, and a table for each group of sets."""
    parts = []
    for record in records:
        how = (
            f'in {len(record["charset"])} characters, {record.get("device", "?")}, {record.get("precision", "?")} bits'
        )
        parts.append(f'Judged {how}, on {record["date"][:10]}:')
        for group, rows in record['results'].items():
            cells = [[name.replace('|', '/'), *map(_cell, (row[key] for key in NUMBERS))] for name, row in rows.items()]
            parts.append(f'{group}:\n\n{aligned([HEAD, *cells])}')
        parts += [f'({note})' for note in record.get('notes', ())]
    if parts:
        parts.append('Accuracy, 1 - NED (normalised edit distance) and confidence are in percent.')
    return '\n\n'.join(parts)


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:.2f}'


def recipe(checkpoint: str) -> Iterator[str]:
    """What the run that made a checkpoint says of itself, a sentence each."""
    if (name := published_name(checkpoint)) is not None:
        if is_in_the_box(name):
            yield f'These are the weights that strhub brings as {name}: their card there tells how they were made.'
        else:
            yield 'These are the published weights (Bautista and Atienza, ECCV 2022), trained as their paper says.'
        return
    from strhub.engine.record import RECORD, read  # after the door, for it imports what loads data

    records = read(Path(checkpoint).absolute().parent.parent / RECORD)
    if not records:
        yield 'No record of the run was found beside the checkpoint.'
        return
    program, *words = shlex.split(records[-1]['command'])
    called = Path(program).name.replace('__main__.py', 'strhub')  # as python -m strhub
    said = shlex.join([called, *(word for word in words if not word.startswith(PLACES))])
    yield f'Trained by `{said}`{_length(Path(checkpoint))}.'
    versions, commit = records[-1]['versions'], (records[-1].get('git') or {}).get('commit')
    using = [f'{name} {versions[name]}' for name in ('strhub', 'torch', 'timm') if name in versions]
    yield f'With {", ".join(using)}{f", at commit {commit[:10]}" if commit else ""}.'
    sets = {Path(name).name: what.rpartition(' ')[0] for record in records for name, what in record['train'].items()}
    yield 'On ' + ', '.join(f'{name} ({what})' for name, what in sets.items()) + '.'


def _is_rounded(weights: Mapping[str, Tensor]) -> bool:
    """Whether float16 has all the numbers that there are; those that count steps are never rounded."""
    numbers = filter(Tensor.is_floating_point, weights.values())
    return all(torch.equal(value.half().to(value.dtype), value) for value in numbers)


def _length(checkpoint: Path) -> str:
    """How long a run was to be, of the configuration in its folder; nothing where that is gone."""
    path = checkpoint.absolute().parent.parent / 'config.yaml'
    try:
        config = yaml.safe_load(path.read_text('utf-8'))
        trainer, seed = config['trainer'], config['seed']
        ends = [counted(trainer[f'max_{unit}s'], unit) for unit in UNITS if (trainer.get(f'max_{unit}s') or -1) > 0]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return ''
    return f', for {" or ".join(ends) or "as long as it was let"} with seed {seed}'


def _parser() -> Parser:
    parser = Parser(
        description='Writes a folder with model.safetensors, config.json and a model card, which loads as a checkpoint '
        'does and can be pushed to a hub as it is.',
        examples=EXAMPLES,
        without=('compile', 'rotation'),
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the folder to make')
    parser.add_argument('--set', nargs='+', metavar='PATH', help='test it first on these, as strhub test --sets does')
    parser.add_argument(
        '--license', metavar='ID', help='as the hub has them: apache-2.0, mit, cc-by-4.0; if not said: unknown'
    )
    parser.add_argument('--title', metavar='TEXT', help="the heading of the card, by default the model's name")
    parser.add_argument('--fp16', action='store_true', help='round the weights, for half the size')
    parser.add_argument('--overwrite', action='store_true', help='replace a model that is there')
    return parser


@door
def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse(argv)
    check_target(arguments.out, overwrite=arguments.overwrite)
    published = published_name(arguments.checkpoint) is not None
    licence = check_licence(arguments.license or (PUBLISHED_LICENCE if published else UNKNOWN))
    reader = load_reader(arguments.checkpoint, **parse_model_args(arguments.overrides)).eval()
    if arguments.set:
        from strhub.engine.evaluate import main as test

        options = [f'--{name}={getattr(arguments, name)}' for name in ('batch_size', 'device', 'precision')]
        test([arguments.checkpoint, *arguments.overrides, *options, '--sets', *arguments.set])
    results = find_results(arguments.checkpoint, arguments.overrides)
    if not results:
        print('no results of a test are known, so the card has none: --set tests it', file=sys.stderr)
    card = model_card(
        reader.hparams,
        licence=licence,
        title=arguments.title,
        evaluation=evaluation(results),
        recipe=list(recipe(arguments.checkpoint)),
        half=arguments.fp16,
        tested_before=arguments.fp16 and not _is_rounded(reader.state_dict()),
    )
    save_folder(reader, arguments.out, card=card, half=arguments.fp16, overwrite=arguments.overwrite)
    print(f'{arguments.out}: {", ".join(sorted(file.name for file in arguments.out.iterdir()))}')
