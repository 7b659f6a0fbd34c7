#!/usr/bin/env python3
"""What training PARSeq in several reading orders costs: all in one call of the decoder, and in a call for each.

    python benchmarks/permutations.py
    python benchmarks/permutations.py --batch-size 8 --threads 1 --only step

decoder is the decoder's forward and backward pass for given memory, of 1 order and of 6; step is a whole training step
with its optimiser. loop is the plain method: a call for each order, of all its positions, whose losses are added up,
with an optimiser that goes through the weights one by one. All take turns, round by round; figures are medians of the
rounds, ratios medians of the rounds' ratios. Labels are those of rendered words. Before anything is timed, loop and one
call are seen to give the same loss and gradients.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from strhub.data.synth.words import WordSource
from strhub.models.parseq.permutations import sample_permutations
from strhub.models.utils import create_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='parseq', help='(default: parseq)')
    parser.add_argument('--batch-size', type=int, default=32, metavar='N', help='(default: 32)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), metavar='N')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='(default: 5)')
    parser.add_argument('--only', choices=('decoder', 'step'), help='(default: both)')
    parser.add_argument('--no-compile', action='store_true', help='leave the compiled step out')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    rng, words = Random(0), WordSource()
    labels = [words.draw(rng) for _ in range(arguments.batch_size)]
    lengths = sorted(map(len, labels))
    print(
        f'{arguments.model}, {arguments.batch_size} words of {statistics.mean(lengths):.1f} characters, '
        f'the longest of {lengths[-1]}, {arguments.threads} threads\n'
    )
    check(labels)
    system = create_model(arguments.model).train()
    images = torch.rand(len(labels), 3, *system.hparams['img_size']) * 2 - 1
    if arguments.only != 'step':
        decoder(system, labels, images, arguments.rounds)
    if arguments.only != 'decoder':
        step(system, labels, images, arguments)


def check(labels: list[str]) -> None:
    system = create_model('parseq-tiny', dropout=0.0).double()
    images = torch.rand(4, 3, *system.hparams['img_size']).double() * 2 - 1
    orders = sample_permutations(max(map(len, labels[:4])), 6)
    losses = [loss(system, system.model.encode(images), labels[:4], orders) for loss in (together, loop)]
    gradients = [torch.autograd.grad(loss, list(system.parameters())) for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


def together(system: Any, memory: Tensor, labels: list[str], orders: Tensor) -> Tensor:
    return system.loss_of(memory, labels, orders=orders)


def loop(system: Any, memory: Tensor, labels: list[str], orders: Tensor) -> Tensor:
    tokens, pad = system.encode(labels), system.tokenizer.pad_id
    targets, total, count = tokens[:, 1:], memory.new_zeros(()), 0
    for k, order in enumerate(orders):
        if k == 2:
            targets = targets.masked_fill(targets == system.tokenizer.eos_id, pad)
        logits = system.model.decode_permuted(tokens, memory, order[None])
        num = int((targets != pad).sum())
        total = total + num * F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=pad)
        count += num
    return total / count


def decoder(system: Any, labels: list[str], images: Tensor, rounds: int) -> None:
    memory = system.model.encode(images).detach().requires_grad_()
    length = max(map(len, labels))

    def job(loss: Callable[..., Tensor], num: int) -> Callable[[], None]:
        orders = sample_permutations(length, 6)[:num]
        return lambda: loss(system, memory, labels, orders).backward()

    jobs = {'decoder, 1 order': job(together, 1), '6 orders': job(together, 6), '6 orders, loop': job(loop, 6)}
    table(race(jobs, rounds), 'decoder, 1 order', 'as long as 1 order')


def step(system: Any, labels: list[str], images: Tensor, arguments: argparse.Namespace) -> None:
    orders = sample_permutations(max(map(len, labels)), 6)

    def job(loss: Callable[..., Tensor], *, bf16: bool = False, compiled: bool = False, fused: bool = True) -> Any:
        own = create_model(arguments.model).train()
        encode = own.model.encode
        if compiled:
            for part in own.compilable():
                part.compile()
        optimizer = AdamW(
            own.parameters(), 1e-4, weight_decay=0, fused=fused or None, foreach=False if not fused else None
        )

        def run() -> None:
            with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
                value = loss(own, encode(images), labels, orders)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(own.parameters(), 20)
            optimizer.step()

        return run

    jobs = {
        'step, loop': job(loop, fused=False),
        'float32': job(together),
        'bfloat16': job(together, bf16=True),
    }
    if not arguments.no_compile:
        jobs |= {'float32, compiled': job(together, compiled=True)}
        jobs |= {'bfloat16, compiled': job(together, bf16=True, compiled=True)}
    spent = race(jobs, arguments.rounds)
    table(spent, 'step, loop', 'as long as the loop')
    for name, times in spent.items():
        ratio = statistics.median(a / b for a, b in zip(spent['step, loop'], times, strict=True))
        print(f'{name}: {ratio:.2f} times as fast')


def race(jobs: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if number:  # the first one warms up
                spent[name].append(1e3 * (time.perf_counter() - start))
    return spent


def table(spent: dict[str, list[float]], base: str, title: str) -> None:
    print(f'| | ms | {title} |\n|---|---:|---:|')
    for name, times in spent.items():
        ratio = statistics.median(t / b for t, b in zip(times, spent[base], strict=True))
        print(f'| {name} | {statistics.median(times):.0f} | {ratio:.2f} |', flush=True)
    print()


if __name__ == '__main__':
    main()
