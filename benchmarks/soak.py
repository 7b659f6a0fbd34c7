#!/usr/bin/env python3
"""Does a training need more and more memory: one runs for a while, and that of it and its workers is taken each second.

    python benchmarks/soak.py --minutes 30 +experiment=crnn-tiny dataset=rendered

Words after the options are those of ./train.py. The memory is the resident set; the slope is that of a line through all
that comes after the first third, when caches are full.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
KIBIBYTE = 1024


def children(process: int) -> Iterator[int]:
    for path in Path(f'/proc/{process}/task').glob('*/children'):
        yield from map(int, path.read_text().split())


def resident(process: int) -> float:
    """Memory of a process in MB; 0 once it has ended."""
    try:
        for line in Path(f'/proc/{process}/status').read_text().splitlines():
            if line.startswith('VmRSS'):
                return int(line.split()[1]) * KIBIBYTE / 1e6
    except OSError:
        pass
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=30, metavar='N', help='how long (default: 30)')
    arguments, words = parser.parse_known_args()
    if not Path('/proc/self/status').exists():
        parser.error('this reads /proc, which only Linux has')
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        own = [f'hydra.run.dir={folder}/run', 'trainer.max_epochs=100000']
        process = subprocess.Popen([sys.executable, str(ROOT / 'train.py'), *words, *own], stdout=log, stderr=log)
        start = time.monotonic()
        with tqdm(total=round(60 * arguments.minutes), unit='s', disable=not sys.stderr.isatty()) as bar:
            while process.poll() is None and (now := time.monotonic() - start) < 60 * arguments.minutes:
                seen['main process'].append((now, resident(process.pid)))
                for number, worker in enumerate(sorted(children(process.pid))):
                    seen[f'worker {number}'].append((now, resident(worker)))
                bar.update(round(now) - bar.n)
                time.sleep(1)
        if process.poll() is not None:
            log.seek(0)
            sys.exit(f'the training ended by itself:\n{log.read().decode()[-2000:]}')
        process.send_signal(signal.SIGTERM)
        process.wait()
    print('| process | MB after a third | MB at the end | MB an hour |')
    print('|---|---:|---:|---:|')
    for name, samples in seen.items():
        late = [pair for pair in samples if pair[0] > 20 * arguments.minutes and pair[1]]
        if len(late) < 2:  # it came and went: a helper of an import
            continue
        times, sizes = np.array(late).T
        slope = np.polyfit(times, sizes, 1)[0] * 3600
        print(f'| {name} | {sizes[:30].mean():.0f} | {sizes[-30:].mean():.0f} | {slope:+.1f} |')


if __name__ == '__main__':
    main()
