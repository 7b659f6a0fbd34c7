#!/usr/bin/env python3
"""What beams, lexicons and turned pictures gain on real words, and what they cost.

    python benchmarks/search.py last.ckpt --sets ../shared/data/train/IIIT5k ../shared/data/train/SVT --limit 500

Lexicons are made of the labels, as the literature does, and hold the right word: of the 50 pictures of a batch; of up
to 1,000 pictures of the set; and of those with the 90,000 words that strhub renders. Times are of one thread, pictures
in batches of 50, the network included, as multiples of those of plain reading; they are the processor's, which other
work disturbs less.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch

from strhub.data.dataset import build_tree_dataset
from strhub.data.labels import LabelRules
from strhub.data.synth.words import packed_words
from strhub.engine.read import read_batch
from strhub.engine.search.lexicon import Lexicon
from strhub.engine.search.options import QUARTERS, ReadingOptions
from strhub.engine.search.rotate import transform_for
from strhub.models.zoo import load_reader
from strhub.tokenizer import CharsetAdapter

CHARSET = '0123456789abcdefghijklmnopqrstuvwxyz'
BATCH = 50
judged = CharsetAdapter(CHARSET)


class Subject:
    """A model, and pictures with their labels."""

    def __init__(self, checkpoint: str, path: Path, limit: int) -> None:
        self.system = load_reader(checkpoint).eval()
        pictures = build_tree_dataset(path, LabelRules(CHARSET, 25))
        chosen = random.Random(1).sample(range(len(pictures)), min(1000, len(pictures)))
        self.all_labels = [pictures[i][1] for i in chosen]
        self.pictures = [pictures[i][0] for i in chosen[:limit]]
        self.labels = self.all_labels[:limit]

    def batches(self, options: ReadingOptions | None = None, *, rotation: float = 0) -> list[torch.Tensor]:
        transform = transform_for(self.system.hparams['img_size'], options, rotation=rotation)
        images = [transform(picture) for picture in self.pictures]
        return [torch.stack(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]

    def measure(self, batches: list[torch.Tensor], of_batch: list[ReadingOptions | None]) -> tuple[float, float, float]:
        """Accuracy of the best reading and of the best one of those that are given, in percent; milliseconds each."""
        right = among = 0
        start = time.process_time()
        readings = [read_batch(self.system, images, options=one) for images, one in zip(batches, of_batch, strict=True)]
        seconds = time.process_time() - start
        for reading, label in zip((one for some in readings for one in some), self.labels, strict=True):
            right += judged(reading.text) == label
            among += label in {judged(text) for text, _ in reading.readings or [(reading.text, 1.0)]}
        count = len(self.labels)
        return 100 * right / count, 100 * among / count, 1000 * seconds / count


def ways(subject: Subject) -> dict[str, list[ReadingOptions | None]]:
    labels, count = subject.labels, -(-len(subject.labels) // BATCH)
    any_case = subject.system.hparams['charset_train'] != CHARSET
    small = [Lexicon(labels[i : i + BATCH], any_case=any_case) for i in range(0, len(labels), BATCH)]
    middle = Lexicon(subject.all_labels, any_case=any_case)
    rendered = [word for group in packed_words() for word in group]
    large = Lexicon([*subject.all_labels, *rendered], any_case=any_case)
    found: dict[str, list[ReadingOptions | None]] = {'plain': [None] * count}
    for beam in (2, 5, 10):
        found[f'--beam {beam} --top {min(beam, 5)}'] = [ReadingOptions(beam=beam, top=min(beam, 5))] * count
    found['--lexicon, 50 words'] = [ReadingOptions(lexicon=lexicon) for lexicon in small]
    for name, lexicon in (('1,000', middle), ('90,000', large)):
        found[f'--lexicon, {name} words'] = [ReadingOptions(lexicon=lexicon)] * count
    for name, lexicon in (('1,000', middle), ('90,000', large)):
        found[f'rerank, {name} words'] = [ReadingOptions(lexicon=lexicon, lexicon_mode='rerank')] * count
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint')
    parser.add_argument('--sets', nargs='+', type=Path, required=True)
    parser.add_argument('--limit', type=int, default=500, help='pictures of each set')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    subjects = {path.name: Subject(arguments.checkpoint, path, arguments.limit) for path in arguments.sets}
    print('| reading | set | accuracy | among the given | time |\n|:--|:--|--:|--:|--:|')
    for name, subject in subjects.items():
        batches = subject.batches()
        plain = 0.0
        for way, options in ways(subject).items():
            read_batch(subject.system, batches[0], options=options[0])  # makes the lexicon ready
            accuracy, among, milliseconds = subject.measure(batches, options)
            plain = plain or milliseconds
            print(f'| {way} | {name} | {accuracy:.1f} | {among:.1f} | {milliseconds / plain:.1f} |', flush=True)
    print('\n| pictures | set | plain | --try_rotations | and --lexicon, 1,000 words |\n|:--|:--|--:|--:|--:|')
    for name, subject in subjects.items():
        middle = Lexicon(subject.all_labels, any_case=subject.system.hparams['charset_train'] != CHARSET)
        for rotation in QUARTERS:
            row = []
            for one in (None, ReadingOptions(rotations=QUARTERS), ReadingOptions(rotations=QUARTERS, lexicon=middle)):
                batches = subject.batches(one, rotation=rotation)
                row.append(f'{subject.measure(batches, [one] * len(batches))[0]:.1f}')
            print(f'| turned by {rotation:g} | {name} | {" | ".join(row)} |', flush=True)


if __name__ == '__main__':
    main()
