#!/usr/bin/env python3
"""How fast exported networks read on the processor, beside the checkpoint in torch.

    python benchmarks/export.py                                    PARSeq-S of random weights, all 26 steps
    python benchmarks/export.py --checkpoint last.ckpt --images ../shared/data/train/IIIT5k
    python benchmarks/export.py --model crnn --ways onnx openvino --batch-sizes 1 8

All take turns, round by round; figures are medians of the rounds, ratios medians of the rounds' ratios. With random
weights no word ends, so that every one has all steps. Each is first seen to give the logits of torch, but int8.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from decoding import pictures
from torch import Tensor

from strhub.engine.export.formats import SUFFIXES, load, write
from strhub.models.modules import word_lengths
from strhub.models.utils import create_model, load_from_checkpoint
from strhub.models.utils import parse_model_args as parse
from strhub.tokenizer import Tokenizer

WAYS = 'onnx', 'int8', 'torchscript', 'openvino'
BATCHES_A_ROUND = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='parseq', help='of random weights (default: parseq)')
    parser.add_argument('--checkpoint', help='instead: a trained one')
    parser.add_argument('--images', type=Path, metavar='SET', help='words to read; without them noise is read')
    parser.add_argument('--limit', type=int, default=256, metavar='N', help='words of the set (default: 256)')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1, 32], metavar='N')
    parser.add_argument('--threads', type=int, default=2, metavar='N', help='(default: 2)')
    parser.add_argument(
        '--processor-time',
        action='store_true',
        help='not that on the clock, for a busy machine; with one thread',
    )
    parser.add_argument('--rounds', type=int, default=9, metavar='N', help='(default: 9)')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=['onnx', 'int8'])
    parser.add_argument('--set', nargs='*', default=[], metavar='NAME=VALUE', help='hyper-parameters: decode_ar=false')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    overrides = parse(arguments.set)
    if arguments.checkpoint:
        system = load_from_checkpoint(arguments.checkpoint, **overrides).eval()
    else:
        system = create_model(arguments.model, **overrides).eval()
        never_ending(system)
    images = pictures(arguments.images, tuple(system.hparams['img_size']), arguments.limit)
    runs: dict[str, Callable[[Tensor], Tensor]] = {'torch': torch.inference_mode()(system.forward)}
    with TemporaryDirectory() as folder:
        for way in arguments.ways:
            kind = 'onnx' if way == 'int8' else way
            path = Path(folder) / f'{way}{SUFFIXES[kind]}'
            write(deepcopy(system), path, kind, int8=way == 'int8')
            runs[way] = load(path, kind, threads=arguments.threads)
        print(f'{system.hparams["name"]}, {arguments.threads} threads, {len(images)} pictures')
        print('| batch | way | ms a batch | times as fast as torch | other texts |\n|---:|---|---:|---:|---:|')
        for size in arguments.batch_sizes:
            clock = time.process_time if arguments.processor_time else time.perf_counter
            measure(system, runs, images, size, arguments.rounds, clock)


def never_ending(system: torch.nn.Module) -> None:
    """Makes the end of a text the least likely."""
    head = getattr(system.model, 'head', None)
    if head is not None:
        with torch.no_grad():
            head.bias[0] -= 100


def measure(
    system: torch.nn.Module,
    runs: dict[str, Callable[[Tensor], Tensor]],
    images: Tensor,
    size: int,
    rounds: int,
    clock: Callable[[], float],
) -> None:
    batches = images.split(size)[: max(BATCHES_A_ROUND, 32 // size)]
    others = dict.fromkeys(runs, 0)
    for batch in batches:
        expected = runs['torch'](batch)
        texts = system.tokenizer.decode(expected.softmax(-1))[0]
        for way, run in runs.items():
            found = run(batch)[:, : expected.shape[1]]
            others[way] += sum(
                a != b for a, b in zip(texts, system.tokenizer.decode(found.softmax(-1))[0], strict=True)
            )
            if way != 'int8':
                check(system, found, expected)
    spent: dict[str, list[float]] = {way: [] for way in runs}
    for number in range(rounds):
        part = [batches[(number * BATCHES_A_ROUND + i) % len(batches)] for i in range(BATCHES_A_ROUND)]
        for way, run in runs.items():
            start = clock()
            for batch in part:
                run(batch)
            spent[way].append(1e3 * (clock() - start) / len(part))
    for way, times in spent.items():
        ratio = statistics.median(t / own for t, own in zip(spent['torch'], times, strict=True))
        print(f'| {size} | {way} | {statistics.median(times):.1f} | {ratio:.2f} | {others[way]} |', flush=True)


def check(system: torch.nn.Module, found: Tensor, expected: Tensor) -> None:
    differences = (found - expected).abs().amax(-1)
    if isinstance(system.tokenizer, Tokenizer):
        lengths = word_lengths(expected[..., : len(system.tokenizer) - 2].argmax(-1), 0)
        differences = differences[torch.arange(found.shape[1]) < lengths[:, None]]
    assert float(differences.max()) < 1e-3, float(differences.max())


if __name__ == '__main__':
    main()
