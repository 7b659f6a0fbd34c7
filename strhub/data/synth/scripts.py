"""What the writing systems of the world ask of a renderer: shaping, more pixels, columns, letters that go together."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from random import Random
from typing import NamedTuple

from PIL import features

# Joined or stacked although neither right-to-left nor marks: Mongolian, 'Phags-pa, parts of Hangul syllables.
JOINED = ((0x1100, 0x11FF), (0x1800, 0x18AF), (0xA840, 0xA87F), (0xA960, 0xA97F), (0xD7B0, 0xD7FF))
# Written in columns as well as lines, each sign in a square of its own: from CJK radicals to Hangul, full-width forms,
# and the planes of rare ideographs.
SQUARE = ((0x2E80, 0xA4CF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF), (0x1B000, 0x3FFFF))
# Signs among them that have another form in columns.
TURNED = frozenset('ー～〜―—…‥（）「」『』【】〈〉《》〔〕［］｛｝：；＝－')
DENSE = 1.5  # how many times the pixels of a Latin letter such signs need to be told apart
CJK_NAMES = {'CJK', 'HIRAGANA', 'KATAKANA', 'KATAKANA-HIRAGANA'}  # by which characters of one script are called
MARK_SHARE = 0.3  # of the letters in random words, where the script has marks

NO_RAQM = (
    'the characters {} of the charset have to be shaped (joined, reordered or set from right to left), for which '
    'Pillow needs raqm and FriBiDi, and this Pillow lacks them: install the wheel of Pillow from PyPI '
    '(pip install --force-reinstall pillow) and FriBiDi (apt install libfribidi0, brew install fribidi), or take these '
    'characters out of the charset'
)


@lru_cache(maxsize=1 << 16)
def is_shaped(character: str) -> bool:
    """Whether its form or place depends on its neighbours, so that words cannot be put together from single glyphs."""
    return (
        unicodedata.bidirectional(character) in ('R', 'AL')
        or unicodedata.category(character) in ('Mn', 'Mc', 'Me', 'Cf')
        or _is_in(JOINED, character)
    )


def is_silent(character: str) -> bool:
    """Whether it tells how its neighbours are written (joiners, directions) and is not drawn itself."""
    return unicodedata.category(character) == 'Cf'


def needs_shaping(text: str) -> bool:
    return not text.isascii() and any(map(is_shaped, text))


@lru_cache(maxsize=1 << 16)
def is_square(character: str) -> bool:
    return _is_in(SQUARE, character)


def density(text: str) -> float:
    """How many times the pixels of Latin letters the text needs to be read."""
    return 1.0 if text.isascii() or not (needs_shaping(text) or any(map(is_square, text))) else DENSE


@cache
def has_raqm() -> bool:
    return bool(features.check('raqm'))


def shown(characters: str, most: int = 20) -> str:
    """Characters in a message, which a charset has thousands of: the first of them, and how many more there are."""
    return f'{characters[:most]!r}' + (f' and {len(characters) - most} more' if len(characters) > most else '')


def demand_raqm(text: str) -> None:
    """Raises ValueError where the text needs shaping and Pillow cannot do it."""
    if needs_shaping(text) and not has_raqm():
        raise ValueError(NO_RAQM.format(shown(''.join(filter(is_shaped, text)))))


class Script(NamedTuple):
    """The letters of a charset that belong together, and the marks which they carry."""

    name: str  # as Unicode calls it: GREEK, ARABIC, CJK
    letters: str
    marks: str

    def word(self, rng: Random, longest: int) -> str:
        """Letters in any order; marks, which cannot stand alone, after a letter."""
        length = rng.randint(1, longest)
        word = ''
        while len(word) < length:
            word += rng.choice(self.letters)
            if self.marks and len(word) < length and rng.random() < MARK_SHARE:
                word += rng.choice(self.marks)
        return word


def scripts_of(characters: str) -> list[Script]:
    """The scripts that have letters among the characters, in the order in which they come."""
    letters: dict[str, list[str]] = {}
    marks: dict[str, list[str]] = {}
    for character in characters:
        name = unicodedata.name(character, '').partition(' ')[0]
        name = 'CJK' if name in CJK_NAMES else name
        kind = unicodedata.category(character)[0]
        if kind in 'LM':
            (letters if kind == 'L' else marks).setdefault(name, []).append(character)
    return [Script(name, ''.join(found), ''.join(marks.get(name, ()))) for name, found in letters.items()]


class Accents:
    """The Latin letters of a charset beyond ASCII, put into words that have none."""

    def __init__(self, characters: str) -> None:
        self._of: dict[str, list[str]] = {}  # e -> é è ê
        self._others: list[str] = []  # that are no letter with a mark: ß ø æ
        for character in characters:
            if unicodedata.name(character, '').startswith('LATIN'):
                plain = unicodedata.normalize('NFD', character)[0]
                if plain.isascii():
                    self._of.setdefault(plain, []).append(character)
                else:
                    self._others.append(character)

    def __bool__(self) -> bool:
        return bool(self._of or self._others)

    def put_on(self, word: str, rng: Random) -> str:
        """One letter or two, in half of the words."""
        for _ in range(rng.choice((0, 0, 1, 2))):
            at = rng.randrange(len(word))
            places = [i for i, c in enumerate(word) if c in self._of]
            if places and not (self._others and rng.random() < 0.2):
                at = rng.choice(places)
                word = word[:at] + rng.choice(self._of[word[at]]) + word[at + 1 :]
            elif word[at].isalpha() and self._others:
                word = word[:at] + rng.choice(self._others) + word[at + 1 :]
        return word


def _is_in(ranges: tuple[tuple[int, int], ...], character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in ranges)
