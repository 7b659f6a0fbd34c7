"""Every set as it lies on the disk, with a few pictures: what is written, and what must come of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pictures import encode
from scenes import DOWN, LEVEL, LEVEL_BOX, UPHILL, Quad, Save, flag, scene

from strhub.data.lmdb import LmdbWriter


@dataclass(frozen=True)
class Miniature:
    """A set in small; `write(folder, save)` makes it and returns what to give as SRC.

    Attributes:
        kept: the labels, in order.
        annotations: the one JSON file that all else depends on, if there is one.
        exif: its pictures have several words each, so that it matters which way up they are.
    """

    write: Callable[[Path, Save], Path]
    kept: Sequence[str]
    skipped: dict[str, int] = field(default_factory=dict)
    options: Sequence[str] = ()
    annotations: str = ''
    exif: bool = True


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding='utf-8')


def write_lines(path: Path, *lines: str, encoding: str = 'utf-8') -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes('\r\n'.join(lines).encode(encoding))


def flat(corners: Quad) -> list[float]:
    return [number for point in corners for number in point]


def commas(corners: Quad) -> str:
    return ','.join(map(str, flat(corners)))


def _icdar2019(text: str, corners: Any, language: str = 'Latin', illegible: bool = False) -> dict[str, Any]:
    return {'transcription': text, 'points': corners, 'language': language, 'illegibility': illegible}


def art_words(root: Path, save: Save) -> Path:
    for number in range(3):
        save(flag(), root / 'train_task2_images' / f'gt_0_{number}.jpg')
    texts = {f'gt_0_{number}': [_icdar2019(text, LEVEL)] for number, text in enumerate(('URDER', '###', 'a,"b"'))}
    texts['gt_0_2'][0]['language'] = 'Chinese'
    texts['gt_7_0'] = [_icdar2019('gone', LEVEL)]
    write_json(root / 'train_task2_labels.json', texts)
    return root


def _pages_by_stem(root: Path, save: Save, labels: str, images: str, second: str) -> Path:
    save(scene(), root / images / 'gt_0.jpg')
    save(scene([LEVEL]), root / second / 'gt_1.jpg')
    curved = [(16, 10), (40, 8), (64, 10), (64, 30), (40, 32), (16, 30)]
    texts = [
        _icdar2019('Exit', LEVEL),
        _icdar2019('dim', LEVEL, illegible=True),
        _icdar2019('Straße 5', UPHILL),
        _icdar2019('出口', DOWN, 'Chinese'),
        _icdar2019('###', LEVEL),
        _icdar2019('line', LEVEL[:2]),
    ]
    write_json(
        root / labels,
        {'gt_0': texts, 'gt_1': [_icdar2019('round', curved)], 'gt_2': [_icdar2019('gone', LEVEL)] * 2, 'gt_3': None},
    )
    return root


PAGE_FAULTS = {'illegible': 2, 'broken polygon': 1, 'picture missing': 2, 'annotations broken': 1}


def art_pages(root: Path, save: Save) -> Path:
    return _pages_by_stem(root, save, 'train_labels.json', 'train_images', 'train_images')


def lsvt(root: Path, save: Save) -> Path:
    return _pages_by_stem(root, save, 'train_full_labels.json', 'train_full_images_0', 'train_full_images_1')


def rects(root: Path, save: Save) -> Path:
    def text(label: str, corners: Quad, ignore: int = 0) -> dict[str, Any]:
        return {'points': flat(corners), 'transcription': label, 'ignore': ignore}

    save(scene(), root / 'img' / 'train_ReCTS_000001.jpg')
    lines = [text('A 店', LEVEL), text('食', UPHILL), text('dim', LEVEL, 1), text('出口', DOWN)]
    write_json(root / 'gt' / 'train_ReCTS_000001.json', {'chars': [text('店', LEVEL)], 'lines': lines})
    write_lines(root / 'gt' / 'train_ReCTS_000002.json', '{"chars": [')
    return root


def _coco_text(text: str | None, number: int = 1, **others: Any) -> dict[str, Any]:
    found = {'image_id': number, 'bbox': LEVEL_BOX, 'legibility': 'legible', 'language': 'english'}
    found |= {'class': 'machine printed'} | others
    return found if text is None else {**found, 'utf8_string': text}


def coco_text(root: Path, save: Save, name: str, texts: Sequence[dict[str, Any]]) -> Path:
    save(scene([LEVEL, UPHILL]), root / 'train2014' / 'COCO_train2014_000000000001.jpg')
    images = {
        str(number): {'id': number, 'file_name': f'COCO_train2014_00000000000{number}.jpg', 'set': part}
        for number, part in ((1, 'train'), (2, 'train'), (3, 'val'))
    }
    anns = {str(number): text for number, text in enumerate(texts)}
    write_json(root / name, {'cats': {}, 'imgs': images, 'anns': anns, 'imgToAnns': {}, 'info': {}})
    return root


def coco_text_1(root: Path, save: Save) -> Path:
    texts = [
        _coco_text('Exit'),
        _coco_text(None, legibility='illegible'),
        _coco_text(None),
        _coco_text('salida', language='not english'),
        _coco_text('gone', 2),
        _coco_text('of val', 3),
        _coco_text('pen', **{'class': 'handwritten'}),
        _coco_text('lost', 9),
    ]
    return coco_text(root, save, 'COCO_Text.json', texts)


def coco_text_2(root: Path, save: Save) -> Path:
    masks = [flat([LEVEL[i] for i in (0, 3, 2, 1)]), flat([UPHILL[i] for i in (2, 3, 0, 1)])]
    return coco_text(
        root,
        save,
        'cocotext.v2.json',
        [
            _coco_text('Exit', mask=masks[0]),
            _coco_text('Straße', mask=masks[1]),
            _coco_text('boxed', mask=None),
            _coco_text('x', mask=[1, 2, 3]),
            _coco_text('', mask=masks[0]),
        ],
    )


def textocr(root: Path, save: Save) -> Path:
    save(scene(), root / 'train_images' / '0a1b.jpg')
    texts = [('Exit', LEVEL), ('.', LEVEL), ('Straße', UPHILL), ('DOWN', DOWN)]
    anns = {
        f'0a1b_{number}': {'id': f'0a1b_{number}', 'image_id': '0a1b', 'utf8_string': text, 'points': flat(corners)}
        for number, (text, corners) in enumerate(texts)
    }
    images = {'0a1b': {'id': '0a1b', 'set': 'train', 'file_name': 'train/0a1b.jpg', 'width': 200, 'height': 140}}
    write_json(root / 'TextOCR_0.1_train.json', {'imgs': images, 'anns': anns, 'imgToAnns': {}})
    anns = {'cc_1': {'id': 'cc_1', 'image_id': 'cc', 'utf8_string': 'gone', 'points': flat(LEVEL)}}
    write_json(root / 'TextOCR_0.1_val.json', {'imgs': {'cc': {'file_name': 'train/cc.jpg'}}, 'anns': anns})
    return root


def coco(root: Path, save: Save) -> Path:
    save(scene([LEVEL, UPHILL]), root / 'images' / 'deep' / 'a.jpg')
    texts: list[Any] = [
        {'image_id': 1, 'bbox': LEVEL_BOX, 'text': 'Exit'},
        {'image_id': 1, 'segmentation': [flat([UPHILL[i] for i in (1, 2, 3, 0)])], 'attributes': {'text': 'Straße'}},
        {'image_id': 1, 'bbox': LEVEL_BOX, 'segmentation': {'counts': 'abc', 'size': [9, 9]}, 'text': 'mask'},
        {'image_id': 1, 'bbox': LEVEL_BOX, 'text': 'crowd', 'iscrowd': 1},
        {'image_id': 1, 'bbox': [1, 2, 'x', 4], 'text': 'no box'},
        {'image_id': 1, 'bbox': LEVEL_BOX},
        {'image_id': 8, 'bbox': LEVEL_BOX, 'text': 'lost'},
        {'image_id': 2, 'bbox': LEVEL_BOX, 'text': 'outside'},
    ]
    images = [{'id': 1, 'file_name': 'deep/a.jpg'}, {'id': 2, 'file_name': '../../secret.jpg'}]
    write_json(root / 'annotations.json', {'images': images, 'annotations': texts, 'categories': []})
    return root


def openvino(root: Path, save: Save) -> Path:
    def text(label: str, corners: Quad, legible: bool = True, number: int = 1) -> dict[str, Any]:
        attributes = {'transcription': label, 'legible': legible, 'language': 'english'}
        return {'image_id': number, 'segmentation': [flat(corners)], 'bbox': LEVEL_BOX, 'attributes': attributes}

    for part in ('train_1', 'validation'):
        save(scene([LEVEL, UPHILL]), root / part / 'ab.jpg')
        images = [{'id': 1, 'file_name': f'{part}/ab.jpg'}, {'id': 2, 'file_name': f'{part}/gone.jpg'}]
        texts = [
            text(f'Exit {part}', LEVEL),
            text('Straße', UPHILL),
            text('', LEVEL, False),
            text('x', LEVEL, number=2),
        ]
        name = f'text_spotting_openimages_v5_{part}.json'
        write_json(root / name, {'images': images, 'annotations': texts})
    return root


def icdar(root: Path, save: Save) -> Path:
    save(scene(), root / 'images' / 'img_1.jpg')
    lines = (f'{commas(LEVEL)},Exit, 5', f'{commas(UPHILL)},Straße', f'{commas(DOWN)},出口', f'{commas(LEVEL)},###')
    write_lines(root / 'gt' / 'gt_img_1.txt', *lines, 'nonsense', encoding='utf-8-sig')
    save(scene([LEVEL]), root / 'images' / 'img_2.jpg')
    write_lines(root / 'gt' / 'gt_img_2.txt', '16, 10, 64, 30, "Footpath, "5""', '16 10 64 30 "To"', '16 10 64 30 Go')
    write_lines(root / 'gt' / 'gt_img_3.txt', f'{commas(LEVEL)},gone')
    return root


def mlt_words(root: Path, save: Save) -> Path:
    save(flag(), root / 'Word_Images_Part1' / 'word_1.png')
    save(flag(), root / 'Word_Images_Part2' / 'word_2.png')
    lines = (
        'word_1.png,Latin,Exit, 5',
        'word_2.png,Arabic,مخرج',
        'word_3.png,Latin,gone',
        'word_1.png',
        'word_1.png,None,###',
    )
    write_lines(root / 'gt.txt', *lines, encoding='utf-8-sig')
    return root


def mlt_pages(root: Path, save: Save) -> Path:
    save(scene(), root / 'ImagesPart1' / 'tr_img_00001.jpg')
    lines = (f'{commas(LEVEL)},Latin,Exit, 5', f'{commas(UPHILL)},Hindi,निकास', f'{commas(DOWN)},Chinese,出口')
    write_lines(root / 'train_gt_t13' / 'tr_img_00001.txt', *lines, f'{commas(LEVEL)},None,###', '1,2,3,4,Latin,x')
    write_lines(root / 'train_gt_t13' / 'tr_img_05001.txt', f'{commas(LEVEL)},Latin,gone')
    return root


def rctw17(root: Path, save: Save) -> Path:
    save(scene(), root / 'train_images' / 'image_0.jpg')
    save(scene([LEVEL]), root / 'train_images' / 'image_1.jpg')
    lines = (
        f'{commas(LEVEL)},0,"A, "店""',
        f'{commas(UPHILL)},0,"食"',
        f'{commas(DOWN)},1,"难"',
        f'{commas(LEVEL)},0,"###"',
    )
    write_lines(root / 'train_gts' / 'image_0.txt', *lines, f'{commas(LEVEL)},x', encoding='utf-8-sig')
    write_lines(root / 'train_gts' / 'image_1.txt', f'{commas(LEVEL)},0,"商店出口"', encoding='gbk')
    return root


def uber_text(root: Path, save: Save) -> Path:
    folder = root / 'train' / '1Kx1K'
    save(scene(), folder / 'img_1.jpg')
    places = [' '.join(map(str, flat(corners))) for corners in (LEVEL, UPHILL, DOWN)]
    lines = (f'{places[0]}\tExit\tstreet name', f'{places[1]}\t24 h\tbusiness name', f'{places[2]}\tSUB\tother')
    write_lines(folder / 'truth_img_1.txt', *lines, f'{places[0]}\t***\tother', '3 4\tx\tother')
    write_lines(root / 'train' / '4Kx4K' / 'truth_img_2.txt', f'{places[0]}\tgone\tother')
    return root


def union_lmdb(root: Path, _: Save) -> Path:
    for level, labels in (('easy', ('Exit', 'a b')), ('hard', ('出口',)), ('val', ('not this',))):
        with LmdbWriter(root / f'train_{level}') as writer:
            for label in labels:
                writer.write(encode(flag()), label)
    return root


def union_lists(root: Path, save: Save) -> Path:
    name = 'full_images/art_curve/gt_1.jpg'
    save(flag(), root / name)
    folder = root / 'train_annos'
    lines = [json.dumps({'filename': path, 'text': text}) for path, text in ((name, 'Exit'), ('/etc/a.jpg', 'x'))]
    write_lines(folder / 'mmocr-0.x' / 'train_easy.jsonl', *lines, '{"filename": 7}', '{"filename"')
    write_lines(folder / 'mmocr-0.x' / 'train_hard.jsonl', json.dumps({'filename': 'full_images/no.jpg', 'text': 'y'}))
    items = [{'img_path': name, 'instances': [{'text': 'of another year'}]}]
    write_json(folder / 'mmocr1.0.x' / 'train_easy.json', {'metainfo': {}, 'data_list': items})
    return root


def mjsynth(root: Path, save: Save) -> Path:
    folder = root / 'mnt' / 'ramdisk' / 'max' / '90kDICT32px'
    for part, (first, second) in {'train': ('Lube', "DON'T"), 'val': ('Exit', 'café'), 'test': ('a', 'b')}.items():
        save(flag(), folder / '2425' / '1' / f'1_{first}_45484.jpg')
        lines = (f'./2425/1/1_{first}_45484.jpg 45484', '', 'nonsense', f'./2425/1/2_{second}_7.jpg 7')
        write_lines(folder / f'annotation_{part}.txt', *lines)
    return root


def synthtext(root: Path, save: Save) -> Path:
    from scipy.io import savemat

    save(scene(), root / '8' / 'a_1.jpg')
    save(scene([LEVEL]), root / '8' / 'b_2.jpg')
    boxes = [
        np.array([LEVEL, UPHILL, DOWN], float).T,
        np.array(LEVEL, float).T,
        np.zeros((2, 4, 2)),
        np.zeros((2, 4, 1)),
    ]
    texts = [np.array(['Exit\nthe   ', ' "here" ']), np.array(['one']), np.array(['1']), np.array(['gone'])]
    columns: dict[str, Any] = {'charBB': [np.zeros((2, 4, 1))] * 4, 'wordBB': boxes, 'txt': texts}
    columns['imnames'] = [np.array([name]) for name in ('8/a_1.jpg', '8/b_2.jpg', '8/b_2.jpg', '8/c_3.jpg')]
    cells = {}
    for name, values in columns.items():
        cells[name] = np.empty((1, len(values)), object)
        cells[name][0] = values
    savemat(root / 'gt.mat', cells)
    return root


def case_sensitive(root: Path, save: Save) -> Path:
    for name in ('cute80_test', 'svt_test'):
        for number in (1, 2, 10):
            save(flag(), root / name / 'IMG' / f'{number}.jpg')
            write_lines(root / name / 'label' / f'{number}.txt', f'{name[:3]}! {number}')
        write_lines(root / name / 'label' / '11.txt', 'gone')
        (root / name / 'label' / '2.txt').write_bytes(b'caf\xe9')
    return root


def paddle_words(root: Path, save: Save) -> Path:
    for number in range(3):
        save(flag(), root / 'train' / f'{number}.png')
    lines = (
        'train/0.png\tExit, 5',
        '["train/1.png", "train/2.png"]\t[出口]',
        'train/9.png\tgone',
        'no tab',
        '../a.png\tx',
    )
    write_lines(root / 'rec_gt_train.txt', *lines)
    return root


def paddle_pages(root: Path, save: Save) -> Path:
    save(scene(), root / 'img' / '1.jpg')
    places = (('Exit', LEVEL), ('Straße', UPHILL), ('###', LEVEL), ('出口', DOWN))
    texts: list[Any] = [{'transcription': text, 'points': corners} for text, corners in places]
    texts += [{'transcription': 'dim', 'points': LEVEL, 'difficult': True}, 7]
    write_lines(root / 'Label.txt', f'img/1.jpg\t{json.dumps(texts)}', 'img/2.jpg\t[]')
    return root


def doctr_words(root: Path, save: Save) -> Path:
    save(flag(), root / 'images' / '1.png')
    write_json(root / 'labels.json', {'1.png': 'Exit 出口', '2.png': 'gone', '../3.png': 'outside', '4.png': 4})
    return root


def doctr_pages(root: Path, save: Save) -> Path:
    save(scene(), root / 'images' / '1.jpg')
    words = [
        {'value': 'Exit', 'geometry': [16, 10, 64, 30]},
        {'value': 'Straße', 'geometry': UPHILL},
        {'value': 'small', 'geometry': [[0.1, 0.1], [0.2, 0.2]]},
    ]
    polygons: list[Any] = [{'text': '出口', 'points': DOWN}, LEVEL]
    pages = {'1.jpg': {'typed_words': words}, './1.jpg': {'polygons': polygons, 'img_dimensions': [140, 200]}}
    write_json(root / 'labels.json', pages)
    return root


def parquet(root: Path, _: Save) -> Path:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    (root / 'data').mkdir(parents=True)
    for shard, labels in enumerate((('Exit', None, '出口'), ('a b',))):
        pictures = [{'bytes': encode(flag()), 'path': None}] * len(labels)
        table = pa.table({'image': pictures, 'text': list(labels)})
        write_table(table, root / 'data' / f'train-0000{shard}-of-00002.parquet', row_group_size=2)
    return root


MISSING = 'picture missing'
NO_PLACE = 'line without a text and its place'
LOST = {'picture without a name': 1}
MINIATURES = {
    'art': Miniature(
        art_words,
        ('URDER', 'a,"b"'),
        {'illegible': 1, MISSING: 1},
        annotations='train_task2_labels.json',
        exif=False,
    ),
    'art pages': Miniature(
        art_pages, ('Exit', 'Straße 5', '出口', 'round'), PAGE_FAULTS, annotations='train_labels.json'
    ),
    'lsvt': Miniature(lsvt, ('Exit', 'Straße 5', '出口', 'round'), PAGE_FAULTS, annotations='train_full_labels.json'),
    'rects': Miniature(rects, ('A 店', '食', '出口'), {'illegible': 1, 'annotations broken': 1}),
    'rects characters': Miniature(rects, ('店',), {'annotations broken': 1}, ('--unit', 'chars')),
    'coco_text_1': Miniature(
        coco_text_1,
        ('Exit', 'salida', 'pen'),
        {'illegible': 1, 'no text': 1, MISSING: 2} | LOST,
        annotations='COCO_Text.json',
    ),
    'coco_text_1 English print': Miniature(
        coco_text_1,
        ('Exit',),
        {'language not english': 1, 'text of the class handwritten': 1, 'illegible': 1, 'no text': 1, MISSING: 1}
        | LOST,
        ('--language', 'English', '--kind', 'machine printed', '--split', 'train'),
    ),
    'coco_text_2': Miniature(
        coco_text_2,
        ('Exit', 'Straße', 'boxed'),
        {'broken polygon': 1, 'empty label': 1},
        annotations='cocotext.v2.json',
    ),
    'textocr': Miniature(
        textocr, ('Exit', 'Straße', 'DOWN'), {'illegible': 1, MISSING: 1}, annotations='TextOCR_0.1_train.json'
    ),
    'coco': Miniature(
        coco,
        ('Exit', 'Straße', 'mask'),
        {'illegible': 1, 'broken polygon': 1, 'no text': 1, MISSING: 2},
        annotations='annotations.json',
    ),
    'coco one field': Miniature(
        coco, ('Straße',), {'no text': 4, 'illegible': 1, MISSING: 2}, ('--text_field', 'attributes.text')
    ),
    'openvino': Miniature(
        openvino,
        ('Exit train_1', 'Straße', 'Exit validation', 'Straße'),
        {'illegible': 2, MISSING: 2},
        annotations='text_spotting_openimages_v5_train_1.json',
    ),
    'icdar': Miniature(
        icdar,
        ('Exit, 5', 'Straße', '出口', 'Footpath, "5"', 'To', 'Go'),
        {'illegible': 1, NO_PLACE: 1, MISSING: 1},
    ),
    'mlt19': Miniature(
        mlt_words,
        ('Exit, 5', 'مخرج'),
        {'illegible': 1, MISSING: 1, 'line without a picture and its text': 1},
        exif=False,
    ),
    'mlt19 pages': Miniature(
        mlt_pages,
        ('Exit, 5', 'निकास', '出口'),
        {'illegible': 1, MISSING: 1, NO_PLACE: 1},
    ),
    'mlt19 Latin': Miniature(
        mlt_pages,
        ('Exit, 5',),
        {'language Hindi': 1, 'language Chinese': 1, 'language None': 1, MISSING: 1, NO_PLACE: 1},
        ('--language', 'Latin, Symbols'),
    ),
    'rctw17': Miniature(
        rctw17,
        ('A, "店"', '食', '商店出口'),
        {'difficult': 1, 'illegible': 1, NO_PLACE: 1},
    ),
    'uber_text': Miniature(uber_text, ('Exit', '24 h', 'SUB'), {'illegible': 1, 'broken polygon': 1, MISSING: 1}),
    'union14m': Miniature(union_lmdb, ('Exit', 'a b', '出口'), exif=False),
    'union14m lists': Miniature(
        union_lists,
        ('Exit',),
        {MISSING: 1, 'picture outside the folder': 1, 'entry without a picture and its label': 2},
        exif=False,
    ),
    'mjsynth': Miniature(
        mjsynth, ('Lube', 'Exit', 'a'), {MISSING: 3, 'line without a picture called 123_label_456': 3}, exif=False
    ),
    'synthtext': Miniature(
        synthtext, ('Exit', 'the', '"here"', 'one'), {'words and boxes do not match': 1, MISSING: 1}
    ),
    'case_sensitive': Miniature(
        case_sensitive, ('cut! 1', 'cut! 10', 'svt! 1', 'svt! 10'), {'label not UTF-8': 2, MISSING: 2}, exif=False
    ),
    'paddleocr': Miniature(
        paddle_words, ('Exit, 5', '[出口]', '[出口]'), {MISSING: 2, 'line without a tab': 1}, exif=False
    ),
    'paddleocr pages': Miniature(paddle_pages, ('Exit', 'Straße', '出口'), {'illegible': 2, 'no text': 1}),
    'doctr': Miniature(
        doctr_words,
        ('Exit 出口',),
        {MISSING: 2, 'neither a label nor typed_words nor polygons': 1},
        annotations='labels.json',
        exif=False,
    ),
    'doctr pages': Miniature(
        doctr_pages,
        ('Exit', 'Straße', '出口'),
        {'place relative to the size of the picture': 1, 'no text': 1},
        annotations='labels.json',
    ),
    'parquet': Miniature(parquet, ('Exit', '出口', 'a b'), {'no text': 1}, exif=False),
}
