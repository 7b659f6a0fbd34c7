"""MJSynth: nine million rendered words, each a small picture whose name holds its label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strhub.data.convert.base import Option, SetInfo, Skipped, Word
from strhub.data.convert.parsing import find_parts
from strhub.data.convert.regions import inside

FOLDERS = ('.', '90kDICT32px', 'mnt/ramdisk/max/90kDICT32px')
PARTS = ('train', 'val', 'test')


def mjsynth(root: Path, *, split: str = 'all') -> Iterator[Word | Skipped]:
    """The words of annotation_train.txt and the like, which is read line by line."""
    files = {part: f'annotation_{part}.txt' for part in PARTS if split in ('all', part)}
    for file in find_parts(root, files, FOLDERS):
        with file.open(encoding='utf-8', errors='replace') as lines:
            for number, line in enumerate(lines, 1):
                picture = line.rpartition(' ')[0].strip()  # what follows is the label's number in the lexicon
                name = picture.rpartition('/')[2]
                pieces = name.rpartition('.')[0].split('_')  # 123_label_456
                if len(pieces) != 3 or not pieces[1] or (place := inside(file.parent, picture)) is None:
                    if line.strip():
                        yield Skipped('line without a picture called 123_label_456', f'{file} line {number}')
                    continue
                yield Word(place, pieces[1])


SETS = {
    'mjsynth': SetInfo(
        mjsynth,
        title='MJSynth, rendered words of an English lexicon',
        download=('mjsynth.tar.gz (10 GB)',),
        home='https://www.robots.ox.ac.uk/~vgg/data/text/',
        licence='for research that is not commercial',
        layout="""\
SRC/annotation_train.txt    ./2425/1/115_Lube_45484.jpg 45484
SRC/annotation_val.txt
SRC/annotation_test.txt     not needed with --split train
SRC/2425/1/115_Lube_45484.jpg
SRC may also be the folder that mnt/ramdisk/max/90kDICT32px/ was unpacked in""",
        counts='8,919,273 words: 7,224,612 train, 802,734 val, 891,927 test; a few pictures cannot be read',
        language='English',
        options=(Option('split', 'all', 'which part', ('all', *PARTS)),),
        example='mjsynth data/train/synth/MJ/train --split train',
    ),
}
