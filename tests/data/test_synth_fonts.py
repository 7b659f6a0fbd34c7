"""The faces that words are drawn with."""

import csv
import logging
import pickle
import re
import shutil
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import pytest

from strhub.data.synth.fonts import CAP_HEIGHT, Face, FontBook, vendored_faces
from strhub.data.synth.words import DIGITS, LETTERS, SYMBOLS, WordSource

ALL = DIGITS + LETTERS + SYMBOLS
FOLDER = Path(str(files('strhub.data.synth').joinpath('fonts')))
FACES = vendored_faces()


def manifest() -> list[dict[str, str]]:
    with (FOLDER / 'manifest.tsv').open() as file:
        return list(csv.DictReader(file, delimiter='\t'))


def test_there_are_many_faces_of_free_families() -> None:
    rows = manifest()
    assert len(rows) >= 150
    assert len({row['family'] for row in rows}) >= 60
    assert {row['licence'] for row in rows} <= {'OFL-1.1', 'Apache-2.0'}
    assert {row['file'] for row in rows} == {path.name for path in FOLDER.glob('*.[to]tf')}
    assert sum(path.stat().st_size for path in FOLDER.rglob('*')) < 4_500_000


def test_each_family_brings_its_licence() -> None:
    texts = {'OFL-1.1': 'SIL OPEN FONT LICENSE', 'Apache-2.0': 'Apache License'}
    for row in manifest():
        slug = re.sub('[^a-z0-9]+', '-', row['family'].lower()).strip('-')
        text = (FOLDER / 'licences' / f'{slug}.txt').read_text()
        assert texts[row['licence']] in text, row['family']


@pytest.mark.parametrize('face', FACES, ids=lambda face: face.path.name)
def test_each_face_draws_each_character(face: Face) -> None:
    assert not face.missing(ALL)
    glyphs = {character: face.glyph(character) for character in ALL}
    assert min(glyph.mask.max() for glyph in glyphs.values()) > 64  # not a hairline
    assert 0.8 < glyphs['H'].mask.shape[0] / CAP_HEIGHT < 1.25
    alike = defaultdict(str)
    for character, (mask, _, top, _) in glyphs.items():
        alike[mask.tobytes(), mask.shape, top] += character
    # A reader of one character alone cannot tell l from I in many a face; more would be a fault of the font.
    groups = [set(group) for group in alike.values() if len(group) > 1]
    assert all(face.caps_only or group <= set('Il|') or group <= set('O0') or group <= set("'`") for group in groups), (
        groups
    )


def test_a_book_survives_pickling() -> None:
    book = FontBook(ALL)
    mask = book.faces[3].glyph('g').mask
    assert (pickle.loads(pickle.dumps(book)).faces[3].glyph('g').mask == mask).all()


def test_own_fonts_that_cannot_be_used_are_named(tmp_path, caplog) -> None:
    (tmp_path / 'sub').mkdir()
    shutil.copy(FACES[0].path, tmp_path / 'sub' / f'good{FACES[0].path.suffix}')
    (tmp_path / 'bad.ttf').write_bytes(b'not a font')
    with caplog.at_level(logging.WARNING):
        book = FontBook('abcABC ', folder=tmp_path)
    assert [face.family for face in book.faces] == ['good']
    assert 'bad.ttf cannot be opened as a font' in caplog.text
    with pytest.raises(ValueError, match=r"none of the 2 fonts .* has a character of the charset 'жш'"):
        FontBook('жш', folder=tmp_path)


def test_characters_that_no_font_has_are_named_and_words_with_them_not_drawn(tmp_path, caplog) -> None:
    shutil.copy(FACES[0].path, tmp_path)
    with caplog.at_level(logging.WARNING):
        book = FontBook('abcжш', folder=tmp_path)
    assert "has 2 characters of the charset, and no word with them is drawn: 'жш'" in caplog.text
    assert book.can_draw('cab')
    assert not book.can_draw('caж')
    assert not book.can_draw('caж')
    assert caplog.text.count("no font has all characters of 'caж'") == 1


def test_a_charset_beyond_the_vendored_fonts_asks_for_fonts() -> None:
    with pytest.raises(ValueError, match='give a folder of fonts'):
        FontBook('abcж')


MANY = ''.join(map(chr, range(ord('а'), ord('а') + 25)))


@pytest.mark.parametrize('count', [20, 21, 25])
def test_messages_say_how_many_characters_they_leave_out(tmp_path, caplog, count) -> None:
    characters, rest = MANY[:count], f' and {count - 20} more' if count > 20 else ''
    expected = re.escape(f'{MANY[:20]!r}{rest}')
    shutil.copy(FACES[0].path, tmp_path)
    (tmp_path / 'words.txt').write_text('word\n')
    with pytest.raises(ValueError, match=f'the fonts of strhub have no {expected}: give'):
        FontBook(characters)
    with pytest.raises(ValueError, match=f'of the charset {expected}: add'):
        FontBook(characters, folder=tmp_path)
    with pytest.raises(ValueError, match=f'the charset {expected} in at most 25'):
        WordSource(characters, path=tmp_path / 'words.txt')
    with caplog.at_level(logging.WARNING):
        FontBook('H' + characters, folder=tmp_path)
    assert f'no word with them is drawn: {MANY[:20]!r}{rest}' in caplog.text


def test_a_folder_without_fonts_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match='holds no fonts'):
        FontBook('abc', folder=tmp_path)
