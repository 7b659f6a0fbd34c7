"""Folders of pictures with labels, in any form that strhub.data.labelfile reads, and trees of such folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strhub.data.convert.base import SetInfo, Skipped, Word


def folder(root: Path) -> Iterator[Word | Skipped]:
    """All words of the labelled folders at or below `root`, or of a label file."""
    from strhub.data.dataset import find_sets  # brings torch, for which a list of sets must not wait
    from strhub.data.labelfile import read_folder

    for path in find_sets(root) if root.exists() else [root]:
        if path.is_dir() and (path / 'data.mdb').is_file():
            raise ValueError(f'{path} is an LMDB already: give a folder of pictures')
        found = read_folder(path)
        for reason, count in found.faults.items():
            examples = [example for example in found.examples if reason in example]
            yield Skipped(reason, f'{found.source} {"; ".join(examples)}', count)
        for picture, label, missing in zip(found.pictures, found.labels, found.missing, strict=True):
            place = found.folder / picture
            yield Skipped('picture missing', str(place)) if missing else Word(place, label)


SETS = {
    'folder': SetInfo(
        folder,
        title='a folder of pictures with labels, a tree of such folders, or a label file',
        download=('nothing: these are pictures of your own, one word each',),
        home='your own',
        licence='your own',
        layout="""\
SRC/labels.tsv     picture<TAB>label
 or labels.csv     picture,label; a first row may name the columns (image, label)
 or labels.jsonl   {"image": "picture", "label": "label"} on each line
 or gt.txt         picture, "label" as ICDAR writes it, or as labels.tsv
 or no such file   the pictures' names: Exit_7.png, 7_Exit.png and Exit.png all say Exit
all UTF-8, with pictures relative to the folder of the file and below it""",
        language='any',
        example='IC13/labels_857.tsv data/test/IC13_857 --min_size 8',
        searched=True,
    )
}
