"""Pictures are fetched from wherever they are, judged, and stored as they should be."""

from io import BytesIO
from pathlib import Path

import pytest
from pictures import encode, make_picture
from PIL import Image

from strhub.charset import PRINTABLE
from strhub.data.convert import cutter
from strhub.data.convert.base import Cell, Record, Skipped, Word
from strhub.data.convert.cutter import Rules, cut_all, fetch
from strhub.data.picture import open_image


def jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif, stream = Image.Exif(), BytesIO()
    exif[0x0112] = orientation
    image.save(stream, 'JPEG', quality=95, exif=exif)
    return stream.getvalue()


def format_of(encoded: bytes) -> str | None:
    return Image.open(BytesIO(encoded)).format


def cut_one(word: Word, **rules) -> tuple[bytes, str] | Skipped:
    return cut_all([word], Rules(**rules))[0]


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / 'photo.jpg'
    path.write_bytes(jpeg(make_picture(0, 8, 5).resize((80, 50), Image.Resampling.BICUBIC)))
    return path


def test_whole_pictures_keep_their_bytes_also_if_exif_turns_them(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg(make_picture(0), orientation=6))
    assert cut_one(Word(path, 'x')) == (path.read_bytes(), 'x')


def test_parts_of_jpegs_are_jpegs_unless_nothing_may_be_lost(photo, tmp_path):
    (tmp_path / 'page.png').write_bytes(encode(open_image(photo)))
    exact = open_image(photo).crop((10, 10, 60, 30))
    box = (10, 10, 60, 30)
    parts = [
        cut_one(Word(photo, 'x', box)),
        cut_one(Word(photo, 'x', box), lossless=True),
        cut_one(Word(tmp_path / 'page.png', 'x', box)),
    ]
    assert [format_of(encoded) for encoded, _ in parts] == ['JPEG', 'PNG', 'PNG']
    assert open_image(parts[1][0]).tobytes() == open_image(parts[2][0]).tobytes() == exact.tobytes()
    found = open_image(parts[0][0])
    errors = [abs(a - b) for a, b in zip(found.tobytes(), exact.tobytes(), strict=True)]
    assert sum(errors) / len(errors) < 2


@pytest.mark.parametrize('as_stored', [False, True])
def test_a_part_of_a_turned_picture_is_upright(tmp_path, as_stored):
    stored = make_picture(0, 8, 5).resize((80, 50), Image.Resampling.BICUBIC)
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg(stored, orientation=6))  # shown turned clockwise: 50 wide, 80 high
    box = (10, 5, 70, 25) if as_stored else (25, 10, 45, 70)
    encoded, _ = cut_one(Word(path, 'x', box, as_stored=as_stored), lossless=True)
    assert open_image(encoded).tobytes() == open_image(path).crop((25, 10, 45, 70)).tobytes()


@pytest.mark.parametrize(
    ('label', 'rules', 'reason'),
    [
        ('', {}, 'empty label'),
        (' \t', {}, 'empty label'),
        ('a\ud800', {}, 'label that is not Unicode'),
        ('word', {'max_label_length': 3}, 'label longer than 3 characters'),
        ('naïve', {'charset': PRINTABLE}, 'label with characters outside the charset'),
        ('word', {'charset': '0123'}, 'label with characters outside the charset'),
        ('word', {'min_size': 51}, 'picture with a side under 51 pixels'),
    ],
)
def test_words_are_skipped_for_a_reason(photo, label, rules, reason):
    assert cut_one(Word(photo, label), **rules) == Skipped(reason, str(photo))


def test_labels_are_kept_as_written(photo):
    for label, rules in [('Straße 中文', {}), (' a b', {'charset': 'ab'}), ('word', {'max_label_length': 4})]:
        assert cut_one(Word(photo, label), **rules)[1] == label


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'picture missing'),
        (b'', 'picture unreadable'),
        (b'no picture', 'picture unreadable'),
        (encode(make_picture(0))[:-300], 'picture unreadable'),
    ],
)
def test_pictures_that_cannot_be_decoded_whole_are_skipped(tmp_path, content, reason):
    if content is not None:
        (tmp_path / 'a.png').write_bytes(content)
    word = Word(tmp_path / 'a.png', 'x', (0, 0, 5, 5))
    assert cut_all([word, word], Rules()) == [Skipped(reason, str(tmp_path / 'a.png'))] * 2


@pytest.mark.parametrize('name', ['a\0.png', 'x' * 300, 'photo.jpg/a.png', '.'])
def test_names_that_cannot_be_are_skipped(photo, name):
    result = cut_one(Word(photo.parent / name, 'x'))
    assert isinstance(result, Skipped)
    assert result.reason in ('picture missing', 'picture unreadable')


def test_a_file_that_is_too_large_is_not_read(photo, monkeypatch):
    monkeypatch.setattr(cutter, 'MAX_BYTES', 100)
    assert cut_one(Word(photo, 'x')) == Skipped('picture of more than 100 bytes', str(photo))


def test_neighbours_open_their_picture_once(photo, monkeypatch):
    opened = []
    monkeypatch.setattr(cutter, 'fetch', lambda picture: opened.append(picture) or fetch(picture))
    words = [Word(photo, 'a', (0, 0, 9, 9)), Skipped('illegible'), Word(photo, 'b', (9, 9, 20, 20))]
    assert len(cut_all(words, Rules())) == 3
    assert opened == [photo]


def test_records_of_an_lmdb(tmp_path, make_lmdb):
    path = make_lmdb(tmp_path / 'set', ['one', 'two'])
    words = [Word(Record(path, b'image-%09d' % number), 'x') for number in (2, 1, 3)]
    second, first, third = cut_all(words, Rules())
    assert [first[0], second[0]] == [encode(make_picture(0)), encode(make_picture(1))]
    assert third == Skipped('picture missing', f'{path}#image-000000003')
    with pytest.raises(FileNotFoundError, match='not an LMDB'):
        fetch(Record(tmp_path, b'image-000000001'))


def test_cells_bring_their_picture(tmp_path):
    picture = encode(make_picture(0))
    cells = [Cell(tmp_path / 'a.parquet', row, encoded) for row, encoded in enumerate((picture, b'none', None))]
    kept, broken, missing = cut_all([Word(cell, 'x') for cell in cells], Rules())
    assert kept == (picture, 'x')
    assert broken == Skipped('picture unreadable', f'{tmp_path / "a.parquet"}#1')
    assert missing == Skipped('picture missing', f'{tmp_path / "a.parquet"}#2')
