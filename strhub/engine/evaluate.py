"""A benchmark: a checkpoint reads sets of labelled words, and one table says how well."""

from __future__ import annotations

import json
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits, punctuation
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from strhub.charset import PRINTABLE
from strhub.data.labels import tally
from strhub.data.module import SceneTextDataModule
from strhub.data.picture import UnreadablePictureError
from strhub.data.steady import SteadyLoader
from strhub.data.summary import counted
from strhub.engine.commandline import (
    Parser,
    default_workers,
    load_system,
    not_negative,
)
from strhub.engine.devices import pick_device
from strhub.engine.errors import door
from strhub.engine.predictions import Judged, PredictionWriter
from strhub.engine.read import Reading, read_batch, read_words
from strhub.engine.report.figures import Word, Words
from strhub.engine.report.markup import ready
from strhub.engine.report.page import Side, write_report
from strhub.engine.results import append, as_record, results_path, table
from strhub.engine.search.options import ReadingOptions, add_arguments, options_of
from strhub.engine.search.rotate import turn
from strhub.metrics import Score
from strhub.models.reader import Recogniser
from strhub.models.utils import parse_model_args
from strhub.terminal import say
from strhub.tokenizer import CharsetAdapter

BENCHMARK = {
    'Benchmark (Subset)': SceneTextDataModule.TEST_BENCHMARK_SUB,
    'Benchmark': SceneTextDataModule.TEST_BENCHMARK,
}
NEW = {'New': SceneTextDataModule.TEST_NEW}
SHOWN = 10  # names of unreadable pictures
NOTHING = Reading('', 0.0, ())  # of an unreadable picture

EXAMPLES = """\
  test.py pretrained=parseq --data_root data
  test.py outputs/crnn/last.ckpt --cased --punctuation
  test.py last.ckpt --sets my_words/ my_lmdb/ photos/labels.tsv --predictions readings.csv
  test.py last.ckpt --sets signs/ --lexicon streets.txt --try_rotations
  test.py pretrained=parseq --available refine_iters=2 decode_ar=false"""

Scores = dict[str, Score]  # by the name of the set
Groups = dict[str, list[str]]  # the names of the sets that share a table


def evaluate(
    system: Recogniser,
    loaders: Mapping[str, SteadyLoader],
    *,
    charset: str,
    note: Callable[[Judged], object] | None = None,
    progress: Callable[[int], object] | None = None,
    options: ReadingOptions | None = None,
) -> Scores:
    """Scores every set.

    Args:
        system: any model of the hub, on any device.
        loaders: set -> a loader of images (N, 3, H, W) and labels in `charset`, in the order of its data set, as
            `SceneTextDataModule.test_dataloaders` makes them.
        charset: the characters that readings are judged in.
        note: is told of every picture.
        progress: is told how many more pictures were read.
        options: beams, a lexicon, several positions, for which the loaders are made by `turn`.
    """
    adapt = CharsetAdapter(charset)
    scores: Scores = {}
    for name, loader in loaders.items():
        dataset: Any = loader.dataset
        scores[name] = Score()
        for images, labels in loader:
            places = range(scores[name].num_samples, scores[name].num_samples + len(labels))
            unreadable = [i for i, place in enumerate(places) if dataset.is_unreadable(place)]
            detailed = note is not None or options is not None
            texts, confidences, readings = _read(system, images, unreadable, detailed=detailed, options=options)
            predictions = [adapt(text) for text in texts]
            scores[name] += Score.of(predictions, labels, confidences)
            if note:
                for place, label, prediction, reading in zip(places, labels, predictions, readings, strict=True):
                    note(Judged(name, dataset.name_of(place), label, prediction, prediction == label, reading))
            if progress:
                progress(len(labels))
    return scores


def _read(
    system: Recogniser,
    images: Tensor,
    unreadable: Sequence[int],
    *,
    detailed: bool,
    options: ReadingOptions | None,
) -> tuple[list[str], list[float], list[Reading]]:
    """Texts, confidences and, if they are wanted, all that is known; an object for each character takes its time.

    What is read in the stead of an unreadable picture is wrong, even where it is right by chance.
    """
    if not detailed:
        texts, confidences = read_words(system, images)
        for i in unreadable:
            texts[i], confidences[i] = NOTHING.text, NOTHING.confidence
        return texts, confidences, []
    readings = read_batch(system, images, options=options)
    for i in unreadable:
        readings[i] = NOTHING
    return [one.text for one in readings], [one.confidence for one in readings], readings


# What is tested, and in which characters


def judging_charset(
    system: Recogniser, *, cased: bool = False, punctuated: bool = False, is_chosen: bool = False
) -> str:
    """Digits and lower case, with upper case and punctuation if asked for.

    A model that knows other characters than these is judged in all of its own, which would be deleted otherwise; and
    one that was loaded with a charset_test of the user's (`is_chosen`) in that.
    """
    if is_chosen:
        return system.hparams['charset_test']
    known = system.hparams['charset_train']
    if not set(PRINTABLE).issuperset(known):
        return known
    return digits + ascii_lowercase + (ascii_uppercase if cased else '') + (punctuation if punctuated else '')


def benchmark_groups(root: Path, *, new: bool = False, available: bool = False) -> tuple[Groups, list[str]]:
    """The groups of the benchmark below root/test, and the names of the sets that are left out.

    Raises:
        FileNotFoundError: a set is missing, unless only the `available` ones are asked for; or there is none.
    """
    groups: Groups = {group: list(names) for group, names in (BENCHMARK | (NEW if new else {})).items()}
    missing = [name for name in _sets_of(groups) if not (root / 'test' / name).exists()]
    there = {group: [name for name in names if name not in missing] for group, names in groups.items()}
    there = {group: names for group, names in there.items() if names}
    if missing and not (available and there):
        remedy = '--available tests those that are there, ' if there else '--data_root names another folder, '
        raise FileNotFoundError(
            f'{root / "test"} does not have {", ".join(missing)}: put them there; {remedy}--sets tests sets of your own'
        )
    return there, missing


def _sets_of(groups: Groups) -> list[str]:
    return list(dict.fromkeys(name for names in groups.values() for name in names))


def name_sets(paths: Sequence[str]) -> dict[str, Path]:
    """Short name -> path: of the folder, with that of the label file if one is given; in full where two are equal.

    Raises:
        FileNotFoundError: one of the paths does not exist.
    """
    sets: dict[str, Path] = {}
    for given in paths:
        path = Path(given).absolute()
        if not path.exists():
            raise FileNotFoundError(f'{given} does not exist: --sets takes LMDBs, labelled folders and label files')
        if path in sets.values():
            continue  # words and words/ are one set
        name = f'{path.parent.name}/{path.name}' if path.is_file() else path.name
        sets[given if name in sets else name] = path
    return sets


def left_out(loaders: Mapping[str, SteadyLoader]) -> Iterator[str]:
    """A line for each set of which not every word was tested, or not every picture could be read."""
    for name, loader in loaders.items():
        dataset: Any = loader.dataset
        if dataset.dropped:
            yield f'{name}: left out {tally(dataset.dropped)}'
        if names := dataset.unreadable:
            shown = ', '.join(names[:SHOWN]) + (' …' if len(names) > SHOWN else '')
            yield f'{name}: {counted(len(names), "picture")} could not be read, counted as wrong: {shown}'


# A report


def tee(*listeners: Callable[[Judged], object] | None) -> Callable[[Judged], object] | None:
    """Tells all of those that there are; None if there is none."""
    there = [listener for listener in listeners if listener is not None]
    return (lambda judged: [listener(judged) for listener in there]) if there else None


def opener(loaders: Mapping[str, SteadyLoader]) -> Callable[[Word], Image.Image]:
    """Gives the pictures of words that were tested; raises UnreadablePictureError for those that could not be read."""

    def open_word(word: Word) -> Image.Image:
        dataset: Any = loaders[word.set].dataset
        if dataset.is_unreadable(word.place):  # it may hang
            raise UnreadablePictureError(f'{word.picture} cannot be read')
        return dataset.picture(word.place)

    return open_word


def load_other(arguments: Namespace, system: Recogniser, charset: str, *, device: torch.device) -> Recogniser:
    """The checkpoint of --against, with nothing of it changed.

    Raises:
        ValueError: it is the first one, or does not read what that is judged in.
    """
    given = arguments.against
    if not arguments.overrides and Path(given).absolute() == Path(arguments.checkpoint).absolute():
        raise ValueError(f'--against {given} is the checkpoint itself: give another, or change how the first one reads')
    other = load_system(Namespace(**{**vars(arguments), 'checkpoint': given, 'overrides': []}), device=device)
    if unread := set(charset) & _readable(system) - _readable(other):
        raise ValueError(
            f'--against {given} does not read {"".join(sorted(unread)[:SHOWN])!r}, in which the first is judged: '
            'give a checkpoint for the same script, or charset_test=… with characters that both read'
        )
    return other


def _readable(system: Recogniser) -> set[str]:
    """What a model can read, where case does not count."""
    known = system.hparams['charset_train']
    return {*known, *known.lower(), *known.upper()}


# The door


def _parser() -> Parser:
    parser = Parser(
        description='Measures a checkpoint: on the benchmark below DATA_ROOT/test, or on sets of your own.',
        examples=EXAMPLES,
    )
    parser.add_argument('--num_workers', type=not_negative, default=default_workers(), metavar='N', help='that load')
    parser.add_argument('--predictions', metavar='FILE', help='write what was read in each picture to a .jsonl or .csv')
    parser.add_argument('--report', metavar='DIR', help='write one page with tables, charts and the errors to DIR')
    parser.add_argument(
        '--against',
        metavar='CHECKPOINT',
        help='measure a second one, as it is, and set it beside the first in the report',
    )
    data = parser.add_argument_group('what is tested')
    data.add_argument('--data_root', type=Path, default=Path('data'), metavar='DIR', help='the folder that holds test/')
    data.add_argument('--new', action='store_true', help='also ArT, COCOv1.4 and Uber')
    data.add_argument('--available', action='store_true', help='leave out the sets of the benchmark that are missing')
    data.add_argument(
        '--sets', nargs='+', metavar='PATH', help='instead: LMDBs, labelled folders, label files, trees of them'
    )
    rules = parser.add_argument_group('how it is judged')
    rules.add_argument('--cased', action='store_true', help='tell upper from lower case')
    rules.add_argument('--punctuation', action='store_true', help='count punctuation')
    rules.add_argument(
        '--normalize_unicode',
        action=BooleanOptionalAction,
        help='bring labels to ASCII first; if not said: unless the model reads other characters',
    )
    rules.add_argument(
        '--remove_whitespace',
        action=BooleanOptionalAction,
        help='remove it from the labels; if not said: unless it is among the characters that are judged',
    )
    rules.add_argument(
        '--min_image_dim', type=not_negative, default=0, metavar='N', help='leave out pictures with a shorter side'
    )
    add_arguments(parser)
    return parser


def _data(system: Recogniser, charset: str, arguments: Namespace) -> SceneTextDataModule:
    normalize, remove = arguments.normalize_unicode, arguments.remove_whitespace
    return SceneTextDataModule(
        arguments.data_root,
        'real',
        system.hparams['img_size'],
        system.hparams['max_label_length'],
        system.hparams['charset_train'],
        charset,
        arguments.batch_size,
        arguments.num_workers,
        augment=False,
        remove_whitespace=not any(map(str.isspace, charset)) if remove is None else remove,
        normalize_unicode=charset.isascii() if normalize is None else normalize,
        min_image_dim=arguments.min_image_dim,
        rotation=arguments.rotation,
    )


def _choose(arguments: Namespace) -> tuple[Groups, dict[str, Path], list[str]]:
    """The groups of sets, where each set lies, and what to tell about the choice."""
    if arguments.sets:
        paths = name_sets(arguments.sets)
        return {'Sets': list(paths)}, paths, []
    root = arguments.data_root
    groups, missing = benchmark_groups(root, new=arguments.new, available=arguments.available)
    paths = {name: (root / 'test' / name).absolute() for name in _sets_of(groups)}
    return groups, paths, [f'not available: {", ".join(missing)}'] if missing else []


@door
def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse(argv)
    options = options_of(arguments)
    chooses_charset = 'charset_test' in parse_model_args(arguments.overrides)
    if chooses_charset and (arguments.cased or arguments.punctuation):
        parser.error('charset_test=… says all about case and punctuation: leave out --cased and --punctuation')
    if arguments.sets and (arguments.new or arguments.available):
        parser.error('--new and --available belong to the benchmark, which --sets replaces')
    if arguments.against and not arguments.report:
        parser.error('--against goes into the page of --report, which says where to write it')
    writer = PredictionWriter(arguments.predictions) if arguments.predictions else None
    device = pick_device(arguments.device)
    groups, paths, notes = _choose(arguments)

    system = load_system(arguments, device=device)
    charset = judging_charset(
        system, cased=arguments.cased, punctuated=arguments.punctuation, is_chosen=chooses_charset
    )
    other = load_other(arguments, system, charset, device=device) if arguments.against else None
    loaders = _loaders(system, charset, paths, arguments)
    if options is not None:
        notes.append(f'read with {options}')
        turn(loaders, system.hparams['img_size'], options, rotation=arguments.rotation)
    folder = ready(arguments.report, '--report') if arguments.report else None
    name = system.hparams['name']
    header = f'{arguments.checkpoint} ({name}), judged in {len(charset)} characters: {charset}'
    say(header)
    words = Words()
    with ExitStack() as stack:
        note = tee(stack.enter_context(writer) if writer else None, words.note if folder else None)
        scores = _measure(system, loaders, charset, note, options)

    results = grouped(scores, groups)
    notes += left_out(loaders)
    report = '\n\n'.join([*(f'{group}:\n{table(rows)}' for group, rows in results.items()), '\n'.join(notes)]).strip()
    say(f'\n{report}')
    record = {
        **vars(arguments),
        'device': str(device),
        'model': name,
        'charset': charset,
        'notes': notes,
        'results': {group: as_record(rows) for group, rows in results.items()},
    }
    _save(arguments.checkpoint, f'{header}\n\n{report}', record)
    if folder is None:
        return
    sides = [Side(arguments.checkpoint, results, words)]
    if other is not None:
        print(f'\nnow {arguments.against} ({other.hparams["name"]})')
        others = Words()
        scores = _measure(other, _loaders(other, charset, paths, arguments), charset, others.note)
        print(*(f'\n{group}:\n{table(rows)}' for group, rows in grouped(scores, groups).items()), sep='\n')
        sides.append(Side(arguments.against, grouped(scores, groups), others))
    page = write_report(folder, sides, header=header, notes=notes, open_word=opener(loaders))
    print(f'the report is {page}')


def _loaders(
    system: Recogniser, charset: str, paths: Mapping[str, Path], arguments: Namespace
) -> dict[str, SteadyLoader]:
    by_path = _data(system, charset, arguments).test_dataloaders(list(paths.values()))
    return {name: by_path[str(path)] for name, path in paths.items()}


def grouped(scores: Scores, groups: Groups) -> dict[str, Scores]:
    return {group: {name: scores[name] for name in names} for group, names in groups.items()}


def _measure(
    system: Recogniser,
    loaders: Mapping[str, SteadyLoader],
    charset: str,
    note: Callable[[Judged], object] | None,
    options: ReadingOptions | None = None,
) -> Scores:
    sets: list[Any] = [loader.dataset for loader in loaders.values()]
    with tqdm(total=sum(map(len, sets)), unit='word', dynamic_ncols=True, disable=None) as bar:
        return evaluate(system, loaders, charset=charset, note=note, progress=bar.update, options=options)


def _save(checkpoint: str, report: str, record: dict[str, Any]) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec='seconds')
    path = results_path(checkpoint)
    append(path, f'{now}\n{report}\n\n')
    append(path.with_suffix('.jsonl'), json.dumps({'date': now, **record}, default=str) + '\n')
    say(f'\nsaved in {path} and {path.with_suffix(".jsonl").name}')
