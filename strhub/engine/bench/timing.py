"""Times of reading: of one model by torch's benchmark timer, of several in turns."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from strhub.engine.bench.options import Case, Options
from strhub.models.base import BaseSystem

ROUNDS = range(3, 11)  # fewest and most times that each of several models has its turn
MIN_TIMES = 3  # to tell something of their spread
UNSTEADY = 0.1  # share of the median that the middle half of the times may spread over


@dataclass(frozen=True)
class Timing:
    """How long a batch takes.

    Attributes:
        median: seconds.
        iqr: seconds between the first and the third quarter of the times.
        runs: batches that were timed.
    """

    case: Case
    median: float
    iqr: float
    runs: int

    @property
    def pictures_per_second(self) -> float:
        return self.case.batch_size / self.median

    @property
    def is_steady(self) -> bool:
        return self.iqr <= UNSTEADY * self.median

    def as_record(self) -> dict[str, float | int | None]:
        return {
            'batch_size': self.case.batch_size,
            'threads': self.case.threads,
            'max_length': self.case.max_length,
            'median_seconds': self.median,
            'iqr_seconds': self.iqr,
            'runs': self.runs,
            'pictures_per_second': self.pictures_per_second,
        }


@cache
def torch_benchmark() -> ModuleType:
    """torch.utils.benchmark, which looks for compilers as it is imported, and need not say what it lacks."""
    logging.getLogger('torch.utils.cpp_extension').setLevel(logging.ERROR)
    from torch.utils import benchmark

    return benchmark


def reading(system: BaseSystem, pictures: Tensor, case: Case, options: Options) -> Callable[[], Tensor]:
    """A function that reads a batch of the case, repeating pictures (N, 3, H, W) where it takes more."""
    repeats = math.ceil(case.batch_size / len(pictures))
    images = pictures.repeat(repeats, 1, 1, 1)[: case.batch_size].to(options.device)

    def read() -> Tensor:
        with torch.inference_mode(), torch.autocast(options.device.type, torch.bfloat16, enabled=options.bf16):
            return system(images, case.max_length)

    return read


def measure(read: Callable[[], Tensor], case: Case, options: Options) -> Timing:
    """Times one model."""
    warm_up(read, case, options)
    timer = torch_benchmark().Timer('read()', globals={'read': read}, num_threads=case.threads)
    result = timer.blocked_autorange(min_run_time=options.seconds)
    times = list(result.times)
    while len(times) < MIN_TIMES:  # a single run takes longer than it was to last
        times += timer.blocked_autorange(min_run_time=options.seconds).times
    return of_times(case, times, len(times) * result.number_per_run)


def measure_in_turns(reads: Mapping[str, Callable[[], Tensor]], case: Case, options: Options) -> dict[str, Timing]:
    """Times several models, each for a while and then the next, again and again: what drifts does so for all."""
    for read in reads.values():
        warm_up(read, case, options)
    with threads(case.threads):
        once = {name: seconds_of(read, 1) for name, read in reads.items()}
        rounds = min(max(int(options.seconds / max(once.values())), ROUNDS.start), ROUNDS.stop - 1)
        number = {name: max(1, round(options.seconds / rounds / seconds)) for name, seconds in once.items()}
        times: dict[str, list[float]] = {name: [] for name in reads}
        for _ in range(rounds):
            for name, read in reads.items():
                times[name].append(seconds_of(read, number[name]) / number[name])
    return {name: of_times(case, values, rounds * number[name]) for name, values in times.items()}


def of_times(case: Case, times: list[float], runs: int) -> Timing:
    first, median, third = statistics.quantiles(times, n=4, method='inclusive')
    return Timing(case, median, third - first, runs)


def seconds_of(read: Callable[[], Tensor], number: int) -> float:
    clock = torch_benchmark().timer  # waits for the device
    began = clock()
    for _ in range(number):
        read()
    return clock() - began


def warm_up(read: Callable[[], Tensor], case: Case, options: Options) -> None:
    with threads(case.threads):
        for _ in range(options.warmup):
            read()


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Lets torch compute with so many for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
