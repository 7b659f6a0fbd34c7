"""Training steps: how many pictures a second, and how time divides among data, network, gradients and optimiser.

The steps are those of ./train.py, by the same trainer. First they run as they are, which gives the speed; then with a
stop at the end of each part, which gives the shares: on a GPU waiting for each part costs what overlaps otherwise.
"""

from __future__ import annotations

import copy
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from strhub.data.synth.words import WordSource
from strhub.engine import fit
from strhub.engine.bench.options import OF_STEPS, Case, Options
from strhub.engine.bench.subjects import build_system, lay_out
from strhub.engine.configure import key_of
from strhub.engine.devices import share_cores
from strhub.models.base import BaseSystem

MIN_STEPS = 3  # timed, however long they take
SCHEDULED_STEPS = 1_000_000  # for the learning rate; the stopwatch ends the training long before


@dataclass(frozen=True)
class StepTiming:
    """What a training step takes.

    Attributes:
        seconds: a step.
        steps: that were timed.
        memory: bytes, at their most: of the GPU, or of the whole process.
        parts: seconds a step of each part, in order, timed one by one.
    """

    case: Case
    seconds: float
    steps: int
    memory: int | None
    parts: dict[str, float]

    @property
    def pictures_per_second(self) -> float:
        return self.case.batch_size / self.seconds

    def as_record(self) -> dict[str, Any]:
        return {
            'batch_size': self.case.batch_size,
            'threads': self.case.threads,
            'seconds': self.seconds,
            'steps': self.steps,
            'pictures_per_second': self.pictures_per_second,
            'peak_memory_bytes': self.memory,
            'parts_seconds': self.parts,
        }


def measure_steps(settings: Mapping[str, Any], words: Sequence[str], case: Case, options: Options) -> StepTiming:
    """Trains as the configuration says, on the pictures that the words name, else on random ones, for a while."""
    chosen: dict[str, Any] = copy.deepcopy(dict(settings))
    is_random = not any(key_of(word).partition('.')[0] in OF_STEPS for word in words)
    on_gpu = options.device.type == 'cuda'
    chosen['threads'] = case.threads
    chosen['trainer']['accelerator'] = 'gpu' if on_gpu else options.device.type
    chosen['model']['batch_size'] = case.batch_size
    if is_random:
        chosen['data']['num_workers'] = 0
    before = torch.get_num_threads()
    fit.quieten()
    warnings.filterwarnings('ignore', '.*no `val_dataloader`')  # nothing is validated
    share_cores(chosen)
    system = build_system(chosen, [*words, f'model.batch_size={case.batch_size}'], options)
    data = {'train_dataloaders': Repeated(system, case, options.seed)} if is_random else {'datamodule': data_of(chosen)}
    stopwatch = Stopwatch(system, options)
    lay_out(system, options)
    trainer = pl.Trainer(
        accelerator=chosen['trainer']['accelerator'],
        devices=[options.device.index or 0] if on_gpu else 1,
        precision='bf16-mixed' if options.bf16 else '32-true',
        max_epochs=-1,
        max_steps=SCHEDULED_STEPS,
        gradient_clip_val=chosen['trainer']['gradient_clip_val'],
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[stopwatch],
    )
    try:
        with fit.exiting('./bench.py'):
            trainer.fit(system, **data)
    finally:
        torch.set_num_threads(before)
    return StepTiming(case, stopwatch.seconds, stopwatch.steps, stopwatch.memory, stopwatch.parts)


def data_of(settings: dict[str, Any]) -> pl.LightningDataModule:
    settings['data']['val_dir'] = settings['data']['root_dir']  # which has to be named, though it is not read
    workers = settings['data']['num_workers']
    if type(workers) is not int:
        raise ValueError(f'data.num_workers is {workers!r}: give a whole number, at least 0, or auto')
    data = fit.build_data(settings)
    if settings['data']['train_dir'] == 'rendered':
        data.start_batch = len(data.train_dataloader()) // 2  # words of full difficulty take longer to render
    return data


class Repeated:
    """A loader that has one batch of noise and words, again and again."""

    def __init__(self, system: BaseSystem, case: Case, seed: int) -> None:
        hparams = system.hparams
        generator, rng = torch.Generator().manual_seed(seed), Random(seed)
        words = WordSource(hparams['charset_train'], max_length=hparams['max_label_length'])
        self.images = torch.rand(case.batch_size, 3, *hparams['img_size'], generator=generator) * 2 - 1
        self.labels = [words.draw(rng) for _ in range(case.batch_size)]

    def __len__(self) -> int:
        return SCHEDULED_STEPS

    def __iter__(self) -> Iterator[tuple[Tensor, list[str]]]:
        for _ in range(len(self)):
            yield self.images, self.labels


class Stopwatch(pl.Callback):
    """Lets a training run for as long as it takes to time it."""

    def __init__(self, system: BaseSystem, options: Options) -> None:
        self.options = options
        self.steps, self.seconds = 0, 0.0
        self.memory: int | None = None
        self.is_marking = False
        self._done, self._began, self._last = 0, 0.0, 0.0
        self._marked: dict[str, float] = defaultdict(float)
        self._inner: dict[str, float] = defaultdict(float)
        self._rest = 'forward, loss'
        if not options.compile:  # which would have to stop at each part
            self._watch(system.model)

    @property
    def parts(self) -> dict[str, float]:
        """Seconds a step."""
        marked = dict(self._marked)
        forward = marked['forward'] - sum(self._inner.values())
        parts = {'data': marked['data'], **self._inner, self._rest: forward}
        parts |= {name: marked[name] for name in ('backward', 'optimiser')}
        return {name: seconds / self._done for name, seconds in parts.items()}

    def _watch(self, network: nn.Module) -> None:
        """Times what is below the network: what it encodes pictures with, or else its children."""
        encode: Callable[..., Any] | None = getattr(network, 'encode', None)
        if encode is not None:
            self._rest = 'decoder, loss'
            setattr(network, 'encode', self._timed('encoder', encode))  # noqa: B010
            return
        self._rest = 'rest of forward, loss'
        for name, child in network.named_children():
            if any(True for _ in child.parameters()):
                setattr(child, 'forward', self._timed(name, child.forward))  # noqa: B010

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.is_marking:
                return function(*args, **kwargs)
            began = self._now()
            result = function(*args, **kwargs)
            self._inner[name] += self._now() - began
            return result

        return call

    def _now(self) -> float:
        if self.options.device.type == 'cuda':
            torch.cuda.synchronize(self.options.device)
        elif self.options.device.type == 'mps':
            torch.mps.synchronize()
        return time.perf_counter()

    def _mark(self, part: str) -> None:
        if self.is_marking:
            now = self._now()
            self._marked[part] += now - self._last
            self._last = now

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        reset_peak_memory(self.options.device)
        self._began = self._now()

    def on_train_batch_start(self, *_: Any) -> None:
        self._mark('data')

    def on_before_backward(self, *_: Any) -> None:
        self._mark('forward')

    def on_after_backward(self, *_: Any) -> None:
        self._mark('backward')

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._mark('optimiser')
        self._done += 1
        if not self.steps and trainer.global_step <= self.options.warmup:
            self._done, self._began = 0, self._now()
            return
        if self._done < MIN_STEPS or time.perf_counter() - self._began < self.options.seconds:
            return
        if self.is_marking:
            trainer.should_stop = True
            return
        now = self._now()
        self.steps, self.seconds = self._done, (now - self._began) / self._done
        self.memory = peak_memory(self.options.device)
        self._done, self._began, self._last, self.is_marking = 0, now, now, True


def reset_peak_memory(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == 'linux':
        with suppress(OSError):
            Path('/proc/self/clear_refs').write_text('5')  # the peak of this process, proc(5)


def peak_memory(device: torch.device) -> int | None:
    """Bytes: of the GPU, or of this process without its workers; None where the system does not tell."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else 1024 * peak
