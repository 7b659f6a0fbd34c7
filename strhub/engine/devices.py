"""What there is to compute on, and how a run divides it: devices, precision, cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from strhub.cores import cores

MAX_WORKERS = 8  # more seldom help where pictures are only read; rendering takes all there are


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU; `rocm` is what torch calls CUDA where it is built for AMD's GPUs.

    Raises:
        ValueError: this machine has no such device.
    """
    has_mps = torch.backends.mps.is_available()
    kind, colon, index = name.partition(':')
    if kind == 'rocm':
        if torch.version.hip is None:
            raise ValueError(
                f'device {name} is not there: this torch is not built for ROCm; install one that is, as with '
                '`make torch-rocm6.4`'
            )
        name = f'cuda{colon}{index}'
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'mps' if has_mps else 'cpu')
    there = ['cpu', *(['mps'] if has_mps else []), *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
    if (f'{name}:0' if name == 'cuda' else name) not in there:
        raise ValueError(f'device {name} is not there: this machine has {", ".join(there)}; auto picks one')
    return torch.device(name)


def trains_on_cpu(accelerator: str) -> bool:
    return accelerator == 'cpu' or not (torch.cuda.is_available() or torch.backends.mps.is_available())


def check_devices(devices: Any, accelerator: str) -> None:
    """Refuses more processes on the CPU than it has cores: each takes as much memory as a training."""
    if trains_on_cpu(accelerator) and str(devices).isdigit() and int(devices) > cores():
        raise ValueError(f'trainer.devices is {devices}: this CPU has {cores()} cores; give at most as many, or auto')


def divide_cores(settings: Mapping[str, Any], there: int) -> tuple[int, int]:
    """Divides cores between the processes that load pictures and torch's threads, where `settings` leave this open.

    More of both than there are cores is many times slower than either. A CPU works about four times as long on a small
    model's training step as on its pictures; a GPU leaves all cores but one to the pictures.

    Returns:
        How many loading processes and how many threads.
    """
    data = settings['data']
    workers = data['num_workers']
    if workers == 'auto':
        on_cpu = trains_on_cpu(settings['trainer']['accelerator'])
        workers = max(0, min(there - 1, max(1, there // 4) if on_cpu else there))
        if data['train_dir'] not in ('rendered', 'mixed'):
            workers = min(workers, MAX_WORKERS)
    return workers, settings['threads'] or max(1, there - workers)


def share_cores(settings: dict[str, Any]) -> None:
    """Divides this machine's cores as `divide_cores` says, an equal share for each GPU."""
    on_cpu = trains_on_cpu(settings['trainer']['accelerator'])
    there = cores() if on_cpu else cores() // max(1, torch.cuda.device_count())
    settings['data']['num_workers'], threads = divide_cores(settings, there)
    if on_cpu:
        torch.set_flush_denormal(True)  # numbers below 1e-38 are slow and worth nothing
    if settings['threads'] or on_cpu:
        torch.set_num_threads(threads)


def precision(wanted: Any, accelerator: str) -> Any:
    """bf16 for `auto` on a GPU that computes in it: fp16 overflows now and then, and float32 is slower."""
    if wanted != 'auto':
        return wanted
    if accelerator in ('auto', 'gpu', 'cuda') and torch.cuda.is_available():
        torch.set_float32_matmul_precision('high')  # TF32 where bf16 does not apply
        return 'bf16-mixed' if torch.cuda.is_bf16_supported(including_emulation=False) else '32-true'
    return '32-true'
