#!/usr/bin/env python3
"""What reading left to right costs PARSeq beside its encoder, by each of its ways, and by the plain one.

    python benchmarks/decoding.py                                  PARSeq-S of random weights, all 26 steps
    python benchmarks/decoding.py --checkpoint last.ckpt --images ../shared/data/train/IIIT5k --limit 1000

plain reads as the paper defines it: at each step the text so far and the picture's keys and values are computed anew.
All take turns, round by round; figures are medians of the rounds, ratios medians of the rounds' ratios. With random
weights no word ends, so that every one has all steps, and drafts are of no use: how often they are right is told by a
trained network, on real pictures. Each way is first seen to give what the plain one gives.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strhub.models.utils import create_model, load_from_checkpoint

WAYS = 'plain', 'in_turn', 'verify', 'at once'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='parseq', help='of random weights (default: parseq)')
    parser.add_argument('--checkpoint', help='instead: a trained one')
    parser.add_argument('--images', type=Path, metavar='SET', help='words to read; without them noise is read')
    parser.add_argument('--limit', type=int, default=512, metavar='N', help='words of the set (default: 512)')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1, 32], metavar='N')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), metavar='N')
    parser.add_argument('--rounds', type=int, default=9, metavar='N', help='(default: 9)')
    parser.add_argument('--refine-iters', type=int, default=1, metavar='N', help='(default: 1)')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=WAYS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    system = load_from_checkpoint(arguments.checkpoint) if arguments.checkpoint else create_model(arguments.model)
    network = system.eval().model
    if not arguments.checkpoint:
        with torch.no_grad():
            network.head.bias[network.eos_id] -= 100  # no word ends
    network.refine_iters = arguments.refine_iters
    images = pictures(arguments.images, network.img_size, arguments.limit)
    print(f'{arguments.threads} threads, {len(images)} pictures, {arguments.refine_iters} refinements\n')
    print('| batch | way | ms a batch | of the encoder | passes a batch | other texts than plain |')
    print('|---:|---|---:|---:|---:|---:|')
    for size in arguments.batch_sizes:
        with torch.inference_mode():
            measure(system, images, size, arguments)


def pictures(path: Path | None, img_size: tuple[int, int], limit: int) -> Tensor:
    """(N, 3, H, W) in [-1, 1]."""
    if path is None:
        return torch.rand(32, 3, *img_size) * 2 - 1
    from strhub.charset import PRINTABLE
    from strhub.data.dataset import build_tree_dataset
    from strhub.data.labels import LabelRules
    from strhub.data.transforms import get_transform

    words = build_tree_dataset(path, LabelRules(PRINTABLE, 25), get_transform(img_size))
    return torch.stack([words[i][0] for i in range(min(limit, len(words)))])


def measure(system: Any, images: Tensor, size: int, arguments: argparse.Namespace) -> None:
    network = system.model
    batches = images.split(size)
    texts = {way: [text for batch in batches for text in read(system, way, batch)] for way in arguments.ways}
    passes = {way: count_passes(network, partial(run, network, way), batches) for way in arguments.ways}
    jobs: dict[str, Callable[[Tensor], Tensor]] = {
        'encoder': network.encode,
        **{way: partial(run, network, way) for way in arguments.ways},
    }
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(arguments.rounds):
        # A round of few pictures a batch takes a part of them, another one each time.
        part = [batches[(number * 8 + i) % len(batches)] for i in range(min(8, len(batches)))]
        for name, job in jobs.items():
            start = time.perf_counter()
            for batch in part:
                job(batch)
            spent[name].append(1e3 * (time.perf_counter() - start) / len(part))
    for name, times in spent.items():
        ratio = statistics.median(t / e for t, e in zip(times, spent['encoder'], strict=True))
        others = differing = ''
        if name in texts:
            others = f'{passes[name]:.1f}'
            differing = str(sum(a != b for a, b in zip(texts[name], texts[arguments.ways[0]], strict=True)))
        print(
            f'| {size} | {name} | {statistics.median(times):.1f} | {ratio:.3f} | {others} | {differing} |', flush=True
        )


def run(network: Any, way: str, images: Tensor) -> Tensor:
    if way == 'plain':
        return read_plainly(network, images)
    network.decode_ar, network.decoding = way != 'at once', way if way != 'at once' else 'in_turn'
    return network(images)


def read(system: Any, way: str, images: Tensor) -> list[str]:
    return system.tokenizer.decode(run(system.model, way, images).softmax(-1))[0]


def read_plainly(network: Any, images: Tensor) -> Tensor:
    """Nothing is kept from step to step."""
    memory = network.encode(images)
    steps = network.max_label_length + 1
    tokens = torch.full((len(images), 1), network.bos_id, device=images.device)
    logits = []
    for i in range(steps):
        logits.append(network.decode(tokens, network.decoder.project(memory), num_positions=i + 1)[:, -1:])
        tokens = torch.cat([tokens, logits[-1].argmax(-1)], 1)
        if (tokens == network.eos_id).any(1).all():
            break
    answer = torch.cat(logits, 1)
    for _ in range(network.refine_iters):
        projected = network.decoder.project(memory)
        answer = network._refine(answer, tokens[:, :1], projected, steps)
    return answer


def count_passes(network: Any, job: Callable[[Tensor], Tensor], batches: tuple[Tensor, ...]) -> float:
    """How often a batch goes through the decoder, on average."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = network.decoder.register_forward_hook(count)
    for batch in batches:
        job(batch)
    handle.remove()
    return calls / len(batches)


if __name__ == '__main__':
    main()
