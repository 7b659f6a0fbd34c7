"""What is shown and kept of a measurement: tables, and a file with all numbers and what they were measured with."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from strhub.cores import cores
from strhub.data.summary import counted
from strhub.engine.bench.counts import Counts
from strhub.engine.bench.options import Options
from strhub.engine.bench.timing import Timing
from strhub.engine.bench.training import StepTiming
from strhub.engine.results import aligned, write

MILLI, MILLION, BILLION, GIBI = 1e-3, 1e6, 1e9, 2**30


def processor() -> str:
    """The name of the CPU."""
    if sys.platform == 'linux':
        for line in Path('/proc/cpuinfo').read_text('utf-8', errors='replace').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type


def heading(what: str, options: Options) -> str:
    """What is measured on what."""
    where = processor() if options.device.type == 'cpu' else device_name(options.device)
    precision = 'bf16' if options.bf16 else 'float32'
    kind = ', compiled' if options.compile else ''
    return f'{what} on {where} ({options.device}), {precision}{kind}, torch {torch.__version__}'


def count_line(counts: Counts) -> str:
    return (
        f'{counts.parameters / MILLION:.3f} M parameters; of one picture '
        f'{counts.flops / BILLION:.3f} G flops (multiply-adds) and {counts.activations / MILLION:.3f} M activations'
    )


def milliseconds(seconds: float) -> str:
    """With three digits or more."""
    value = seconds / MILLI
    return f'{value:.3g}' if value < 100 else f'{value:.0f}'


def timing_table(timings: Sequence[Timing], *, by_length: bool) -> str:
    """A row for each case."""
    head = ['Batch', 'Threads', 'ms a batch', 'IQR ms', 'Runs', 'Pictures/s']
    rows = [['Characters', *head] if by_length else head]
    for timing in timings:
        case = timing.case
        row = [str(case.batch_size), str(case.threads), milliseconds(timing.median), milliseconds(timing.iqr)]
        row += [str(timing.runs), f'{timing.pictures_per_second:.1f}']
        rows.append([str(case.max_length), *row] if by_length else row)
    return aligned(rows)


def step_table(timing: StepTiming) -> str:
    """The parts of a training step and their shares."""
    total = sum(timing.parts.values())
    rows = [['Part', 'ms a step', 'Share']]
    rows += [[name, milliseconds(value), f'{100 * value / total:.1f} %'] for name, value in timing.parts.items()]
    return aligned(rows)


def step_line(timing: StepTiming, options: Options) -> str:
    memory = '' if timing.memory is None else f', at most {timing.memory / GIBI:.2f} GiB of '
    owner = '' if timing.memory is None else 'GPU memory' if options.device.type == 'cuda' else 'memory for the process'
    return (
        f'batch of {timing.case.batch_size}, {counted(timing.case.threads, "thread")}: '
        f'{timing.pictures_per_second:.1f} pictures/s, {milliseconds(timing.seconds)} ms a step '
        f'(mean of {counted(timing.steps, "step")}){memory}{owner}'
    )


def compare_table(counts: Mapping[str, Counts], timings: Mapping[str, Sequence[Timing]]) -> str:
    """A row for each model."""
    cases = [timing.case for timing in next(iter(timings.values()))]
    names_threads = len({case.threads for case in cases}) > 1
    head = ['Model', 'M params', 'G flops']
    for case in cases:
        suffix = f' × {counted(case.threads, "thread")}' if names_threads else ''
        head += [f'ms at {case.batch_size}{suffix}', 'pictures/s']
    rows = [head]
    for name, count in counts.items():
        row = [name, f'{count.parameters / MILLION:.3f}', f'{count.flops / BILLION:.3f}']
        for timing in timings[name]:
            row += [milliseconds(timing.median), f'{timing.pictures_per_second:.1f}']
        rows.append(row)
    return aligned(rows)


def unsteady(timings: Sequence[Timing]) -> str | None:
    """A sentence if the machine had other things to do."""
    shaky = [timing for timing in timings if not timing.is_steady]
    if not shaky:
        return None
    worst = max(timing.iqr / timing.median for timing in shaky)
    return (
        f'The times of {len(shaky)} of {counted(len(timings), "measurement")} vary, the middle half of them by up to '
        f'{100 * worst:.0f} % of the median: the machine does other things too, or min_run_time is short.'
    )


def model_record(name: str, counts: Counts | None, **measured: Any) -> dict[str, Any]:
    """A model and its numbers, for the file."""
    numbers = {}
    if counts is not None:
        numbers = {'parameters': counts.parameters, 'flops': counts.flops, 'activations': counts.activations}
    return {'name': name, **numbers, **measured}


def record(models: Sequence[Mapping[str, Any]], options: Options) -> dict[str, Any]:
    """Everything that was measured, and with what."""
    try:
        own_version = version('strhub')
    except PackageNotFoundError:
        own_version = 'unknown'
    return {
        'strhub': own_version,
        'torch': torch.__version__,
        'python': platform.python_version(),
        'time': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'machine': {
            'system': platform.platform(),
            'processor': processor(),
            'cores': cores(),
            'device': device_name(options.device),
        },
        'options': {
            'device': str(options.device),
            'batch_size': list(options.batch_sizes),
            'threads': list(options.threads),
            'precision': 'bf16' if options.bf16 else '32',
            'compile': options.compile,
            'channels_last': options.channels_last,
            'min_run_time': options.seconds,
            'warmup': options.warmup,
            'pretrained': options.pretrained,
            'seed': options.seed,
        },
        'models': list(models),
    }


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON; a run that is killed leaves the old file, or none."""
    write(path, json.dumps(content, indent=2, ensure_ascii=False) + '\n')
