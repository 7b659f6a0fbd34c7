"""Rendered words in other scripts: shaping, fonts by the word, columns. No font of such scripts is in the package."""

import logging
import pickle
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fontTools.ttLib import TTCollection, TTFont
from hypothesis import given
from hypothesis import strategies as st
from tinyfont import JOINING, SQUARE, TURNING, build_font

from strhub.data.labels import LabelRules
from strhub.data.synth import FontBook, RenderedDataset, WordSource, cli, layout, render_word, scripts
from strhub.data.synth.fontfile import characters_of, count_faces
from strhub.data.synth.fonts import CAP_HEIGHT, Face, faces_of, vendored_faces
from strhub.data.synth.words import DIGITS, LETTERS

raqm = pytest.mark.skipif(not scripts.has_raqm(), reason='this Pillow has no raqm')
ALEPH, BET, BEH, BAR = 'א', 'ב', 'ب', 'ー'
GREEK = 'αβγδς'
TALL, LOW = (50, 0, 150, 700), (50, 0, 650, 200)
BAR_IN_LINE, BAR_IN_COLUMN = (50, 300, 950, 400), (450, -80, 550, 820)
IDEOGRAPHS = {'日': (50, -80, 950, 820), '本': (50, -80, 950, 820)}


@pytest.fixture(scope='module')
def fonts(tmp_path_factory) -> Path:
    """A font each: Hebrew, Arabic, Greek, Japanese, the last one without ASCII or capitals."""
    folder = tmp_path_factory.mktemp('fonts')
    build_font(folder / 'hebrew.ttf', {'H': SQUARE, ALEPH: TALL, BET: LOW})
    joined = {'uni0628.init': (0, 0, 100, 200), 'uni0628.fina': (0, 0, 900, 700)}
    build_font(folder / 'arabic.ttf', {'H': SQUARE, BEH: SQUARE}, forms=joined, features=JOINING)
    build_font(folder / 'greek.ttf', dict.fromkeys('H' + GREEK + GREEK.upper(), SQUARE))
    turned = {'uni30FC.vert': BAR_IN_COLUMN}
    build_font(folder / 'japanese.ttf', {**IDEOGRAPHS, BAR: BAR_IN_LINE}, forms=turned, features=TURNING)
    return folder


@pytest.fixture
def without_raqm(monkeypatch) -> None:
    monkeypatch.setattr('strhub.data.synth.scripts.has_raqm', lambda: False)
    monkeypatch.setattr('strhub.data.synth.fonts.has_raqm', lambda: False)


def face_of(path: Path) -> Face:
    (face,) = faces_of(path)
    return face


@pytest.mark.parametrize(
    ('text', 'needed'),
    [
        ('Word 12', False), ('Überraß', False), ('Ελλάδα', False), ('Москва', False), ('日本', False), ('한국', False),
        ('שלום', True), ('سلام', True), ('हिन्दी', True), ('ผู้', True), ('e\u0301', True), ('a\u200db', True),
        ('ᠮᠣ', True), ('١٢٣', False),
    ],
)  # fmt: skip
def test_what_needs_shaping(text: str, needed: bool) -> None:
    assert scripts.needs_shaping(text) == needed


@raqm
def test_right_to_left_text_begins_at_the_right(fonts: Path) -> None:
    mask = layout.set_line(face_of(fonts / 'hebrew.ttf'), ALEPH + BET)  # a tall bar, then a low block
    heights = (mask > 127).sum(0)
    assert heights[-3] > CAP_HEIGHT - 2 > 2 * heights[3] > 0


@raqm
def test_letters_join(fonts: Path) -> None:
    face = face_of(fonts / 'arabic.ttf')
    heights = (layout.set_line(face, BEH + BEH) > 127).sum(0)
    # the last one, high and wide, at the left; the first one, low and narrow, at the right
    assert heights[2] > CAP_HEIGHT - 2 > 2 * heights[-2] > 0
    assert (heights > CAP_HEIGHT - 2).sum() > 1.3 * (face.glyph(BEH).mask > 127).any(0).sum()


def test_text_that_needs_no_shaping_is_set_from_single_glyphs(fonts: Path, without_raqm) -> None:
    face = face_of(fonts / 'greek.ttf')
    assert layout.set_line(face, 'αβγ').shape[0] == face.glyph('α').mask.shape[0] == CAP_HEIGHT
    assert FontBook(GREEK, folder=fonts / 'greek.ttf').can_draw('αβγ')


def test_without_raqm_one_sentence_says_what_to_install(fonts: Path, without_raqm) -> None:
    expected = f"'{ALEPH}{BET}' of the charset have to be shaped .* this Pillow lacks them: install the wheel"
    with pytest.raises(ValueError, match=expected):
        FontBook('H' + ALEPH + BET, folder=fonts)
    with pytest.raises(ValueError, match='install the wheel'):
        layout.set_line(face_of(fonts / 'hebrew.ttf'), ALEPH + BET)


def test_each_word_is_drawn_with_a_font_that_has_its_characters(fonts: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        book = FontBook('H日本' + GREEK, folder=fonts)
    assert not caplog.records
    rng = Random(0)
    assert {book.draw(rng, text='αβ').family for _ in range(20)} == {'greek'}
    assert {book.draw(rng, text='日').family for _ in range(20)} == {'japanese'}
    assert {book.draw(rng, text='H').family for _ in range(50)} == {'greek', 'hebrew', 'arabic'}
    with caplog.at_level(logging.WARNING):
        assert not any(book.can_draw('α日') for _ in range(3))
        assert not any(book.can_draw(f'日{i}α') for i in range(30))
    assert len(caplog.records) == 10
    assert 'no further one is named' in caplog.records[-1].message


def test_words_that_no_font_has_are_drawn_again(fonts: Path, tmp_path: Path) -> None:
    (tmp_path / 'words.txt').write_text('αβγ\nα日\n日本\n', 'utf-8')
    book = FontBook('日本' + GREEK, folder=fonts)
    words = WordSource('日本' + GREEK, path=tmp_path / 'words.txt')
    assert {render_word(0, index, words=words, fonts=book)[1] for index in range(40)} == {'αβγ', '日本'}
    (tmp_path / 'words.txt').write_text('α日\n', 'utf-8')
    words = WordSource('日本' + GREEK, path=tmp_path / 'words.txt')
    with pytest.raises(ValueError, match="no font has all of their characters, the last one 'α日'"):
        render_word(0, 0, words=words, fonts=book)


def test_all_faces_of_a_collection_are_used(fonts: Path, tmp_path: Path) -> None:
    collection = TTCollection()
    collection.fonts = [TTFont(fonts / 'greek.ttf'), TTFont(fonts / 'japanese.ttf')]
    collection.save(tmp_path / 'two.ttc')
    greek, japanese = faces_of(tmp_path)
    assert (greek.index, japanese.index) == (0, 1)
    assert (greek.missing('α日'), japanese.missing('α日')) == ('日', 'α')
    assert (greek.glyph('α').mask == face_of(fonts / 'greek.ttf').glyph('α').mask).all()
    book = pickle.loads(pickle.dumps(FontBook('α日', folder=tmp_path)))
    assert book.draw(Random(0), text='日').index == 1


def test_character_tables_say_what_fonts_have(fonts: Path) -> None:
    for path in [*fonts.glob('*.ttf'), *(face.path for face in vendored_faces()[::20])]:
        assert count_faces(path) == 1
        assert characters_of(path) == TTFont(path).getBestCmap().keys()


def test_characters_beyond_the_basic_plane_are_found(rare: Path) -> None:
    assert face_of(rare).missing('𠮷字永𠮸') == '永𠮸'


@pytest.fixture(scope='module')
def rare(tmp_path_factory) -> Path:
    return build_font(tmp_path_factory.mktemp('rare') / 'rare.ttf', {'字': SQUARE, '𠮷': SQUARE})


@given(data=st.data())
def test_broken_character_tables_are_refused_or_read(data, rare: Path) -> None:
    content = bytearray(rare.read_bytes())
    record = content.index(b'cmap')
    start = int.from_bytes(content[record + 8 : record + 12], 'big')
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(start, start + 80) | st.integers(record + 8, record + 15))
        content[place] = data.draw(st.integers(0, 255))
    broken = rare.parent / 'broken'
    broken.write_bytes(content[: data.draw(st.integers(4, len(content)))])
    try:
        found = characters_of(broken)
    except ValueError:  # any other error fails, and so does what takes forever
        return
    assert found is None or len(found) <= 0x110000


def test_fonts_without_capitals_get_a_common_size(fonts: Path) -> None:
    assert face_of(fonts / 'japanese.ttf').glyph('日').mask.shape[0] == pytest.approx(0.9 * CAP_HEIGHT / 0.7, abs=2)


def test_columns_go_from_top_to_bottom() -> None:
    face = vendored_faces()[0]
    line, column = layout.set_line(face, 'HHH'), layout.set_column(face, 'HHH')
    assert line.shape[1] > line.shape[0]
    assert column.shape[0] > 3 * CAP_HEIGHT > 2 * column.shape[1]
    third = column.shape[0] // 3
    assert column[:third].any()
    assert column[-third:].any()
    assert layout.set_column(face, 'll').shape[1] >= CAP_HEIGHT  # or a thin one would be blown up
    assert layout.set_column(face, 'H H').shape[0] > layout.set_column(face, 'HH').shape[0] + CAP_HEIGHT / 4


@raqm
def test_dashes_turn_in_columns(fonts: Path) -> None:
    face = face_of(fonts / 'japanese.ttf')
    assert layout.can_stand(face, '日' + BAR)
    column = layout.set_column(face, '日' + BAR)
    foot = column[-CAP_HEIGHT // 2 :] > 127
    assert foot.sum(1).max() < foot.shape[0] // 2  # narrow rows: the bar stands
    assert foot.any(1).all()


def test_what_has_no_form_for_columns_stays_in_a_line(fonts: Path, without_raqm) -> None:
    face = face_of(fonts / 'japanese.ttf')
    assert layout.can_stand(face, '日本')
    assert not layout.can_stand(face, '日' + BAR)
    assert not layout.can_stand(face, '日')
    assert not layout.can_stand(face_of(fonts / 'hebrew.ttf'), ALEPH + BET)


def test_vertical_words_have_tall_pictures_and_the_same_label() -> None:
    words = WordSource('ABCDEFGHIJKLMNOPQRSTUVWXYZ')
    drawn = [render_word(0, index, words=words, vertical=1.0) for index in range(40)]
    assert all((image.height > image.width) == (len(label) <= 8) for image, label in drawn if len(label) > 4)
    assert [label for _, label in drawn] == [render_word(0, index, words=words)[1] for index in range(40)]
    share = np.mean([(p := render_word(0, i, words=words, vertical=0.3))[0].height > p[0].width for i in range(100)])
    assert 0.1 < share < 0.5


def test_rendered_sets_refuse_labels_that_would_lose_their_characters(fonts: Path) -> None:
    with pytest.raises(ValueError, match='set normalize_unicode=false'):
        RenderedDataset(LabelRules(GREEK, 25), fonts=fonts)
    dataset = RenderedDataset(LabelRules('αβγδ', 25, normalize_unicode=False), fonts=fonts, warmup=0)
    assert set(''.join(dataset[key][1] for key in range(30))) == set('αβγδ')
    with pytest.raises(ValueError, match='vertical is 2'):
        RenderedDataset(LabelRules('ab', 25), vertical=2)


def test_folding_never_takes_a_letter_off_a_label(fonts: Path, tmp_path: Path) -> None:
    (tmp_path / 'words.txt').write_text('αδς\nΑΔΣ\n', 'utf-8')  # the second one folds to αδς, too
    path = build_font(tmp_path / 'greek.ttf', dict.fromkeys('HαδσςΑΔΣ', SQUARE))
    rules = LabelRules('αδσ', 25, normalize_unicode=False)
    with pytest.raises(ValueError, match='dropped 100 words in a row'):
        RenderedDataset(rules, fonts=path, words=tmp_path / 'words.txt')[0]
    rules = LabelRules('αδσς', 25, normalize_unicode=False)
    dataset = RenderedDataset(rules, fonts=path, words=tmp_path / 'words.txt')
    assert {dataset[key][1] for key in range(10)} == {'αδς'}


def test_lines_of_several_words_where_labels_keep_the_blank() -> None:
    rules = LabelRules(LETTERS + ' ', 25, remove_whitespace=False)
    dataset = RenderedDataset(rules, warmup=0, words_per_line=4)
    labels = [dataset[key][1] for key in range(60)]
    assert {2, 3} <= {len(label.split(' ')) for label in labels} <= {1, 2, 3, 4}
    plain = RenderedDataset(LabelRules(LETTERS + ' ', 25), warmup=0)
    assert not any(' ' in plain.words.draw(Random(key)) for key in range(60))
    with pytest.raises(ValueError, match='remove_whitespace=false'):
        RenderedDataset(LabelRules(LETTERS + ' ', 25), words_per_line=2)


def test_render_takes_the_charset_from_the_words(fonts: Path, tmp_path: Path) -> None:
    (tmp_path / 'words.txt').write_text('αβ γ\nδδα\n', 'utf-8')
    arguments = ['--words', str(tmp_path / 'words.txt'), '--fonts', str(fonts), '--vertical', '0.5', '--jobs', '1']
    cli.main(['--count', '20', '--out', str(tmp_path / 'out'), *arguments])
    note = (tmp_path / 'out' / cli.SETTINGS).read_text()
    assert '"vertical": 0.5' in note
    with pytest.raises(ValueError, match="the fonts of strhub have no 'αβγδ'"):
        cli.main(['--count', '20', '--out', str(tmp_path / 'x'), *arguments[:2]])
    with pytest.raises(ValueError, match='--vertical is -1'):
        cli.main(['--count', '20', '--out', str(tmp_path / 'x'), *arguments[:5], '-1'])


def test_charsets_of_digits_and_letters_stay_in_one_alphabet() -> None:
    assert scripts.scripts_of(DIGITS) == []
    names = [script.name for script in scripts.scripts_of('aбאカ日कि')]
    assert names == ['LATIN', 'CYRILLIC', 'HEBREW', 'CJK', 'DEVANAGARI']
