"""COCO-Text and TextOCR: one JSON file with `imgs` and `anns`, which name their picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from strhub.data.convert.base import Option, SetInfo, Skipped
from strhub.data.convert.parsing import box_xywh, find_file, find_parts, member, read_json
from strhub.data.convert.regions import AS_STORED, LANGUAGE, Gallery, Page, Region, pages

PICTURES = ('train2014', 'images', 'imgs', '.')


@pages
def coco_text_1(root: Path, *, split: str = 'all', kind: str = 'all') -> Iterator[Page | Skipped]:
    """The words of COCO-Text 1.x, which are boxes."""
    file = find_file(root, 'COCO_Text.json', 'annotations/COCO_Text.json')
    yield from _pages(file, Gallery(root, *PICTURES), split=split, kind=kind, shape='')


@pages
def coco_text_2(root: Path, *, split: str = 'all', kind: str = 'all') -> Iterator[Page | Skipped]:
    """The words of COCO-Text 2, whose masks begin at any corner."""
    file = find_file(root, 'cocotext.v2.json', 'annotations/cocotext.v2.json')
    yield from _pages(file, Gallery(root, *PICTURES), split=split, kind=kind, shape='mask')


@pages
def textocr(root: Path, *, split: str = 'all') -> Iterator[Page | Skipped]:
    """The words of TextOCR, whose points begin at the upper left of the text; `.` is one that cannot be read."""
    parts = {part: f'TextOCR_0.1_{part}.json' for part in ('train', 'val') if split in ('all', part)}
    gallery = Gallery(root, 'train_images', 'train_val_images', 'images', 'imgs')
    for file in find_parts(root, parts):
        yield from _pages(file, gallery, shape='points', ordered=True, unread='.')


def _pages(
    file: Path,
    gallery: Gallery,
    *,
    shape: str,
    split: str = 'all',
    kind: str = 'all',
    ordered: bool = False,
    unread: str = '',
) -> Iterator[Page | Skipped]:
    """The pages of an annotation file.

    Args:
        shape: the key of a text's polygon; without one its box counts.
        ordered: polygons begin at the upper left of the text.
        unread: the text of what cannot be read.
    """
    data = read_json(file, dict)
    images, texts = member(data, 'imgs', dict, file), member(data, 'anns', dict, file)
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for text in texts.values():
        if isinstance(text, dict):
            by_image[str(text.get('image_id'))].append(text)
    for key, image in images.items():
        found = by_image.pop(key, [])
        name = image.get('file_name', image.get('filename')) if isinstance(image, dict) else None
        if not isinstance(name, str):
            yield Skipped('picture without a name', f'{key} in {file.name}', max(1, len(found)))
        elif found and split in ('all', image.get('set')):
            regions = [_region(text, kind, shape, ordered, unread) for text in found]
            # without its folder, which depends on what was downloaded
            yield Page(gallery(PurePosixPath(name).name), name, regions)
    for key, found in by_image.items():
        yield Skipped('picture without a name', f'{key} in {file.name}', len(found))


def _region(text: dict[str, Any], kind: str, shape: str, ordered: bool, unread: str) -> Region:
    ruled_out = ''
    if text.get('legibility') == 'illegible' or (unread and text.get('utf8_string') == unread):
        ruled_out = 'illegible'
    elif kind not in ('all', text.get('class')):
        ruled_out = f'text of the class {text.get("class")}'
    return Region(
        text.get('utf8_string'),
        text.get(shape),
        box_xywh(text.get('bbox')),
        str(text.get('language', '')),
        ruled_out,
        ordered,
    )


SPLIT = Option('split', 'all', 'which part of the pictures', ('all', 'train', 'val', 'test'))
KIND = Option('kind', 'all', 'which texts', ('all', 'machine printed', 'handwritten', 'others'))
COCO_LICENCE = 'CC BY 4.0 for the annotations; the pictures have those of their makers at Flickr'
COCO_PICTURES = 'train2014.zip: https://cocodataset.org/#download'

SETS = {
    'coco_text_1': SetInfo(
        coco_text_1,
        title='COCO-Text 1.4, text that happens to be in photographs',
        download=('COCO_Text.zip, annotations 2017 v1.4', COCO_PICTURES),
        home='https://vision.cornell.edu/se3/coco-text-2/',
        licence=COCO_LICENCE,
        layout="""\
SRC/COCO_Text.json    {"imgs": {"1": {"file_name": …, "set": …}}, "anns": {"2": {"image_id": 1, "bbox": …}}}
SRC/train2014/COCO_train2014_000000000001.jpg""",
        counts='63,686 pictures with 145,859 texts, illegible ones included; the test part has no texts',
        language='English, some others',
        options=(SPLIT, KIND, LANGUAGE, AS_STORED),
        example='COCO data/train/real/COCOv1.4 --split train --language english',
    ),
    'coco_text_2': SetInfo(
        coco_text_2,
        title='COCO-Text 2.0, the same photographs with more texts and their outlines',
        download=('cocotext.v2.zip', COCO_PICTURES),
        home='https://bgshih.github.io/cocotext/',
        licence=COCO_LICENCE,
        layout="""\
SRC/cocotext.v2.json    {"imgs": {"1": {"file_name": …, "set": …}}, "anns": {"2": {"image_id": 1, "mask": …}}}
SRC/train2014/COCO_train2014_000000000001.jpg""",
        counts='63,686 pictures with 239,506 texts, illegible ones included',
        language='English, some others',
        options=(SPLIT, KIND, LANGUAGE, AS_STORED),
        example='COCO data/train/real/COCOv2.0 --split train --language english',
    ),
    'textocr': SetInfo(
        textocr,
        title='TextOCR 0.1, text in photographs of Open Images',
        download=('TextOCR_0.1_train.json, TextOCR_0.1_val.json, train_val_images.zip',),
        home='https://textvqa.org/textocr/dataset/',
        licence='CC BY 4.0 for the annotations; the pictures are CC BY 2.0',
        layout="""\
SRC/TextOCR_0.1_train.json    {"imgs": {"0a1b": {"file_name": …}}, "anns": {"0a1b_1": {"image_id": …, "points": …}}}
SRC/TextOCR_0.1_val.json      not needed with --split train
SRC/train_images/0a1b.jpg     of both parts""",
        counts='train: 21,778 pictures with 714,770 texts; val: 3,124 with 107,802; unreadable ones included',
        language='English',
        options=(Option('split', 'all', 'which part of the pictures', ('all', 'train', 'val')), AS_STORED),
        example='TextOCR data/train/real/TextOCR --split train',
    ),
}
