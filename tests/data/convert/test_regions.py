"""Marked texts in pictures: their order, their texts and whatever else may stand in their place."""

import json
from contextlib import suppress
from io import BytesIO

import miniatures as mini
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from miniatures import commas, flat, write_json, write_lines
from PIL import Image
from scenes import DOWN, LEVEL, UPHILL, is_upright, quad, save_plain, scene

from strhub.data.convert.base import Word
from strhub.data.convert.case_sensitive import case_sensitive
from strhub.data.convert.coco import coco
from strhub.data.convert.coco_text import coco_text_1
from strhub.data.convert.crop import level
from strhub.data.convert.cutter import Rules, cut_all
from strhub.data.convert.doctr import doctr
from strhub.data.convert.icdar import icdar
from strhub.data.convert.icdar2019 import art
from strhub.data.convert.paddleocr import paddleocr

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def points(word) -> list[tuple[float, float]]:
    assert isinstance(word, Word)
    return [(x, y) for x, y in word.polygon or ()]


@given(
    st.text(max_size=20).filter(lambda text: text.strip() == text != '###' and '\n' not in text and '\r' not in text)
)
@example('a, "b", c')
@example('"')
def test_icdar_texts_come_back_as_they_were(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp('icdar')
    (folder / 'a.jpg').touch()
    (folder / 'b.jpg').touch()
    (folder / 'gt_a.txt').write_bytes(f'{commas(LEVEL)},{text}'.encode())
    (folder / 'gt_b.txt').write_bytes(f'16, 10, 64, 30, "{text}"\n16 10 64 30 "{text}"\n'.encode())
    assert [word.label for word in icdar(folder)] == [text] * 3


@given(
    st.tuples(st.floats(-40, 40), st.integers(0, 3), st.booleans(), st.integers(10, 300)).filter(lambda t: t[3] != 20)
)
def test_quads_in_any_order_become_level(drawn):
    turned, first, mirrored, width = drawn
    corners = [(float(x), float(y)) for x, y in quad((500, 500), (width, 20), turned)]
    order = corners[first:] + corners[:first]
    assert list(level(tuple(order[::-1] if mirrored else order))) == corners


@pytest.mark.parametrize('corners', [LEVEL, UPHILL])
def test_coco_outlines_of_any_order_are_turned_level(tmp_path, corners):
    save_plain(scene([corners]), tmp_path / 'a.jpg')
    images = [{'id': 1, 'file_name': 'a.jpg'}]
    texts = [{'image_id': 1, 'text': 'x', 'segmentation': [flat(corners[i:] + corners[:i])]} for i in range(4)]
    write_json(tmp_path / 'labels.json', {'images': images, 'annotations': texts})
    cuts = cut_all(coco(tmp_path), Rules())
    assert all(isinstance(cut, tuple) and is_upright(Image.open(BytesIO(cut[0]))) for cut in cuts)
    assert len(cuts) == 4


def test_quads_as_read_keep_their_first_corner(tmp_path):
    mini.art_pages(tmp_path, save_plain)
    assert [points(word) for word in art(tmp_path) if isinstance(word, Word)][2] == DOWN


@settings(max_examples=150)
@given(JSON, st.sampled_from(['texts', 'text', 'points', 'transcription', 'whole']))
def test_no_json_breaks_a_parser(tmp_path_factory, value, place):
    """Whatever stands where a text, or a part of one, should: words, skipped ones and sentences are all there is."""
    root = tmp_path_factory.mktemp('any')
    (root / 'images').mkdir()
    (root / 'images' / 'a.jpg').touch()
    (root / 'train_images').mkdir()
    (root / 'train_images' / 'a.jpg').touch()
    text = {'transcription': 't', 'points': LEVEL, 'utf8_string': 't', 'image_id': 1, 'bbox': [0, 0, 5, 5]}
    text |= {'mask': LEVEL, 'segmentation': [flat(LEVEL)], 'attributes': {'text': 't'}}
    if place in ('points', 'transcription'):
        keys = {'points': ('points', 'bbox', 'segmentation', 'mask'), 'transcription': ('transcription', 'utf8_string')}
        text |= dict.fromkeys(keys[place], value)
    one = value if place == 'text' else text
    many = value if place == 'texts' else [one]
    anything = place == 'whole'
    write_json(root / 'train_labels.json', value if anything else {'a': many})
    write_json(root / 'labels.json', value if anything else {'a.jpg': {'typed_words': many}, 'b.jpg': one})
    write_json(
        root / 'COCO_Text.json',
        value if anything else {'imgs': {'1': {'file_name': 'a.jpg'}, '2': one}, 'anns': {'1': one}},
    )
    write_json(
        root / 'c.json', value if anything else {'images': [{'id': 1, 'file_name': 'a.jpg'}, one], 'annotations': many}
    )
    write_lines(root / 'rec_gt.txt', f'images/a.jpg\t{json.dumps(many)}', json.dumps(value), f'["{value!r}"]\t{value}')
    parsers = (art, doctr, coco_text_1, paddleocr)
    sources = [*((parser, root) for parser in parsers), (coco, root / 'c.json'), (case_sensitive, root / 'c.json')]
    for parser, source in sources:
        with suppress(ValueError):  # a sentence, as tests of each set make sure
            assert all(
                isinstance(word.label if isinstance(word, Word) else word.reason, str) for word in parser(source)
            )
