#!/usr/bin/env python3
"""How many words one core renders in a second: python benchmarks/render.py [--count N] [--device cuda]

First painted by the word, as they are without a GPU; then painted by the batch on a device, where the share that is
left to the core, plans and their packing, says how many words a second it can feed to a GPU.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from strhub.data.synth import render_word
from strhub.data.synth.batch import render_batch, sketch
from strhub.data.synth.plan import plans

SIZE = 32, 128  # height and width of the pictures that batches are painted to
BATCH = 384


def measure(what: str, count: int, work: Callable[[range], Any], *, at_once: int = 1) -> None:
    work(range(at_once))
    clock, processor = time.perf_counter(), time.process_time()
    for first in range(0, count, at_once):
        work(range(first, first + at_once))
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    # on a machine with other work the second number is the one to compare
    print(f'{what}: {count / clock:.0f} words/s, {count / processor:.0f} words/s of processor time', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=5000, metavar='N', help='words per measurement (default: 5000)')
    parser.add_argument('--device', default='cpu', help='for batches (default: cpu)')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for index in range(arguments.count // 2):  # fonts are opened and glyphs rasterised when first used
        render_word(1, index)
    for difficulty in (0.0, 0.5, 1.0):

        def by_word(numbers: Sequence[int], difficulty: float = difficulty) -> None:
            render_word(0, numbers[0], difficulty=difficulty)

        measure(f'difficulty {difficulty}', arguments.count, by_word)

    def plan(numbers: Sequence[int]) -> None:
        sketch([next(plans(0, number)) for number in numbers])

    def by_batch(numbers: Sequence[int]) -> None:
        render_batch(0, numbers, SIZE, device=arguments.device)[0].cpu()

    count = max(arguments.count // BATCH, 1) * BATCH
    measure('batches at difficulty 1, share of the core', count, plan, at_once=BATCH)
    measure(f'batches at difficulty 1, {arguments.device} and all', count, by_batch, at_once=BATCH)


if __name__ == '__main__':
    main()
