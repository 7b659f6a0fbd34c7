#!/usr/bin/env python3
"""How well rendered words teach: a fixed small CRNN is trained on them alone and reads real words.

    python benchmarks/rendered.py                          the first version, with its schedule, against this one
    python benchmarks/rendered.py --variant now --variant calm:difficulty=0.5 --variant slow:lr=0.001
    python benchmarks/rendered.py --variant first@cc9d97f:warmup=50000+difficulty=0.9 --pictures 50000 --seeds 0 1

A variant is NAME[@REVISION][:OPTION=VALUE+…]: options are those of RenderedDataset, and lr, the highest learning rate;
values are YAML, a revision is one of git's and draws with its own renderer. All else, network, optimiser, order, steps
and pictures, is the same for all. The sets are for choosing among renderers, so they must not be those that results
are reported on.
"""

from __future__ import annotations

import argparse
import os
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
FIRST = 'first@cc9d97f:warmup=50000+difficulty=0.9'  # as `make demo` trained with the first version
NOW = 'now:lr=0.006'  # as it trains today
SETS = [ROOT.parent / 'shared' / 'data' / 'train' / name for name in ('IIIT5k', 'IC15', 'SVT')]
SIZE = 32, 100  # height and width of the network's pictures
NETWORK = {'width': 0.25, 'hidden_size': 96, 'batch_norm_all': True}  # that of crnn-tiny
BATCH, WARMUP = 64, 0.05  # pictures a step; share of the steps in which the learning rate rises
LR = 0.0025  # at its highest, unless a variant has its own
PRINTABLE = string.digits + string.ascii_letters + string.punctuation  # not all revisions have it in one place
JUDGED = '0123456789abcdefghijklmnopqrstuvwxyz'


@dataclass(frozen=True)
class Variant:
    name: str
    revision: str = ''
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Variant:
        head, _, options = text.partition(':')
        name, _, revision = head.partition('@')
        pairs = (option.partition('=') for option in options.split('+') if option)
        return cls(name, revision, {key: yaml.safe_load(value) for key, _, value in pairs})


def draw(folder: Path, count: int, seed: int, options: dict[str, Any]) -> None:
    """Writes the first `count` words of a series: pixels.npy, uint8 (N, H, W, 3), and labels.txt."""
    from strhub.data.labels import LabelRules
    from strhub.data.synth import RenderedDataset

    words = RenderedDataset(LabelRules(PRINTABLE, 25), shrink, count=count, seed=seed, **options)
    pixels = np.lib.format.open_memmap(folder / 'pixels.npy', 'w+', np.uint8, (count, *SIZE, 3))
    labels = []
    loader = DataLoader(words, batch_size=BATCH, num_workers=len(os.sched_getaffinity(0)), collate_fn=list)
    for batch in tqdm(loader, desc='render', disable=not sys.stderr.isatty(), leave=False):
        for picture, label in batch:
            pixels[len(labels)] = picture
            labels.append(label)
    (folder / 'labels.txt').write_text('\n'.join(labels), 'utf-8')


def shrink(image: Image.Image, rng: Any = None) -> np.ndarray:
    return np.asarray(image.resize(SIZE[::-1], Image.Resampling.BICUBIC))


@contextmanager
def sources(revision: str, folder: Path) -> Iterator[Path]:
    """The tree whose renderer draws: this one, or a checkout of `revision`."""
    if not revision:
        yield ROOT
        return
    git = ['git', '-C', str(ROOT), 'worktree']
    subprocess.run([*git, 'add', '--quiet', '--detach', str(folder / 'tree'), revision], check=True)
    try:
        yield folder / 'tree'
    finally:
        subprocess.run([*git, 'remove', '--force', str(folder / 'tree')], check=True)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) -> (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def train(folder: Path, seed: int, lr: float, bf16: bool) -> Any:
    """The network after one pass, in order."""
    from strhub.models.utils import create_model

    pixels = np.load(folder / 'pixels.npy', mmap_mode='r')
    labels = (folder / 'labels.txt').read_text('utf-8').split('\n')
    torch.manual_seed(seed)
    system = create_model('crnn', img_size=SIZE, **NETWORK).to(memory_format=torch.channels_last)
    steps = len(labels) // BATCH
    optimizer = torch.optim.AdamW(system.parameters(), lr, weight_decay=0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=WARMUP, cycle_momentum=False)
    for first in tqdm(range(0, steps * BATCH, BATCH), desc='train', disable=not sys.stderr.isatty(), leave=False):
        images = to_tensor(pixels[first : first + BATCH])
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            _, loss, _ = system.forward_logits_loss(images, labels[first : first + BATCH])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 20)
        optimizer.step()
        schedule.step()
    return system.eval()


def test(system: Any, path: Path) -> float:
    """Percent of the words of a set that are read exactly, in 36 characters."""
    from strhub.data.dataset import build_tree_dataset
    from strhub.data.labels import LabelRules
    from strhub.metrics import Score
    from strhub.tokenizer import CharsetAdapter

    adapt = CharsetAdapter(JUDGED)
    words = build_tree_dataset(path, LabelRules(JUDGED, 25), shrink)
    score = Score()
    for first in range(0, len(words), 256):
        items = [words[index] for index in range(first, min(first + 256, len(words)))]
        texts, probabilities = system.read(to_tensor(np.stack([picture for picture, _ in items])))
        score += Score.of(
            [adapt(text) for text in texts], [label for _, label in items], [float(p.prod()) for p in probabilities]
        )
    return score.accuracy


def measure(variant: Variant, count: int, seed: int, sets: Sequence[Path], bf16: bool) -> list[float]:
    options = dict(variant.options)
    lr = float(options.pop('lr', LR))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with sources(variant.revision, folder) as tree:
            command = [
                sys.executable,
                __file__,
                '--draw',
                str(folder),
                str(count),
                str(seed),
                yaml.dump(options),
            ]
            subprocess.run(command, check=True, env={**os.environ, 'PYTHONPATH': str(tree)})
        system = train(folder, seed, lr, bf16)
    return [test(system, path) for path in sets]


def main() -> None:
    if sys.argv[1:2] == ['--draw']:  # in a process of its own, which may have another renderer
        folder, count, seed, options = sys.argv[2:]
        draw(Path(folder), int(count), int(seed), yaml.safe_load(options))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--variant', action='append', type=Variant.parse, metavar='VARIANT', help=f'default: {FIRST}, {NOW}'
    )
    parser.add_argument('--pictures', type=int, default=150_000, metavar='N', help='to train on (default: 150000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], metavar='N', help='a run for each (default: 0)')
    parser.add_argument('--sets', type=Path, nargs='+', default=SETS, metavar='PATH', help='of real words to read')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), metavar='N', help='of torch')
    parser.add_argument('--bf16', action='store_true', help='train in bfloat16: 1.7 times as fast on CPUs that have it')
    arguments = parser.parse_args()
    if arguments.pictures < BATCH / WARMUP * 2:
        parser.error(
            f'--pictures is {arguments.pictures}: give at least {BATCH / WARMUP * 2:.0f}, for two steps of warm-up'
        )
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    print(f'| renderer | seed | {" | ".join(path.name for path in arguments.sets)} | mean | minutes |')
    print('|---|' + '---:|' * (len(arguments.sets) + 3), flush=True)
    for variant in arguments.variant or [Variant.parse(FIRST), Variant.parse(NOW)]:
        for seed in arguments.seeds:
            start = time.perf_counter()
            found = measure(variant, arguments.pictures, seed, arguments.sets, arguments.bf16)
            cells = [f'{value:.2f}' for value in [*found, sum(found) / len(found)]]
            print(
                f'| {variant.name} | {seed} | {" | ".join(cells)} | {(time.perf_counter() - start) / 60:.1f} |',
                flush=True,
            )


if __name__ == '__main__':
    main()
