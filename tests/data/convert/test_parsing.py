"""Annotations in whatever shape they come: numbers and points or nothing, and one sentence for a broken file."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strhub.data.convert.parsing import (
    Pictures,
    box_xywh,
    find_file,
    member,
    numbers,
    polygon,
    read_json,
    read_lines,
    read_text,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=10,
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'gbk'])
def test_text_is_read_in_its_encoding(tmp_path, encoding):
    (tmp_path / 'gt.txt').write_bytes('中文\r\n\r\nb\u2028c\rd'.replace('\u2028', '-').encode(encoding))
    assert list(read_lines(tmp_path / 'gt.txt', ('utf-8', 'gbk'))) == [(1, '中文'), (3, 'b-c'), (4, 'd')]


def test_lines_end_where_editors_end_them(tmp_path):
    (tmp_path / 'gt.txt').write_text('a\u2028b\x0bc\x1cd\ne', encoding='utf-8')
    assert list(read_lines(tmp_path / 'gt.txt')) == [(1, 'a\u2028b\x0bc\x1cd'), (2, 'e')]


@pytest.mark.parametrize(('content', 'encodings'), [(b'\xd6\xd0', ('utf-8',)), (b'\xff\xfe\x00\xd8', ('utf-8', 'gbk'))])
def test_another_encoding_is_told(tmp_path, content, encodings):
    (tmp_path / 'gt.txt').write_bytes(content)
    with pytest.raises(ValueError, match=r'gt\.txt is not text in UTF'):
        read_text(tmp_path / 'gt.txt', encodings)


@pytest.mark.parametrize('content', ['', '{', '{"a": 1', '[1,]', 'NaN x', '[' * 100_000])
def test_broken_json_is_told(tmp_path, content):
    (tmp_path / 'gt.json').write_text(content)
    with pytest.raises(ValueError, match=r'gt\.json is not valid JSON') as error:
        read_json(tmp_path / 'gt.json')
    assert '\n' not in str(error.value)


def test_json_of_another_shape_is_told(tmp_path):
    (tmp_path / 'gt.json').write_text('{"anns": []}')
    with pytest.raises(ValueError, match=r'gt\.json is an object where a list was expected'):
        read_json(tmp_path / 'gt.json', list)
    data = read_json(tmp_path / 'gt.json', dict)
    assert member(data, 'anns', list, tmp_path / 'gt.json') == []
    with pytest.raises(ValueError, match=r"'anns' of .*gt\.json is a list where an object"):
        member(data, 'anns', dict, tmp_path / 'gt.json')
    with pytest.raises(ValueError, match=r"gt\.json has no 'imgs'"):
        member(data, 'imgs', dict, tmp_path / 'gt.json')


@settings(max_examples=50)
@given(st.lists(FINITE, min_size=3, max_size=12).filter(lambda flat: len(flat) % 2 == 0))
def test_points_may_be_flat_or_in_pairs_or_texts(flat):
    pairs = [flat[i : i + 2] for i in range(0, len(flat), 2)]
    expected = tuple(map(tuple, pairs)) if len(pairs) >= 3 else None
    assert polygon(flat) == polygon(pairs) == polygon([str(number) for number in flat]) == expected


@settings(max_examples=50)
@given(ANYTHING)
def test_anything_else_is_none(value):
    value = json.loads(json.dumps(value))
    for found in (numbers(value), box_xywh(value)):
        assert found is None or all(math.isfinite(number) for number in found)
    points = polygon(value)
    assert points is None or (len(points) >= 3 and all(math.isfinite(x) and math.isfinite(y) for x, y in points))


@pytest.mark.parametrize(
    'value', [None, 7, 'abc', '1234567', {'1': 2}, [True, 1], [1, None], [[1, 2], [3]], [10**400, 1]]
)
def test_what_is_not_a_list_of_numbers_is_none(value):
    assert numbers(value) is None
    assert polygon(value) is None


def test_a_box_of_sizes():
    assert box_xywh([1, 2, 3, '4']) == (1, 2, 4, 6)
    assert box_xywh([1, 2, 3]) is None


def test_pictures_are_found_by_name_or_stem_in_whatever_case(tmp_path):
    for name in ('a.JPG', 'b.png', 'B.png', 'c.txt', 'd.jpg.png'):
        (tmp_path / name).touch()
    pictures = Pictures(tmp_path)
    found = {name: pictures(name) for name in ('a', 'A.jpg', 'b.png', 'B', 'c', 'd', 'd.jpg', 'e')}
    names = {name: path and path.name for name, path in found.items()}
    assert names.pop('B') in ('b.png', 'B.png')
    assert names == {
        'a': 'a.JPG',
        'A.jpg': 'a.JPG',
        'b.png': 'b.png',
        'c': None,
        'd': None,
        'd.jpg': 'd.jpg.png',
        'e': None,
    }
    assert Pictures(tmp_path / 'nowhere')('a') is None


def test_the_first_file_that_is_there_counts(tmp_path):
    (tmp_path / 'b').touch()
    assert find_file(tmp_path, 'a', 'b') == tmp_path / 'b'
    with pytest.raises(FileNotFoundError, match='does not hold any of c, d'):
        find_file(tmp_path, 'c', 'd')
    with pytest.raises(FileNotFoundError, match='is not a folder'):
        find_file(tmp_path / 'b', 'c')
