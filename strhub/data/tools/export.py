"""`strhub data export`: a folder of pictures with labels, of which `strhub convert folder` makes the same LMDB."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from strhub.data.convert.base import Skipped
from strhub.data.convert.report import Report
from strhub.data.picture import image_header
from strhub.data.tools.records import Words

IN_FOLDER = 1000  # pictures: file managers and network drives choke on a million
SUFFIXES = {  # by the formats of strhub.data.picture
    'JPEG': '.jpg',
    'MPO': '.jpg',
    'PNG': '.png',
    'WEBP': '.webp',
    'BMP': '.bmp',
    'GIF': '.gif',
    'TIFF': '.tif',
    'PPM': '.ppm',
    'JPEG2000': '.jp2',
    'AVIF': '.avif',
    'ICO': '.ico',
    'TGA': '.tga',
}


def export(words: Words, target: Path, *, progress: Callable[[int], object] = lambda done: None) -> Report:
    """Writes each picture as it is stored, and its label, below the folder `target`, which appears when all is there.

    Labels are in labels.tsv; if one of them holds a line break, in labels.jsonl. Tabs, quotes and blanks need no care.

    Args:
        progress: called with the number of words done, once for each word looked at, and for each written or skipped.
    """
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f'{target} exists already: give another name, or remove it')
    has_breaks = False
    for item in words:
        has_breaks |= not isinstance(item, Skipped) and ('\n' in item.label or '\r' in item.label)
        progress(1)
    partial = target.absolute().with_name(f'.{target.absolute().name}.partial')
    if partial.exists():  # of a run that was killed
        shutil.rmtree(partial)
    try:
        report = _write(words, partial, as_json=has_breaks, progress=progress)
        if not report.kept:
            from strhub.data.labels import tally  # brings torch, for which others need not wait

            why = tally(report.skipped) or 'there are no words'
            raise ValueError(f'no word could be exported, so {target} was not made: {why}')
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _write(words: Words, folder: Path, *, as_json: bool, progress: Callable[[int], object]) -> Report:
    report = Report()
    (folder / 'images').mkdir(parents=True)
    with (folder / f'labels.{"jsonl" if as_json else "tsv"}').open('w', encoding='utf-8', newline='\n') as labels:
        for item in words.items:
            header = None if isinstance(item, Skipped) else image_header(item.image)
            if isinstance(item, Skipped):
                report.skip(item)
            elif header is None:
                report.skip(Skipped('picture without a readable header', item.name))
            else:
                number = report.kept + 1
                name = f'images/{report.kept // IN_FOLDER:06d}/{number:09d}{SUFFIXES[header[0]]}'
                path = folder / name
                if report.kept % IN_FOLDER == 0:
                    path.parent.mkdir()
                path.write_bytes(item.image)
                entry = json.dumps({'image': name, 'label': item.label}, ensure_ascii=False)
                labels.write(f'{entry}\n' if as_json else f'{name}\t{item.label}\n')
                report.kept += 1
            progress(1)
    return report
