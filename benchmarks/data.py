#!/usr/bin/env python3
"""How fast words come from an LMDB, beside an ordinary loader (plain.py) that does the same to them.

  python benchmarks/data.py                        words that it renders
  python benchmarks/data.py data/train/real/SVT    LMDBs of yours

The two take turns, round by round, and all figures are medians of the rounds. Time is that of the processor.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import string
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import plain
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from strhub.data.base import TOGETHER, KeyedRandom
from strhub.data.dataset import LmdbDataset
from strhub.data.labels import LabelRules
from strhub.data.module import collate, start_worker
from strhub.data.synth.cli import main as render
from strhub.data.transforms import WordTransform, get_transform, to_tensor

SIZE = 32, 128
BATCH = 128
RULES = LabelRules(string.digits + string.ascii_letters + string.punctuation, 25)
STAGES = READ, DECODE, AUGMENT, SCALE, COLLATE = 'read', 'decode', 'augment and resize', 'to float', 'collate'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('lmdbs', nargs='*', type=Path, metavar='LMDB')
    parser.add_argument('--count', type=int, default=2048, metavar='N', help='pictures a round (default: 2048)')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='default: 5')
    parser.add_argument('--workers', type=int, default=2, metavar='N', help='up to how many (default: 2)')
    args = parser.parse_args()
    start_worker(0)
    with tempfile.TemporaryDirectory() as folder:
        if not args.lmdbs:
            args.lmdbs = [Path(folder) / 'rendered']
            render(['--count', '2000', '--jobs', '1', '--out', str(args.lmdbs[0])])
        for lmdb in args.lmdbs:
            measure(lmdb, args)


def measure(lmdb: Path, args: argparse.Namespace) -> None:
    words = LmdbDataset(lmdb, RULES)
    sizes = [words.size(index) or (0, 0) for index in range(0, len(words), max(1, len(words) // 500))]
    print(f'\n{lmdb}: {len(words)} words, of about {" x ".join(f"{side:.0f}" for side in np.median(sizes, 0))} pixels')
    order = np.random.default_rng(0).permutation(max(args.count, len(words)))[: args.count] % len(words)
    print(f'{"pictures a second and core":32}    plain    ours  ratio')
    costs = []
    for workers in range(args.workers + 1):
        jobs = [partial(load, dataset(lmdb, augment=True), order, workers) for dataset in (plain_words, our_words)]
        costs.append(compare(f'augmented batches, {workers} workers', jobs, args))
    jobs = [partial(load, dataset(lmdb, augment=False), order, 0) for dataset in (plain_words, our_words)]
    compare('batches as they are, 0 workers', jobs, args)
    decoders = plain.PlainDataset(lmdb, np.asarray), LmdbDataset(lmdb, RULES, Decoded(SIZE, augment=True))
    compare('decoded pictures', [partial(each, decoder, order) for decoder in decoders], args)

    print(f'{"microseconds a picture":32}    plain    ours')
    rounds = [(plain_stages(lmdb, order), our_stages(lmdb, order)) for _ in range(args.rounds)]
    for stage in STAGES:
        spent = [statistics.median(times[side][stage] for times in rounds) / args.count for side in (0, 1)]
        print(f'  {stage:30} {1e6 * spent[0]:8.1f} {1e6 * spent[1]:7.1f}')
    if args.workers:
        spent = [after - before for before, after in zip(costs[0], costs[1], strict=True)]
        print(f'  {"handed on by a worker":30} {1e6 * spent[0]:8.1f} {1e6 * spent[1]:7.1f}')


def plain_words(lmdb: Path, *, augment: bool) -> Dataset:
    rng = np.random.default_rng(0)

    def transform(image: Image.Image) -> Tensor:
        return plain.to_tensor(plain.resize(plain.augment(image, rng) if augment else image, *SIZE))

    return plain.PlainDataset(lmdb, transform)


def our_words(lmdb: Path, *, augment: bool) -> Dataset:
    return LmdbDataset(lmdb, RULES, get_transform(SIZE, augment), replace_unreadable=augment)


class Decoded(WordTransform):
    """Opens pictures as training does, and leaves it at that."""

    def together(self, images: Sequence[Any], rngs: Iterable[np.random.Generator]) -> Sequence[Any]:
        return images


def load(words: Dataset, order: np.ndarray, workers: int) -> None:
    ours = isinstance(words, LmdbDataset)
    for _ in DataLoader(
        Subset(words, order.tolist()),
        BATCH,
        num_workers=workers,
        collate_fn=collate if ours else default_collate,
        worker_init_fn=start_worker,
    ):
        pass


def each(words: Any, order: np.ndarray) -> None:
    read = getattr(words, '__getitems__', lambda keys: [words[key] for key in keys])
    for at in range(0, len(order), BATCH):
        read(order[at : at + BATCH].tolist())


def compare(name: str, jobs: Sequence[Callable[[], None]], args: argparse.Namespace) -> list[float]:
    """The seconds that each job takes for a picture."""
    rounds = [[seconds(job) for job in jobs] for _ in range(args.rounds + 1)][1:]  # the first warms up
    costs = [statistics.median(times) / args.count for times in zip(*rounds, strict=True)]
    ratio = statistics.median(theirs / ours for theirs, ours in rounds)
    print(f'  {name:30} {1 / costs[0]:8.0f} {1 / costs[1]:7.0f} {ratio:6.2f}', flush=True)
    return costs


def seconds(job: Callable[[], Any]) -> float:
    """Processor time, that of worker processes included."""
    before = _spent()
    job()
    return _spent() - before


def _spent() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Stopwatch:
    """Processor time by stage."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._last = time.thread_time()

    def lap(self, stage: str) -> None:
        """What was done since the last lap was this stage."""
        now = time.thread_time()
        self.spent[stage] += now - self._last
        self._last = now


def our_stages(lmdb: Path, order: np.ndarray) -> Counter[str]:
    words, transform, random, watch = LmdbDataset(lmdb, RULES), get_transform(SIZE, True), KeyedRandom(0), Stopwatch()
    augment, batch = transform.augment, []
    assert augment is not None
    for at in range(0, len(order), TOGETHER):
        keys = order[at : at + TOGETHER].tolist()
        watch.lap('')
        read = words.read(keys)
        labels = [words.rules.judge(label)[0] for _, label in read]
        watch.lap(READ)
        pixels = [np.asarray(transform.open(encoded)) for encoded, _ in read]
        watch.lap(DECODE)
        planes = augment.resized(pixels, SIZE, map(random.at, keys))
        watch.lap(AUGMENT)
        batch += zip(to_tensor(np.stack(planes)).unbind(), labels, strict=True)
        watch.lap(SCALE)
        if len(batch) >= BATCH:
            collate(batch)
            batch.clear()
            watch.lap(COLLATE)
    return watch.spent


def plain_stages(lmdb: Path, order: np.ndarray) -> Counter[str]:
    words, rng, watch, batch = plain.PlainDataset(lmdb, np.asarray), np.random.default_rng(0), Stopwatch(), []
    for index in order.tolist():
        watch.lap('')
        encoded, label = words.record(index)
        watch.lap(READ)
        image = plain.decode(encoded)
        watch.lap(DECODE)
        image = plain.resize(plain.augment(image, rng), *SIZE)
        watch.lap(AUGMENT)
        batch.append((plain.to_tensor(image), label))
        watch.lap(SCALE)
        if len(batch) >= BATCH:
            default_collate(batch)
            batch.clear()
            watch.lap(COLLATE)
    return watch.spent


if __name__ == '__main__':
    main()
