"""What is written on the rendered pictures: words, names, numbers, prices, codes, in the mixture that signs show."""

from __future__ import annotations

import gzip
import unicodedata
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random

from strhub.data.synth.scripts import Accents, scripts_of, shown

CONSONANTS = 'bbccdddffgghhjkkllllmmmnnnnppqrrrrssssttttvwxyz'
VOWELS = 'aaaeeeeiiooouuy'
DIGITS = '0123456789'
CAPITALS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
LETTERS = CAPITALS + CAPITALS.lower()
SYMBOLS = '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~'
ENDINGS = ('', '', '', 'co', 'ix', 'ia', 'ex', 'on', 'ton', 'ville', 'er', 'son', 'io', 'a', 'o', 's', "'s")
UNITS = ('kg', 'g', 'mg', 'ml', 'l', 'cm', 'mm', 'km', 'm', 'km/h', 'mph', 'oz', 'lb', 'ft', 'GB', 'MB', 'W', 'kW', 'V',
         'Hz', 'C', 'F', '%', 'x', 'pm', 'am', 'th', 'nd', 'rd', 'st', 'min', 'hrs', 'pcs', '+', 'L', 'P')  # fmt: skip
DOMAINS = ('com', 'com', 'com', 'org', 'net', 'co.uk', 'de', 'fr', 'edu', 'gov', 'sg', 'info', 'tv', 'io')
# The lists by size, the largest of which is one group, and how often a word comes from each: what is common in the
# language is common on signs.
GROUPS = ((10, 0.3), (20, 0.25), (35, 0.3), (99, 0.15))
# The lists hold each word once; where people write, short ones are far more frequent: of so many the shortest is taken.
TRIES = 1, 2, 4, 6, 9
MARKS = ('{}.', '{},', '{}!', '{}:', '{}?', '({})', '"{}"', "{}'s")
RARE_MARKS = ('{}...', '-{}', '{}-', '"{}', '{}"', '({}', '{})', '[{}]', '{};', '{}!!', '&{}', '{}*', '<{}>', "'{}'",
              '{}/', '{{{}}}', '{}=', '|{}', '{}&', '+{}')  # fmt: skip
MAX_TRIES = 100
WORDS_PER_LINE = 3  # at most, where a charset has the blank
FOREIGN_SHARES = {True: 0.5, False: 0.85}  # of words in other scripts, beside ASCII letters or without

# Cumulative shares of what a word is, and of the case it is written in: near those of real scene words, where
# upper case leads by far.
KINDS = (('word', 0.80), ('name', 0.86), ('number', 0.93), ('code', 0.95), ('money', 0.96), ('time', 0.97),
         ('measure', 0.98), ('web', 0.985), ('symbols', 1.0))  # fmt: skip
CASES = (('upper', 0.55), ('capital', 0.79), ('lower', 0.975), ('mixed', 1.0))


@cache
def packed_words() -> tuple[tuple[str, ...], ...]:
    """The vendored words in groups, the most common first."""
    text = gzip.decompress(files('strhub.data.synth').joinpath('words.txt.gz').read_bytes()).decode('ascii')
    groups: list[list[str]] = [[] for _ in GROUPS]
    group = groups[0]
    for line in text.splitlines():
        if line.startswith('# '):
            group = next(group for group, (size, _) in zip(groups, GROUPS, strict=True) if int(line[2:]) <= size)
        else:
            group.append(line)
    return tuple(map(tuple, groups))


@cache
def sign_words() -> tuple[str, ...]:
    """What shops, streets and doors say more often than books do."""
    return tuple(files('strhub.data.synth').joinpath('signs.txt').read_text('ascii').split())


def read_words(path: str | Path) -> tuple[str, ...]:
    """The words of a text file in UTF-8, one a line."""
    try:
        lines = Path(path).read_text('utf-8').split('\n')
    except UnicodeDecodeError:
        raise ValueError(f'{path} is not a text file in UTF-8: expected one word a line') from None
    words = tuple(word for line in lines if (word := line.strip()))
    if not words:
        raise ValueError(f'{path} holds no words: expected one a line')
    return words


def characters_of(path: str | Path) -> str:
    """A charset which spells all words of a file."""
    return ''.join(sorted(set(''.join(read_words(path)))))


class WordSource:
    """Draws labels that a charset can spell.

    Args:
        charset: the characters that may occur; all 94 printable ASCII characters by default.
        max_length: of a label.
        path: a file with one word a line, drawn as they are; by default the vendored list and the generators.
        words_per_line: words joined by blanks, at most; by default 3 if the charset has the blank, 1 without or with a
            path, whose lines may have blanks of their own.
    """

    def __init__(
        self,
        charset: str = DIGITS + LETTERS + SYMBOLS,
        *,
        max_length: int = 25,
        path: str | Path | None = None,
        words_per_line: int | None = None,
    ) -> None:
        self._visible = ''.join(charset.split())
        if not self._visible:
            raise ValueError('the charset is empty: give the characters that labels may have')
        if max_length < 1:
            raise ValueError(f'max_length is {max_length}: expected 1 or more')
        self.charset = charset
        self.max_length = max_length
        self._allowed = frozenset(charset)
        self._is_own = path is not None
        groups = packed_words() if path is None else (read_words(path),)
        self._groups = tuple(tuple(filter(self._is_usable, group)) for group in groups)
        # marks cannot stand anywhere
        self._singles = ''.join(c for c in self._visible if unicodedata.category(c)[0] not in 'MC') or self._visible
        self._joins = self._most_words(words_per_line)
        beyond = '' if self._is_own else ''.join(c for c in self._visible if not c.isascii())
        has_latin = not self._allowed.isdisjoint(LETTERS)
        self._accents = Accents(beyond if has_latin else '')
        # There are no lists of other scripts.
        self._scripts = [script for script in scripts_of(beyond) if not (has_latin and script.name == 'LATIN')]
        self._foreign_share = FOREIGN_SHARES[has_latin] if self._scripts else 0.0
        if not self._is_own and self._allowed.isdisjoint(LETTERS + DIGITS):
            self._foreign_share = 1.0
        self._signs = tuple(filter(self._is_usable, sign_words()))
        common = () if self._is_own else (word for group in self._groups[:2] for word in group)
        self._particles = tuple(word for word in common if 2 <= len(word) <= 3 and word.isalpha())  # of, the, new
        if self._is_own and not self._groups[0]:
            raise ValueError(
                f'no word of {path} can be written with the charset {shown(charset)} in at most {max_length} characters'
            )

    def draw(self, rng: Random, *, difficulty: float = 1.0) -> str:
        """One label; at difficulty 0 short plain words and numbers, at 1 everything."""
        longest = min(self.max_length, 4 + round(21 * difficulty))
        label = self._one(rng, difficulty, longest)
        if self._joins > 1:
            for _ in range(rng.randrange(self._joins)):
                longer = f'{label} {self._one(rng, difficulty, longest)}'
                label = longer if len(longer) <= longest else label
        return label

    def _one(self, rng: Random, difficulty: float, longest: int) -> str:
        if self._foreign_share and rng.random() < self._foreign_share:
            return self._foreign(rng, min(8, longest))
        for _ in range(MAX_TRIES):
            label = self._own(rng) if self._is_own else self._make(rng, difficulty)
            if len(label) <= longest and label and label == label.strip() and self.can_spell(label):
                return self._accents.put_on(label, rng) if self._accents else label
        if self._is_own:  # none is so short
            return self._own(rng)
        return self._any(rng, min(8, longest))  # letters too few for words

    def _any(self, rng: Random, longest: int) -> str:
        return ''.join(rng.choices(self._singles, k=rng.randint(1, longest)))

    def _foreign(self, rng: Random, longest: int) -> str:
        """A word of another script, or at times whatever is in the charset, so that all of it occurs."""
        if not self._scripts or rng.random() < 0.05:
            return self._any(rng, longest)
        word = rng.choice(self._scripts).word(rng, longest)
        cased = change_case(word, rng)
        return cased if len(cased) <= longest and self.can_spell(cased) else word

    def _most_words(self, asked: int | None) -> int:
        if asked is None:
            return 1 if self._is_own or ' ' not in self._allowed else WORDS_PER_LINE
        if asked < 1:
            raise ValueError(f'words_per_line is {asked}: expected 1 or more')
        if asked > 1 and ' ' not in self._allowed:
            raise ValueError(
                f'words_per_line is {asked}, but labels cannot have blanks: give a charset with the blank '
                '(charset=95_space) and remove_whitespace=false, or words_per_line 1'
            )
        return asked

    def can_spell(self, label: str) -> bool:
        return self._allowed.issuperset(label)

    def _is_usable(self, word: str) -> bool:
        """Whether it can be spelt in one case or another."""
        return len(word) <= self.max_length and any(map(self.can_spell, forms(word)))

    def _own(self, rng: Random) -> str:
        word = rng.choice(self._groups[0])
        return word if self.can_spell(word) else next(filter(self.can_spell, forms(word)))

    def _make(self, rng: Random, difficulty: float) -> str:
        kind = pick(rng, KINDS)
        if kind == 'number':
            return number(rng)
        if kind not in ('word', 'name'):
            if rng.random() < difficulty:
                return MAKERS[kind](rng)
            kind = 'word'
        label = self._word(rng) if kind == 'word' else name(rng)
        # signs are mostly in capitals, and so is what beginners read
        label = change_case(label, rng) if rng.random() < 0.3 + 3 * difficulty else label.upper()
        return punctuate(label, rng) if rng.random() < 0.07 * difficulty else label

    def _word(self, rng: Random) -> str:
        if self._signs and rng.random() < 0.12:
            return rng.choice(self._signs)
        if self._particles and rng.random() < 0.16:
            return rng.choice(self._particles)
        value = rng.random()
        for words, (_, share) in zip(self._groups, GROUPS, strict=True):
            value -= share
            if value < 0 and words:
                return min((rng.choice(words) for _ in range(rng.choice(TRIES))), key=len)
        return name(rng)


def forms(word: str) -> tuple[str, ...]:
    """The cases in which a word may be written."""
    return word, word.upper(), word.lower(), word.capitalize()


def pick(rng: Random, shares: tuple[tuple[str, float], ...]) -> str:
    value = rng.random()
    return next(name for name, share in shares if value < share)


def change_case(word: str, rng: Random) -> str:
    case = pick(rng, CASES)
    if case == 'upper':
        return word.upper()
    if case == 'lower':
        return word.lower()
    if case == 'capital':
        return word[:1].upper() + word[1:]
    return ''.join(c.upper() if rng.random() < 0.5 else c.lower() for c in word)


def name(rng: Random) -> str:
    """A word that is in no list, as brands and places are: nothing but the letters helps to read it."""
    if rng.random() < 0.15:
        return ''.join(rng.choices(LETTERS, k=rng.choice((1, 1, 2, 2, 3, 3, 3, 4, 5))))
    syllables = [
        rng.choice(CONSONANTS) + rng.choice(VOWELS) + (rng.choice(CONSONANTS) if rng.random() < 0.5 else '')
        for _ in range(rng.choice((1, 2, 2, 3)))
    ]
    return ''.join(syllables) + rng.choice(ENDINGS)


def number(rng: Random) -> str:
    kind = rng.random()
    digits = ''.join(rng.choices(DIGITS, k=rng.choice((1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8, 10))))
    if kind < 0.75:
        return digits
    if kind < 0.82:
        return f'{int(digits):,}'
    if kind < 0.9:
        return f'{digits}.{rng.randrange(100):02d}'
    if kind < 0.95:
        return f'{digits[:3]}-{rng.randrange(10000):04d}'
    return rng.choice(('#{}', 'No.{}', '({})', '+{}', '-{}', '{}%', '{}+', '[{}]', '{}/7', '*{}')).format(digits)


def code(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        letters = ''.join(rng.choices(CAPITALS, k=rng.randint(1, 3)))
        return rng.choice(('{0}{1}', '{0}-{1}', '{1}{0}')).format(letters, rng.randrange(10 ** rng.randint(1, 4)))
    return ''.join(rng.choices(CAPITALS + DIGITS, k=rng.randint(2, 8)))


def money(rng: Random) -> str:
    amount = rng.choice((f'{rng.randrange(1000)}', f'{rng.randrange(100)}.{rng.choice((0, 50, 95, 99, 49)):02d}',
                         f'{rng.randrange(1, 100)},{rng.randrange(1000):03d}'))  # fmt: skip
    return rng.choice(('${}', '${}', '${}', '{}$', 'S${}', '{}USD', '{}-', '{}c', 'RM{}', '{}%')).format(amount)


def time(rng: Random) -> str:
    hour, minute, day, month = rng.randrange(24), rng.randrange(60), rng.randint(1, 31), rng.randint(1, 12)
    year = rng.randint(1900, 2030)
    form = rng.choice((
        '{0}:{1:02d}', '{0:02d}:{1:02d}', '{5}:{1:02d}am', '{5}:{1:02d}pm', '{5}AM', '{5}PM', '{5}pm', '{0}-{2}',
        '{2}/{3}/{4}', '{2:02d}.{3:02d}.{4}', '{4}-{3:02d}-{2:02d}', '{4}', "'{6:02d}",
    ))  # fmt: skip
    return form.format(hour, minute, day, month, year, hour % 12 + 1, year % 100)


def measure(rng: Random) -> str:
    value = str(rng.randrange(10 ** rng.randint(1, 3))) + (f'.{rng.randrange(10)}' if rng.random() < 0.2 else '')
    return value + rng.choice(UNITS)


def web(rng: Random) -> str:
    site = name(rng).lower().replace("'", '')
    kind = rng.random()
    if kind < 0.3:
        return f'{rng.choice(("www.", ""))}{site}.{rng.choice(DOMAINS)}'
    if kind < 0.45:
        return f'{name(rng).lower()}@{site}.{rng.choice(DOMAINS)}'
    if kind < 0.6:
        return rng.choice('@#') + site
    if kind < 0.7:
        suffix = rng.randrange(100)
        return rng.choice(('www', 'http://', 'https://', '.com', f'/{site}', f'~{site}', f'{site}_{suffix}'))
    return f'{rng.choice(("", "", "+"))}{rng.randrange(1, 1000)}-{rng.randrange(1000)}-{rng.randrange(10000):04d}'


def symbols(rng: Random) -> str:
    """Characters in any order: the rare ones occur here, and no language helps."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(SYMBOLS + '&&&') if rng.random() < 0.5 else rng.choice(LETTERS + DIGITS)
    return ''.join(rng.choices(LETTERS + DIGITS + SYMBOLS, k=rng.randint(2, 6)))


def punctuate(word: str, rng: Random) -> str:
    return rng.choice(MARKS if rng.random() < 0.7 else RARE_MARKS).format(word)


MAKERS = {
    'code': code,
    'money': money,
    'time': time,
    'measure': measure,
    'web': web,
    'symbols': symbols,
}
