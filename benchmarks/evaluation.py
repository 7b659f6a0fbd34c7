#!/usr/bin/env python3
"""What share of an evaluation it takes to decode and judge what the network says, beside doing so token by token.

  python benchmarks/evaluation.py                              the network of crnn-tiny, 10,000 rendered words
  python benchmarks/evaluation.py parseq-tiny --count 2000
  python benchmarks/evaluation.py outputs/crnn/last.ckpt --sets data/test/SVT

A network by name is untrained, and reads as many characters as it happens to. The two decoders take turns, round by
round, on the same probabilities; their figures are medians of the rounds, of the processor's time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from strhub.data.module import SceneTextDataModule
from strhub.data.synth.cli import main as render
from strhub.engine.evaluate import evaluate, judging_charset
from strhub.engine.read import Character, Reading
from strhub.metrics import Score, normalized_edit_distance
from strhub.models.utils import create_model, load_from_checkpoint
from strhub.tokenizer import BaseTokenizer, CharsetAdapter, CTCTokenizer

Judge = Callable[[BaseTokenizer, CharsetAdapter, Tensor, list[str]], Score]  # probabilities (N, L, C) and labels

BATCH = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', nargs='?', default='crnn-tiny', help='of the hub, or a checkpoint')
    parser.add_argument('--sets', nargs='+', metavar='PATH', help='of words; default: some that it renders')
    parser.add_argument('--count', type=int, default=10_000, metavar='N', help='words to render (default: 10000)')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='that load pictures (default: 1)')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='of the decoders (default: 5)')
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # of which an untrained network may have many
    system = load_from_checkpoint(args.model) if Path(args.model).is_file() else create_model(args.model)
    with tempfile.TemporaryDirectory() as folder:
        if not args.sets:
            args.sets = [f'{folder}/words']
            render(['--count', str(args.count), '--out', args.sets[0]])
        measure(system.eval(), args)


def measure(system: Any, args: argparse.Namespace) -> None:
    charset = judging_charset(system)
    data = SceneTextDataModule(
        *('.', 'real', system.hparams['img_size'], system.hparams['max_label_length']),
        *(system.hparams['charset_train'], charset, BATCH, args.workers),
        augment=False,
    )
    loaders: dict[str, Any] = {name: Watched(loader) for name, loader in data.test_dataloaders(args.sets).items()}
    network, logits = Stopwatch(), []

    def finished(*call: Any) -> None:
        network.stop()
        logits.append(call[-1])

    system.register_forward_pre_hook(lambda *_: network.start())
    system.register_forward_hook(finished)
    start = time.perf_counter()
    scores = evaluate(system, loaders, charset=charset)
    whole = time.perf_counter() - start

    total = sum(scores.values(), Score())
    print(f'{args.model}: {total.num_samples} words, {total.mean_label_length:.1f} characters read in each')
    parts = {'network': network.seconds, 'waiting for pictures': sum(one.watch.seconds for one in loaders.values())}
    for part, seconds in {**parts, 'decoding and metrics': whole - sum(parts.values())}.items():
        print(f'  {part:22} {seconds:8.2f} s {100 * seconds / whole:6.2f} %')
    labels = [batch for loader in loaders.values() for batch in loader.labels]
    probs = [one.softmax(-1) for one in logits]
    compare(system.tokenizer, CharsetAdapter(charset), list(zip(probs, labels, strict=True)), args.rounds)


def compare(
    tokenizer: BaseTokenizer, adapt: CharsetAdapter, batches: list[tuple[Tensor, list[str]]], rounds: int
) -> None:
    spent: dict[Judge, list[float]] = {plain: [], ours: []}
    scores = dict.fromkeys(spent, Score())
    for _ in range(rounds):
        for judge, seconds in spent.items():
            start = time.process_time()
            scores[judge] = sum((judge(tokenizer, adapt, *batch) for batch in batches), Score())
            seconds.append(time.process_time() - start)
    before, after = (1e7 * statistics.median(seconds) / scores[ours].num_samples for seconds in spent.values())
    print('  ms per 10,000 words: token by token   ours  ratio')
    print(f'{before:36.0f} {after:6.0f} {before / after:6.1f}')
    gap = (scores[plain].to_tensor() - scores[ours].to_tensor()).abs().max() / scores[ours].num_samples
    if gap > 1e-6:
        raise AssertionError(f'the two do not agree: {scores}')


class Stopwatch:
    seconds = 0.0

    def start(self) -> None:
        self.started = time.perf_counter()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self.started


class Watched:
    """A loader that knows how long its batches were waited for, and keeps their labels."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader, self.dataset = loader, loader.dataset
        self.watch, self.labels = Stopwatch(), []

    def __iter__(self) -> Iterator[Any]:
        self.watch.start()
        for batch in self.loader:
            self.watch.stop()
            self.labels.append(batch[1])
            yield batch
            self.watch.start()
        self.watch.stop()


def ours(tokenizer: BaseTokenizer, adapt: CharsetAdapter, probs: Tensor, labels: list[str]) -> Score:
    """As `evaluate` does where nobody asks for the predictions."""
    texts, confidences = tokenizer.decode_words(probs)
    return Score.of([adapt(text) for text in texts], labels, confidences)


def plain(tokenizer: BaseTokenizer, adapt: CharsetAdapter, probs: Tensor, labels: list[str]) -> Score:
    """Each token in turn, an object for each character, and each character looked up in the charset."""
    best, ids = probs[..., : len(tokenizer.charset) + 1].max(-1)
    predictions, confidences = [], []
    for row in zip(ids.tolist(), best.tolist(), strict=True):
        text, chars, end = read(tokenizer, *row)
        confidence = float(best.new_tensor(chars).prod()) * end
        reading = Reading(text, confidence, tuple(map(Character, text, chars)))
        predictions.append(''.join(char for char in adapt.fold(reading.text) if char in adapt.charset))
        confidences.append(reading.confidence)
    pairs = list(zip(predictions, labels, strict=True))
    return Score(
        len(pairs),
        sum(prediction == label for prediction, label in pairs),
        sum(normalized_edit_distance(*pair) for pair in pairs),
        sum(confidences),
        sum(map(len, predictions)),
    )


def read(tokenizer: BaseTokenizer, ids: list[int], probs: list[float]) -> tuple[str, list[float], float]:
    charset = tokenizer.charset
    if not isinstance(tokenizer, CTCTokenizer):
        length = ids.index(0) if 0 in ids else len(ids)
        return ''.join(charset[i - 1] for i in ids[:length]), probs[:length], (probs[length:] or [1.0])[0]
    text, chars, blanks = '', [], 1.0
    for token, run in groupby(zip(ids, probs, strict=True), key=lambda frame: frame[0]):
        p = prod(frame_prob for _, frame_prob in run)
        if token:
            text += charset[token - 1]
            chars.append(p)
        else:
            blanks *= p
    return text, chars, blanks


if __name__ == '__main__':
    main()
