#!/usr/bin/env python3
"""Trains the weights that strhub brings and puts them into strhub/weights, each with its card: make train-weights

First crnn-small-rendered, from nothing but rendered words: 1,000,000 narrow pictures (crnn-small-narrow), then
1,200,000 wider ones, an hour and a half of two cores each. Then crnn-small-real, from that and real words (minutes).
Both are tested. What was stopped goes on where it was; what is trained already is only tested and written again. The
recipes are configs/experiment/<name>.yaml.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOX = ROOT / 'strhub/weights'
NARROW, RENDERED, REAL = 'crnn-small-narrow', 'crnn-small-rendered', 'crnn-small-real'
TRAINING_SETS = ('IIIT5k', 'IC15', 'SVT')
TEST_SETS = ('IC13_1095/labels_857.tsv', 'IC13_1095/labels_1015.tsv', 'IC03_860')
VALIDATION_WORDS, VALIDATION_SEED = 2000, 1_000_007  # rendered ones, so that no real word chooses anything


def run(*words: object) -> None:
    argv = [sys.executable, '-m', 'strhub', *map(str, words)]
    print('$ strhub', *words, flush=True)
    if status := subprocess.run(argv).returncode:
        sys.exit(status)


def train(name: str, folder: Path, *words: str) -> Path:
    run('train', f'+experiment={name}', f'hydra.run.dir={folder}', 'ckpt_path=auto', *words)
    return folder / 'checkpoints/last.ckpt'


def ship(name: str, checkpoint: Path, sets: list[Path]) -> None:
    """Rounds the weights, tests them as they are then, and puts them into the box."""
    half, options = checkpoint.with_name('half'), ['--fp16', '--overwrite', '--license', 'apache-2.0', '--title', name]
    run('package', checkpoint, '--out', half, *options)
    run('package', half, '--out', BOX / name, *options, *(['--set', *sets] if sets else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT.parent / 'shared/data'
    parser.add_argument(
        '--data', type=Path, default=default, help=f'folder with train/{{{",".join(TRAINING_SETS)}}} and test/'
    )
    parser.add_argument('--runs', type=Path, default=ROOT / 'outputs/weights', help='folder of the three runs')
    args = parser.parse_args()
    data, runs = (Path(os.path.relpath(path, ROOT)) for path in (args.data, args.runs))  # the cards tell of them
    os.chdir(ROOT)
    sets = [data / 'test' / name for name in TEST_SETS if (data / 'test' / name).exists()]
    if missing := [name for name in TEST_SETS if data / 'test' / name not in sets]:
        print(f'the cards will not tell of {", ".join(missing)}, which {data / "test"} does not have', file=sys.stderr)

    narrow = train(NARROW, runs / NARROW)
    rendered = train(RENDERED, runs / RENDERED, f'pretrained={narrow}')
    ship(RENDERED, rendered, sets)

    if missing := [name for name in TRAINING_SETS if not (data / 'train' / name).exists()]:
        print(f'{REAL} was left out: {data / "train"} does not have {", ".join(missing)}', file=sys.stderr)
        return
    words = runs / 'validation'
    if not words.exists():
        run('render', '--count', VALIDATION_WORDS, '--seed', VALIDATION_SEED, '--out', words)
    start = [f'data.root_dir={data}', f'data.val_dir={words}', f'pretrained={rendered}']
    ship(REAL, train(REAL, runs / REAL, *start), sets)


if __name__ == '__main__':
    main()
