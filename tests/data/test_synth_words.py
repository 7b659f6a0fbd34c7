"""What is written on rendered pictures."""

from collections import Counter
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import mean

import pytest

from strhub.data.synth.words import (
    DIGITS,
    LETTERS,
    SYMBOLS,
    WordSource,
    characters_of,
    packed_words,
    sign_words,
)

ALL = DIGITS + LETTERS + SYMBOLS


def draw(source: WordSource, count: int, *, difficulty: float = 1.0, seed: int = 0) -> list[str]:
    rng = Random(seed)
    return [source.draw(rng, difficulty=difficulty) for _ in range(count)]


@pytest.fixture(scope='module')
def labels() -> list[str]:
    return draw(WordSource(), 20_000)


def test_every_printable_character_occurs(labels: list[str]) -> None:
    assert len(ALL) == 94
    assert not set(ALL) - set(''.join(labels))


def test_labels_resemble_those_of_signs(labels: list[str]) -> None:
    assert 5 < mean(map(len, labels)) < 6.5
    cases = Counter(
        'upper' if label.isupper() else 'lower' if label.islower() else 'other' for label in labels if label.isalpha()
    )
    assert cases['upper'] > 2 * cases['lower'] > 0
    assert len(set(labels)) > 10_000


def test_no_word_is_among_those_that_nobody_wants_to_read() -> None:
    unwanted = set((Path(__file__).parents[2] / 'scripts/unwanted_words.txt').read_text('ascii').split())
    words = {word.lower() for group in (*packed_words(), sign_words()) for word in group}
    assert unwanted.isdisjoint(sha256(word.encode()).hexdigest()[:8] for word in words)


def test_beginners_get_short_plain_labels() -> None:
    easy = draw(WordSource(), 2000, difficulty=0)
    assert max(map(len, easy)) <= 4
    assert mean(label.isalnum() for label in easy) > 0.95


@pytest.mark.parametrize(
    'charset',
    [DIGITS, DIGITS + LETTERS[26:], 'abc', '!?', 'αβγδ', 'x'],
    ids=['digits', 'lower', 'abc', 'marks', 'greek', 'x'],
)
@pytest.mark.parametrize('max_length', [1, 3, 25])
def test_labels_obey_charset_and_length(charset: str, max_length: int) -> None:
    for label in draw(WordSource(charset, max_length=max_length), 200):
        assert 1 <= len(label) <= max_length
        assert set(label) <= set(charset)


def test_own_words_are_drawn_as_they_are(tmp_path) -> None:
    path = tmp_path / 'plates.txt'
    path.write_text('B-AB 1234\nÄÖÜ-7\n\nfar too long for the limit that is set\n', 'utf-8')
    source = WordSource(ALL + 'ÄÖÜ ', max_length=10, path=path)
    assert set(draw(source, 50)) == {'B-AB 1234', 'ÄÖÜ-7'}
    assert set(draw(WordSource(LETTERS[:26] + 'ÄÖÜ-7', path=path), 20)) == {'ÄÖÜ-7'}


@pytest.mark.parametrize(
    ('content', 'message'),
    [(b'', 'holds no words'), (b'\xff\xfe\x00', 'not a text file in UTF-8'), ('мир'.encode(), 'can be written')],
)
def test_useless_word_files_are_refused(tmp_path, content: bytes, message: str) -> None:
    path = tmp_path / 'words.txt'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        WordSource(path=path)


@pytest.mark.parametrize('arguments', [{'charset': ''}, {'max_length': 0}])
def test_senseless_limits_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match=r'expected|give'):
        WordSource(**arguments)


def test_labels_neither_begin_nor_end_with_spaces(tmp_path) -> None:
    for charset in (ALL + ' ', 'αβγ ', 'ab \t'):
        assert all(label == label.strip() != '' for label in draw(WordSource(charset), 300))
    with pytest.raises(ValueError, match='charset is empty'):
        WordSource(' ')


@pytest.mark.parametrize('charset', [LETTERS + 'äöüßéøαβγабв', DIGITS + 'αβγ', 'कखगिा', 'אבג日本.'])
def test_all_of_a_charset_beyond_ascii_occurs(charset: str) -> None:
    labels = draw(WordSource(charset), 800)
    assert set(''.join(labels)) == set(charset)
    assert not any(label[0] in 'िा' for label in labels)  # marks follow a letter


def test_words_of_other_scripts_do_not_mix_them() -> None:
    words = [label for label in draw(WordSource('αβγабвאבג'), 300) if len(label) > 1]
    mixed = [word for word in words if sum(not set(word).isdisjoint(part) for part in ('αβγ', 'абв', 'אבג')) > 1]
    assert len(mixed) < len(words) / 10


def test_lines_have_several_words_where_the_charset_has_the_blank(tmp_path) -> None:
    labels = draw(WordSource(ALL + ' '), 300)
    assert Counter(label.count(' ') for label in labels).keys() == {0, 1, 2}
    assert max(map(len, labels)) <= 25
    assert all('  ' not in label for label in labels)
    (tmp_path / 'words.txt').write_text('one two\nthree\n')
    assert set(draw(WordSource(ALL + ' ', path=tmp_path / 'words.txt'), 50)) == {'one two', 'three'}
    joined = draw(WordSource(ALL + ' ', path=tmp_path / 'words.txt', words_per_line=2), 50)
    assert 'three one two' in joined
    with pytest.raises(ValueError, match='labels cannot have blanks'):
        WordSource(ALL, words_per_line=2)
    with pytest.raises(ValueError, match='words_per_line is 0'):
        WordSource(ALL, words_per_line=0)


def test_a_charset_for_the_words_of_a_file(tmp_path) -> None:
    (tmp_path / 'words.txt').write_text('ba ab\nγάμα\n', 'utf-8')
    assert characters_of(tmp_path / 'words.txt') == ' abάαγμ'
